"""A model's tokenizer, fetched from its server within bounds."""

import asyncio
from typing import Any

import grpc

from paceline.errors import Internal, NotFound, Unavailable
from paceline.protocol.model import TokenizerFiles
from paceline.rpc.status_codes import from_rpc_error
from paceline.v1 import model_pb2, model_pb2_grpc

FETCH_SECONDS = 30.0
"""Deadline for fetching a tokenizer."""
PIECE_SECONDS = 5.0
"""A server that sends nothing for so long hangs: the next one is asked."""
MAX_BYTES = 256 * 1024 * 1024
"""Of a tokenizer.json; the largest in use have some 30 MB."""


async def fetch_files(channel: grpc.aio.Channel) -> TokenizerFiles:
    """The tokenizer as it is; raises NotFound where the model has none."""
    stub = model_pb2_grpc.ModelServiceStub(channel)
    call = stub.GetTokenizer(model_pb2.GetTokenizerRequest(), timeout=FETCH_SECONDS)
    pieces: list[model_pb2.GetTokenizerResponse] = []
    size = 0
    try:
        while (piece := await _read(call)) is not None:
            pieces.append(piece)
            size += piece.ByteSize()
            if size > MAX_BYTES:
                raise Internal(f"a tokenizer of more than {MAX_BYTES} bytes is not read")
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    finally:
        call.cancel()
    if not pieces:
        raise NotFound("the tokenizer is empty")
    return _files(pieces)


async def _read(call: Any) -> model_pb2.GetTokenizerResponse | None:
    try:
        async with asyncio.timeout(PIECE_SECONDS):
            piece = await call.read()
    except TimeoutError:
        raise Unavailable(f"the server sends no tokenizer for {PIECE_SECONDS:g} s") from None
    return None if piece is grpc.aio.EOF else piece


def _files(pieces: list[model_pb2.GetTokenizerResponse]) -> TokenizerFiles:
    return TokenizerFiles(
        tokenizer_json=b"".join(piece.tokenizer_json for piece in pieces),
        chat_template=pieces[0].chat_template,
        special_tokens=dict(pieces[0].special_tokens),
        named_templates=dict(pieces[0].named_templates),
    )
