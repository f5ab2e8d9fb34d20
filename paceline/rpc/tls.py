"""TLS on every link, from files that may change while they are in use (RFC 8446, RFC 5280).

One reader has the files of a server, for its calls and its metrics: it looks at them each second
and at each handshake. What it dials with is made anew when its files change. New files that cannot
be used leave the ones before in use. Connections that stand are not touched.
"""

import datetime as dt
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from paceline.errors import InvalidArgument, in_a_line
from paceline.rpc.watched_files import Read, Reloaded, version

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
class _Shown:
    """What a server shows, as it was read at one time, to callers and to who scrapes metrics.

    roots: whose certificates callers have to show. expires: in seconds since 1970.
    """

    key: bytes
    chain: bytes
    roots: bytes | None
    https: ssl.SSLContext
    expires: float

    def for_grpc(self) -> grpc.ServerCertificateConfiguration:
        """As a port of gRPC takes it."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)], self.roots)


class ServerTls:
    """What a server shows. client_ca: whose certificates its callers have to show; None: none."""

    def __init__(self, identity: Identity, client_ca: Path | None = None) -> None:
        """Read the files; InvalidArgument where they cannot be used."""
        self.identity, self._client_ca = identity, client_ca
        paths = (identity.certificate, identity.key, *((client_ca,) if client_ca else ()))
        self.files = _reloaded("certificate", paths, self._read)

    def credentials(self) -> grpc.ServerCredentials:
        """For a port, which shows new files at the next handshake."""
        shown = self.files.look()
        # What is asked at a handshake may answer with None, which the stubs of grpc do not know.
        changed = cast(
            "Callable[[], grpc.ServerCertificateConfiguration]", _Handshake(self.files, shown)
        )
        return grpc.dynamic_ssl_server_credentials(
            shown.for_grpc(), changed, self._client_ca is not None
        )

    def _read(self) -> _Shown:
        """Context and bytes are read one behind the other: of one version, or not taken."""
        paths = (self.identity.certificate, self.identity.key)
        before = version(paths)
        key, chain = self.identity.read()
        roots = read_authorities(self._client_ca) if self._client_ca else None
        context = _context(self.identity)
        if version(paths) != before:
            raise InvalidArgument(f"{paths[0]} changed while it was read")
        return _Shown(key, chain, roots, context, self.identity.expires)


def _context(identity: Identity) -> ssl.SSLContext:
    """For HTTPS. A new one each time: where a key does not fit, OpenSSL has the chain already."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(identity.certificate, identity.key)
    except OSError as error:  # ssl.SSLError too
        raise InvalidArgument(
            f"{identity.certificate} cannot be used: {in_a_line(error)}"
        ) from None
    return context


def listen(server: grpc.aio.Server, address: str, tls: ServerTls | None) -> int:
    """Have a server listen, over TLS where there is any; returns its port. RuntimeError: taken.

    A unix socket has none: the rights of its file guard it.
    """
    if tls is None or address.startswith("unix:"):
        return server.add_insecure_port(address)
    return server.add_secure_port(address, tls.credentials())


class _Handshake:
    """What gRPC asks at every handshake, on a thread of its own: files that have changed."""

    def __init__(self, files: Reloaded[_Shown], given: _Shown) -> None:
        self._files = files
        self._given = given

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        """The new configuration; None where the one in use stays."""
        before, self._given = self._given, self._files.look()
        return None if self._given is before else self._given.for_grpc()


class ClientTls:
    """How servers are dialed. server_ca: who signs theirs. identity: what is shown to them."""

    def __init__(self, server_ca: Path, identity: Identity | None = None) -> None:
        """Read the files; InvalidArgument where they cannot be used."""
        self._server_ca, self._identity = server_ca, identity
        own = (identity.certificate, identity.key) if identity else ()
        self.files = _reloaded("dialing", (server_ca, *own), self._read)

    def credentials(self) -> grpc.ChannelCredentials:
        """For a channel."""
        return self.files.current

    def _read(self) -> grpc.ChannelCredentials:
        key, chain = self._identity.read() if self._identity else (None, None)
        return grpc.ssl_channel_credentials(read_authorities(self._server_ca), key, chain)


def _reloaded(name: str, paths: Sequence[Path], read: Callable[[], Read]) -> Reloaded[Read]:
    """Files of TLS. name: what they are for."""

    def taken() -> None:
        _log.info("certificate taken", files=name, path=str(paths[0]))

    def refused(reason: str) -> None:
        _log.error("certificate not taken", files=name, reason=reason)

    return Reloaded(name, paths, read, taken=taken, refused=refused)


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
