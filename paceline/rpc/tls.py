"""TLS on every link, from files that may change while they are in use (RFC 8446, RFC 5280).

A server reads its files anew at a handshake after they have changed; what it dials with is made
anew when its files change. Connections that stand are not touched.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from paceline.errors import InvalidArgument, in_a_line
from paceline.rpc.watched_files import WatchedFiles

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate with its chain, and the key that it is for, each a file in PEM."""

    certificate: Path
    key: Path

    def read(self) -> tuple[bytes, bytes]:
        """Key and chain, as gRPC takes them; InvalidArgument where they cannot be used now."""
        chain, key = _read(self.certificate), _read(self.key)
        first = _certificates(self.certificate, chain)[0]
        if _public_key(self.key, key) != _public(first.public_key()):
            raise InvalidArgument(f"{self.key} is not the key of {self.certificate}")
        until = first.not_valid_after_utc
        if until <= dt.datetime.now(dt.UTC):
            raise InvalidArgument(f"{self.certificate} has expired, at {until:%Y-%m-%d %H:%M} UTC")
        return key, chain

    @property
    def expires(self) -> float:
        """When the certificate ends to be valid, in seconds since 1970."""
        chain = _certificates(self.certificate, _read(self.certificate))
        return chain[0].not_valid_after_utc.timestamp()


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What a server shows. client_ca: whose certificates its callers have to show; None: none."""

    identity: Identity
    client_ca: Path | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """For a port; InvalidArgument where the files cannot be used."""
        # What is asked at a handshake may answer with None, which the stubs of grpc do not know.
        changed = cast("Callable[[], grpc.ServerCertificateConfiguration]", _Reload(self))
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(), changed, self.client_ca is not None
        )

    @property
    def files(self) -> tuple[Path, ...]:
        """All that is read."""
        authorities = (self.client_ca,) if self.client_ca else ()
        return (self.identity.certificate, self.identity.key, *authorities)

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        roots = read_authorities(self.client_ca) if self.client_ca else None
        return grpc.ssl_server_certificate_configuration([self.identity.read()], roots)


def listen(server: grpc.aio.Server, address: str, tls: ServerTls | None) -> int:
    """Have a server listen, over TLS where there is any; returns its port. RuntimeError: taken.

    A unix socket has none: the rights of its file guard it.
    """
    if tls is None or address.startswith("unix:"):
        return server.add_insecure_port(address)
    return server.add_secure_port(address, tls.credentials())


class _Reload:
    """What gRPC asks at every handshake, on a thread of its own: files that have changed."""

    def __init__(self, tls: ServerTls) -> None:
        self._tls = tls
        self._files = WatchedFiles(tls.files)

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        """The new configuration; None where the one in use stays."""
        return self._read() if self._files.changed() else None

    def _read(self) -> grpc.ServerCertificateConfiguration | None:
        """Half-written files leave the old ones in use; they change again when they are whole."""
        try:
            read = self._tls._configuration()
        except InvalidArgument as error:
            _log.error("certificate not taken", reason=str(error))
            return None
        _log.info("certificate taken", path=str(self._tls.identity.certificate))
        return read


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How servers are dialed. server_ca: who signs theirs. identity: what is shown to them."""

    server_ca: Path
    identity: Identity | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """For a channel; InvalidArgument where the files cannot be used."""
        key, chain = self.identity.read() if self.identity else (None, None)
        return grpc.ssl_channel_credentials(read_authorities(self.server_ca), key, chain)

    @property
    def files(self) -> tuple[Path, ...]:
        """All that is read."""
        own = (self.identity.certificate, self.identity.key) if self.identity else ()
        return (self.server_ca, *own)


def read_authorities(path: Path) -> bytes:
    """Certificates in PEM that sign others'; InvalidArgument where there are none."""
    text = _read(path)
    _certificates(path, text)
    return text


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}") from None


def _certificates(path: Path, text: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text)
    except ValueError as error:
        raise InvalidArgument(f"{path} has no certificate in PEM: {in_a_line(error)}") from None


def _public_key(path: Path, text: bytes) -> bytes:
    try:
        return _public(serialization.load_pem_private_key(text, None).public_key())
    except (ValueError, TypeError) as error:  # TypeError: it has a password
        raise InvalidArgument(f"{path} has no usable key in PEM: {in_a_line(error)}") from None


def _public(key: object) -> bytes:
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    written: bytes = key.public_bytes(encoding, form)  # type: ignore[attr-defined]
    return written
