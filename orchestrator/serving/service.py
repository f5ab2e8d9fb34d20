"""GenerationService: requests in, streams out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import grpc

from orchestrator.serving.admission import admit, started
from orchestrator.serving.event_buffer import EventBuffer
from orchestrator.serving.generation import ChoiceRun, Choices
from orchestrator.serving.kv_capacity import fit
from orchestrator.serving.output import OutputStream
from orchestrator.serving.served_models import ServedModels
from orchestrator.serving.text.threads import TextThreads
from orchestrator.serving.text.tokenizer import TargetTokenizer
from orchestrator.settings import OrchestratorSettings
from paceline.errors import Aborted
from paceline.protocol.generation import GenerateRequest
from paceline.protocol.session import Opening
from paceline.rpc.codec.generation import (
    event_to_proto,
    model_to_proto,
    prompt_from_proto,
    request_from_proto,
)
from paceline.rpc.deadline import remaining
from paceline.rpc.request_id import current_request_id
from paceline.v1 import generation_pb2, generation_pb2_grpc

Context = grpc.aio.ServicerContext[object, object]


class GenerationService(generation_pb2_grpc.GenerationServiceServicer):
    """Streams outputs of the targets' models."""

    def __init__(
        self, settings: OrchestratorSettings, models: ServedModels, choices: Choices
    ) -> None:
        """`choices` runs what is admitted."""
        self._settings = settings
        self._models = models
        self._choices = choices
        self._threads = TextThreads()
        self._running: dict[tuple[object, ...], EventBuffer] = {}

    async def Generate(
        self, request: generation_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[generation_pb2.GenerateResponse]:
        """Started, deltas, and Finished for each choice."""
        arrived = asyncio.get_running_loop().time()
        seconds = remaining(context)
        asked = request_from_proto(request)
        model, tokenizer = await self._models.pick(asked.model)
        request_id, longest = current_request_id(), self._settings.default_max_tokens
        openings = await self._threads.run(
            seconds, lambda: admit(asked, model, tokenizer, request_id, longest)
        )
        sizes = self._models.kv_sizes(model)
        openings = fit(openings, sizes, shorten=asked.max_tokens is None)
        event_buffer = EventBuffer()
        choices = await self._threads.run(
            seconds, lambda: _choices(openings, asked, tokenizer, arrived, event_buffer)
        )
        with self._known(openings, event_buffer):
            run = asyncio.create_task(
                self._choices.run(choices, asked.speculation, model, event_buffer, seconds)
            )
            try:
                yield event_to_proto(started(openings, asked, model))
                async for event in event_buffer.events():
                    yield event_to_proto(event)
            finally:
                run.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await run

    async def Tokenize(
        self, request: generation_pb2.TokenizeRequest, context: Context
    ) -> generation_pb2.TokenizeResponse:
        """The ids that Generate would use."""
        prompt = prompt_from_proto(request.prompt)
        model, tokenizer = await self._models.pick(request.model)
        ids = await self._threads.run(
            remaining(context), lambda: tokenizer.encode(prompt, model.max_positions)
        )
        return generation_pb2.TokenizeResponse(token_ids=ids)

    async def ListModels(
        self, request: generation_pb2.ListModelsRequest, context: Context
    ) -> generation_pb2.ListModelsResponse:
        """The models of the targets that are there, once their tokenizers are too."""
        models = [model_to_proto(model) for model in self._models.list()]
        return generation_pb2.ListModelsResponse(models=models)

    @contextlib.contextmanager
    def _known(self, openings: list[Opening], event_buffer: EventBuffer) -> Iterator[None]:
        """Know the call while it runs. One that resumes a running call ends that: never two."""
        keys = [(one.request_id, one.seed, one.prompt_token_ids) for one in openings]
        older = self._running.get(keys[0]) if openings[0].output_token_ids else None
        if older is not None:
            older.end(Aborted("the stream was resumed by another call"))
        self._running.update(dict.fromkeys(keys, event_buffer))
        try:
            yield
        finally:
            for key in keys:
                if self._running.get(key) is event_buffer:
                    del self._running[key]


def _choices(
    openings: list[Opening],
    asked: GenerateRequest,
    tokenizer: TargetTokenizer,
    arrived: float,
    event_buffer: EventBuffer,
) -> list[ChoiceRun]:
    return [
        ChoiceRun(
            opening,
            OutputStream(
                opening, tokenizer.detokenizer(), asked.stop, arrived, event_buffer, index
            ),
        )
        for index, opening in enumerate(openings)
    ]
