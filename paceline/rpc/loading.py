"""A server while its model loads: every call is told how far that is, and to come again."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from paceline.protocol.status import LOADING
from paceline.rpc.options import server_options
from paceline.rpc.tls import ServerTls, listen

Progress = Callable[[], str]
"""How far loading is, in words."""


@contextlib.asynccontextmanager
async def saying_so(
    address: str, progress: Progress | None, tls: ServerTls | None = None
) -> AsyncIterator[None]:
    """Answer at the address while the context lasts; where nobody knows how far it is, do not.

    tls: as for the calls that will be served there; None: in plaintext.

    That it cannot be listened on there is found, and said, by what serves calls afterwards.
    """
    if progress is None or address.endswith(":0"):
        yield
        return
    server = grpc.aio.server(options=server_options(public=False))
    server.add_generic_rpc_handlers((_Loading(progress),))
    with contextlib.suppress(RuntimeError):
        listen(server, address, tls)
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)


class _Loading(grpc.GenericRpcHandler):
    """Takes every call of whatever service, unary or not."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def service(self, handler_call_details: Any) -> Any:
        """A handler that refuses."""
        return grpc.stream_stream_rpc_method_handler(self._refuse)

    async def _refuse(self, requests: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.UNAVAILABLE, f"{LOADING}{self._progress()}")
