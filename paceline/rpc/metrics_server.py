"""Prometheus' metrics over HTTP, or HTTPS where calls are taken over TLS."""

import socket
import ssl
from typing import cast

from prometheus_client import CollectorRegistry, start_http_server

from paceline.addresses import ANY_IPV4, join, without_brackets
from paceline.errors import Unavailable
from paceline.rpc.tls import ServerTls


class MetricsServer:
    """Serves on a thread of its own."""

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, tls: ServerTls | None
    ) -> None:
        """Listen; raises Unavailable when the port is taken. No TLS: plain HTTP."""
        bare = without_brackets(host)
        if bare == ANY_IPV4 and socket.has_dualstack_ipv6():
            bare = "::"  # both families, as gRPC takes 0.0.0.0
        identity = tls.identity if tls else None
        shown = (str(identity.certificate), str(identity.key)) if identity else (None, None)
        try:
            self._server = start_http_server(port, bare, registry, *shown)[0]
        except OSError as error:
            address = join(host, port)
            raise Unavailable(f"cannot listen on {address} for metrics: {error}") from error
        if tls is not None:
            _show(cast("ssl.SSLSocket", self._server.socket), tls)

    def stop(self) -> None:
        """Free the port."""
        self._server.shutdown()
        self._server.server_close()


def _show(listening: ssl.SSLSocket, tls: ServerTls) -> None:
    """Have it show at each handshake what calls are shown: OpenSSL asks whether a name came or not.

    The context that it listens with stays: loading a chain whose key does not fit spoils it.
    """

    def choose(handshake: ssl.SSLSocket | ssl.SSLObject, *_: object) -> None:
        handshake.context = tls.files.look().https

    listening.context.sni_callback = choose
