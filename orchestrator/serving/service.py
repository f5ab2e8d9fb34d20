"""The gRPC front: GenerationService's messages to and from the values of generation.py."""

import contextlib
from collections.abc import AsyncIterator

import grpc

from orchestrator.serving.generation import Serving
from paceline.rpc.codec.generation import (
    event_to_proto,
    model_to_proto,
    prompt_from_proto,
    request_from_proto,
    skips_special_tokens,
)
from paceline.rpc.deadline import remaining
from paceline.rpc.request_id import current_request_id
from paceline.v1 import generation_pb2, generation_pb2_grpc

Context = grpc.aio.ServicerContext[object, object]


class GenerationService(generation_pb2_grpc.GenerationServiceServicer):
    """Proto to values and back, nothing else."""

    def __init__(self, serving: Serving) -> None:
        """Whatever is asked, `serving` answers."""
        self._serving = serving

    async def Generate(
        self, request: generation_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[generation_pb2.GenerateResponse]:
        """Started, deltas, and Finished for each choice."""
        seconds = remaining(context, self._serving.default_seconds)
        request_id = current_request_id()
        self._serving.check_door(max(1, request.n), seconds)
        asked = request_from_proto(request)
        signs = request.signs_of_life
        events = self._serving.generate(asked, seconds=seconds, request_id=request_id, signs=signs)
        async with contextlib.aclosing(events):
            async for event in events:
                yield event_to_proto(event)

    async def Tokenize(
        self, request: generation_pb2.TokenizeRequest, context: Context
    ) -> generation_pb2.TokenizeResponse:
        """The ids that Generate would use."""
        prompt = prompt_from_proto(request.prompt)
        seconds = remaining(context, self._serving.default_seconds)
        ids = await self._serving.tokenize(prompt, request.model, seconds=seconds)
        return generation_pb2.TokenizeResponse(token_ids=ids)

    async def Detokenize(
        self, request: generation_pb2.DetokenizeRequest, context: Context
    ) -> generation_pb2.DetokenizeResponse:
        """The text of ids."""
        text = await self._serving.detokenize(
            tuple(request.token_ids),
            request.model,
            skip_special_tokens=skips_special_tokens(request),
            seconds=remaining(context, self._serving.default_seconds),
        )
        return generation_pb2.DetokenizeResponse(text=text)

    async def ListModels(
        self, request: generation_pb2.ListModelsRequest, context: Context
    ) -> generation_pb2.ListModelsResponse:
        """The models of the targets that are there, once their tokenizers are too."""
        models = [model_to_proto(model) for model in self._serving.models()]
        return generation_pb2.ListModelsResponse(models=models)
