"""Prometheus' metrics over HTTP, or HTTPS where calls are taken over TLS."""

import asyncio
import socket
import ssl
from typing import cast

import structlog
from prometheus_client import CollectorRegistry, start_http_server

from paceline.addresses import ANY_IPV4, join, without_brackets
from paceline.errors import Unavailable, in_a_line
from paceline.rpc.tls import Identity
from paceline.rpc.watched_files import WatchedFiles

_log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
"""Whether the certificate's files have changed is looked at this often."""


class MetricsServer:
    """Serves on a thread of its own."""

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, identity: Identity | None
    ) -> None:
        """Listen; raises Unavailable when the port is taken. No identity: plain HTTP."""
        bare = without_brackets(host)
        if bare == ANY_IPV4 and socket.has_dualstack_ipv6():
            bare = "::"  # both families, as gRPC takes 0.0.0.0
        shown = (str(identity.certificate), str(identity.key)) if identity else (None, None)
        self._identity = identity
        try:
            self._server = start_http_server(port, bare, registry, *shown)[0]
        except OSError as error:
            address = join(host, port)
            raise Unavailable(f"cannot listen on {address} for metrics: {error}") from error

    async def keep_renewed(self) -> None:
        """Show a new certificate once its files have changed, until cancelled."""
        if self._identity is None:
            return
        files = WatchedFiles((self._identity.certificate, self._identity.key))
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if files.changed():
                self._renew(self._identity)

    def _renew(self, identity: Identity) -> None:
        listening = cast("ssl.SSLSocket", self._server.socket)  # as it has an identity
        try:
            listening.context.load_cert_chain(identity.certificate, identity.key)
        except OSError as error:  # ssl.SSLError too
            _log.error("certificate not taken", reason=in_a_line(error))

    def stop(self) -> None:
        """Free the port."""
        self._server.shutdown()
        self._server.server_close()
