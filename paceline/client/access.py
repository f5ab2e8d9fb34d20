"""What a client shows to an orchestrator, and whom it trusts to be one."""

import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from paceline.errors import InvalidArgument
from paceline.rpc.caller import HEADER

File = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Access:
    """roots: certificates in PEM that sign servers'; None: the system's. token: empty for none.

    identity: key and certificate in PEM, for mutual TLS.
    """

    roots: bytes | None = None
    identity: tuple[bytes, bytes] | None = None
    token: str = field(default="", repr=False)

    def credentials(self) -> grpc.ChannelCredentials:
        """For a channel over TLS."""
        key, chain = self.identity or (None, None)
        return grpc.ssl_channel_credentials(self.roots or system_roots(), key, chain)

    def wrap(self, channel: grpc.aio.Channel) -> Any:
        """The channel as stubs take it, whose calls carry the token."""
        return _Showing(channel, self.token) if self.token else channel


class _Showing:
    """A channel whose calls carry a token. gRPC's own call credentials need TLS everywhere."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._channel = channel
        self._shown = ((HEADER, f"Bearer {token}"),)

    def unary_unary(self, *method: Any, **how: Any) -> Any:
        return self._with_token(self._channel.unary_unary(*method, **how))

    def unary_stream(self, *method: Any, **how: Any) -> Any:
        return self._with_token(self._channel.unary_stream(*method, **how))

    def _with_token(self, call: Any) -> Any:
        def calling(request: Any, *, metadata: Sequence[tuple[str, str]] = (), **how: Any) -> Any:
            return call(request, metadata=(*metadata, *self._shown), **how)

        return calling


def access(
    ca: File | None, certificate: File | None, key: File | None, token: str | None
) -> Access:
    """As a caller gives it; InvalidArgument names what cannot be used."""
    if (certificate is None) != (key is None):
        raise InvalidArgument("certificate and key are given both or not at all")
    roots = None if ca is None else _read("ca", ca, "CERTIFICATE", "certificates")
    identity = None
    if certificate is not None and key is not None:
        chain = _read("certificate", certificate, "CERTIFICATE", "a certificate")
        identity = (_read("key", key, "PRIVATE KEY", "a private key"), chain)
    return Access(roots, identity, _checked_token(token))


def _checked_token(token: str | None) -> str:
    """It is never quoted."""
    if not token:
        return ""
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise InvalidArgument("token is not printable ASCII, which it must be")
    return token


def _read(field: str, path: File, begins: str, what: str) -> bytes:
    """A PEM file; InvalidArgument names `field` where it is none."""
    limit = f"a file with {what} in PEM"
    shown = str(path) if isinstance(path, os.PathLike) else path
    try:
        found = Path(path).read_bytes()
    except (OSError, TypeError, ValueError):
        raise InvalidArgument.of(field, shown, limit) from None
    if f"{begins}-----".encode() not in found or b"-----BEGIN " not in found:
        raise InvalidArgument.of(field, shown, limit)
    return found


def system_roots() -> bytes | None:
    """What the system trusts, SSL_CERT_FILE heeded; None, for gRPC's own, where it has none.

    Left alone gRPC for Python looks at nothing but the list that it was built with.
    """
    found = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(map(ssl.DER_cert_to_PEM_cert, found)).encode() or None
