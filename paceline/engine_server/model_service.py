"""ModelService, which draft and target servers both serve."""

import dataclasses
import uuid
from collections.abc import AsyncIterator, Callable

import grpc

from paceline.errors import NotFound
from paceline.machine import describe_machine
from paceline.protocol.model import ModelInfo, TokenizerFiles
from paceline.protocol.session import Load
from paceline.rpc.codec.model import machine_to_proto, model_info_to_proto
from paceline.rpc.codec.session import load_to_proto
from paceline.v1 import model_pb2, model_pb2_grpc

_PIECE = 64 * 1024


class ModelService(model_pb2_grpc.ModelServiceServicer):
    """Says what the model is, and sends its tokenizer."""

    def __init__(
        self,
        model: ModelInfo,
        tokenizer: TokenizerFiles | None,
        load: Callable[[], Load],
        draining: Callable[[], bool],
        threads: int,
    ) -> None:
        """`load` and `draining` are asked at every call. threads: of the forward pass."""
        self._model = model_info_to_proto(model)
        self._model.tokenizer_hash = tokenizer.digest if tokenizer else ""
        self._tokenizer = tokenizer
        self._load = load
        self._draining = draining
        self._threads = threads
        self._process = uuid.uuid4().hex  # of the server: a test has several in one process

    async def GetModelInfo(
        self,
        request: model_pb2.GetModelInfoRequest,
        context: grpc.aio.ServicerContext[object, object],
    ) -> model_pb2.GetModelInfoResponse:
        """The model, the load and whether the server is draining."""
        return model_pb2.GetModelInfoResponse(
            model=self._model,
            load=load_to_proto(self._load()),
            draining=self._draining(),
            machine=machine_to_proto(
                dataclasses.replace(describe_machine(self._threads), process=self._process)
            ),
        )

    async def GetTokenizer(
        self,
        request: model_pb2.GetTokenizerRequest,
        context: grpc.aio.ServicerContext[object, object],
    ) -> AsyncIterator[model_pb2.GetTokenizerResponse]:
        """The tokenizer, in pieces."""
        if self._tokenizer is None:
            raise NotFound(f"model {self._model.name} has no tokenizer.json")
        content = self._tokenizer.tokenizer_json
        for start in range(0, len(content), _PIECE):
            piece = model_pb2.GetTokenizerResponse(tokenizer_json=content[start : start + _PIECE])
            if start == 0:
                piece.chat_template = self._tokenizer.chat_template
                piece.special_tokens.update(self._tokenizer.special_tokens)
                piece.named_templates.update(self._tokenizer.named_templates)
            yield piece
