"""The wire as it was last released: its messages, and servers that know no more than it.

protos/released.binpb has it; nothing here knows today's protos.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

RELEASED = Path(__file__).parents[1] / "protos" / "released.binpb"
HEALTH = "/grpc.health.v1."
Edit = Callable[[Message], None]


def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(RELEASED.read_bytes()).file:
        pool.Add(file)
    return pool


POOL = _pool()


def message(name: str) -> type[Any]:
    """A message of the release, by its name in paceline.v1."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"paceline.v1.{name}"))


def method_of(path: str) -> MethodDescriptor | None:
    """The method of the release at /paceline.v1.Service/Method, if it had it."""
    try:
        return POOL.FindMethodByName(path.strip("/").replace("/", "."))
    except KeyError:
        return None


def _as_released(kind: Any, edit: Edit) -> Callable[[bytes], bytes]:
    """What is left of a message for one who knows the release alone."""

    def known(data: bytes) -> bytes:
        found = message_factory.GetMessageClass(kind).FromString(data)
        found.DiscardUnknownFields()
        edit(found)
        return found.SerializeToString()

    return known


class _Old(grpc.GenericRpcHandler):
    """Hands calls on to a server of today: only methods and fields of the release pass."""

    def __init__(self, channel: grpc.aio.Channel, edit: Edit) -> None:
        self.refused: list[str] = []
        self._channel, self._edit = channel, edit

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        path = details.method
        method = method_of(path)
        if method is None and not path.startswith(HEALTH):
            self.refused.append(path)
            return None
        asked = answered = bytes
        if method is not None:
            asked = _as_released(method.input_type, lambda found: None)  # type: ignore[assignment]
            answered = _as_released(method.output_type, self._edit)  # type: ignore[assignment]
        return grpc.stream_stream_rpc_method_handler(self._handing_on(path, asked, answered))

    def _handing_on(self, path: str, asked: Any, answered: Any) -> Any:
        async def hand_on(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async def known() -> AsyncIterator[bytes]:
                async for request in requests:
                    yield asked(request)

            metadata = context.invocation_metadata()
            passed = [(key, value) for key, value in metadata if key.startswith("x-")]
            stub: Any = self._channel.stream_stream(path)
            call = stub(known(), timeout=context.time_remaining(), metadata=passed)
            try:
                async for response in call:
                    yield answered(response)
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details(), error.trailing_metadata())
            finally:
                call.cancel()

        return hand_on


@asynccontextmanager
async def old(
    address: str, edit: Edit = lambda found: None
) -> AsyncIterator[tuple[str, list[str]]]:
    """The address of a server of the release, which has the one at `address` do its work.

    edit: changes each answer. Beside it, the methods that it was asked for and did not know.
    """
    server = grpc.aio.server()
    async with grpc.aio.insecure_channel(address) as channel:
        handler = _Old(channel, edit)
        server.add_generic_rpc_handlers((handler,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}", handler.refused
        finally:
            await server.stop(0)
