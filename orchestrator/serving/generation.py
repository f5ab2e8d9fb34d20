"""What every front calls: a request in, events out. Values only, nothing of gRPC or HTTP.

A front turns its messages into a GenerateRequest, says how many seconds the caller gives the
call, and turns each GenerateEvent into a message of its own; errors are PacelineErrors, which it
maps to its status codes. service.py is the gRPC one. Another takes three files: the front, its
port in the settings, and what starts, drains and ends it in __main__. status_report.py has the
status, for a front that shows it.

generate, step by step:
  1. served_models picks the model, and its tokenizer.
  2. admission checks the request, encodes its prompt, and makes an opening for each choice.
  3. choices runs the choices as a task of its own; output.py makes events of what they
     decide, and the event buffer hands them over here.
"""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import structlog

from orchestrator.serving.admission import Defaults, admit, started
from orchestrator.serving.allowance import Allowances
from orchestrator.serving.cancelled import cancelled
from orchestrator.serving.choices import ChoiceRunner
from orchestrator.serving.door import MOST_BEGINNING, Door
from orchestrator.serving.event_buffer import EventBuffer, ReadWatch, UnreadOutputs
from orchestrator.serving.life_signs import LifeSigns, signs_until
from orchestrator.serving.output import OutputStream, ScoredPrompt
from orchestrator.serving.served_models import ServedModels
from orchestrator.serving.text.output_text import OutputText
from orchestrator.serving.text.threads import TextThreads
from orchestrator.serving.text.tokenizer import TargetTokenizer, characters
from orchestrator.serving.traces import describe_request
from orchestrator.settings import OrchestratorSettings
from paceline.errors import Aborted
from paceline.protocol.generation import (
    GenerateEvent,
    GenerateRequest,
    Model,
    Prompt,
    Speculation,
)
from paceline.protocol.limits import check_prompt, check_request, check_token_ids
from paceline.protocol.model import ModelInfo, TokenizerFiles
from paceline.protocol.sampling import Sampling
from paceline.protocol.session import Opening
from paceline.rpc.caller import Caller, current_caller
from paceline.rpc.request_id import adopt


class Serving:
    """What the orchestrator serves: outputs, token ids, and a list of its models."""

    def __init__(
        self, settings: OrchestratorSettings, models: ServedModels, runner: ChoiceRunner
    ) -> None:
        """`runner` runs what is admitted."""
        self._defaults = Defaults(
            settings.default_max_tokens, settings.generation_config == "model"
        )
        self._models = models
        self.default_seconds = settings.default_deadline_seconds
        """For a caller that gives no deadline; fronts read it."""
        self._runner = runner
        self._threads = TextThreads()
        self._running: dict[tuple[object, ...], EventBuffer] = {}
        self._unread = UnreadOutputs(2 * settings.max_streams)
        self._allowances = Allowances(time.monotonic)
        self._door = Door(
            settings.max_streams,
            settings.max_queued,
            lambda streams: streams - runner.begun >= MOST_BEGINNING and models.usable,
        )
        self._life_signs: set[LifeSigns] = set()
        self._draining = False

    def check_door(self, streams: int, seconds: float) -> None:
        """ResourceExhausted where generate would say that before any wait.

        Fronts call it before they read a request: its prompt may be long, and the loop is busy.
        """
        self._door.check(current_caller().name, streams, seconds)

    async def generate(
        self,
        request: GenerateRequest,
        *,
        seconds: float,
        request_id: str = "",
        event_buffer: EventBuffer | None = None,
        signs: bool = False,
    ) -> AsyncGenerator[GenerateEvent, None]:
        """Started, deltas, and Finished for each choice; closing the iterator cancels the rest.

        seconds: for the whole output, DeadlineExceeded after them. request_id: names the request
        in logs, here and on the servers; one is made when it is empty. event_buffer: an empty one,
        of a caller that may abort it. signs: of life are given.
        """
        request_id = adopt(request_id)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        deadline = asyncio.get_running_loop().time() + seconds
        check_request(request)
        event_buffer = event_buffer or EventBuffer()
        async with contextlib.AsyncExitStack() as inside:
            spend = inside.enter_context(self._allowances.taking(current_caller(), request.n))
            admitting = asyncio.create_task(
                self._enter(request, request_id, event_buffer, seconds, inside)
            )
            async with contextlib.aclosing(signs_until(admitting, given=signs)) as before:
                async for sign in before:
                    yield sign
            model, choices = await admitting
            describe_request(request, request_id, model.name, choices)
            seconds = deadline - asyncio.get_running_loop().time()  # reading the prompt took some
            openings = [choice.opening for choice in choices]
            speculation = Speculation.OFF if request.max_tokens == 0 else request.speculation
            inside.callback(_spend_usage, spend, choices)
            run = self._run(choices, speculation, model, event_buffer, seconds, inside)
            with self._known(openings, event_buffer), self._signs(event_buffer, given=signs):
                async with self._filling(event_buffer, run):
                    yield started(openings, request, model, signs=signs)
                    async for event in event_buffer.events():
                        yield event

    async def tokenize(self, prompt: Prompt, model: str, *, seconds: float) -> tuple[int, ...]:
        """The token ids that generate would use for `prompt`."""
        check_prompt(prompt)
        picked, tokenizer = await self._models.pick(model)
        return await self._threads.run(
            seconds, characters(prompt), lambda: tokenizer.encode(prompt, picked.max_positions)
        )

    async def detokenize(
        self, token_ids: tuple[int, ...], model: str, *, skip_special_tokens: bool, seconds: float
    ) -> str:
        """The text of `token_ids`, as a text of its own: what tokenize made ids of."""
        picked, tokenizer = await self._models.pick(model)
        check_token_ids("token_ids", token_ids, picked.vocabulary_size)
        return await self._threads.run(
            seconds,
            len(token_ids),
            lambda: tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens),
        )

    def models(self) -> list[Model]:
        """The models of the targets that are there, once their tokenizers are too.

        None while draining: whoever asks whether it can serve goes elsewhere.
        """
        return [] if self._draining else self._models.list()

    def drain(self) -> None:
        """Have streams that can go on elsewhere do so."""
        self._draining = True
        for signs in self._life_signs:
            signs.drain()

    async def model(self, name: str = "") -> ModelInfo:
        """The model called `name`, which may be empty where there is only one."""
        model, _ = await self._models.pick(name)
        return model

    def default_sampling(self, model: ModelInfo) -> Sampling:
        """Of requests that do not say."""
        return self._defaults.sampling(model)

    async def tokenizer_files(self, name: str = "") -> TokenizerFiles:
        """The model's tokenizer as its target has it; NotFound where it has none."""
        return await self._models.tokenizer_files(name)

    async def _enter(
        self,
        request: GenerateRequest,
        request_id: str,
        event_buffer: EventBuffer,
        seconds: float,
        inside: contextlib.AsyncExitStack,
    ) -> tuple[ModelInfo, list[OutputStream]]:
        """As _admit, once it is the caller's turn; inside: what the call holds till its end."""
        now = asyncio.get_running_loop().time
        deadline = now() + seconds
        caller = current_caller().name
        await inside.enter_async_context(
            self._door.passing(caller, request.n, request.priority, seconds)
        )
        return await self._admit(request, request_id, event_buffer, deadline - now())

    async def _admit(
        self, request: GenerateRequest, request_id: str, event_buffer: EventBuffer, seconds: float
    ) -> tuple[ModelInfo, list[OutputStream]]:
        """The model, and a stream for each choice; of one that is resumed with the text so far."""
        arrived = asyncio.get_running_loop().time()
        request = _salted(request, current_caller())
        model, tokenizer = await self._models.pick(request.model)
        kv_sizes = self._models.kv_sizes(model)

        def choices() -> list[OutputStream]:
            openings = admit(request, model, kv_sizes, tokenizer, request_id, self._defaults)
            kind = ScoredPrompt if request.max_tokens == 0 else OutputStream
            return [
                kind(one, _text(request, one, tokenizer), arrived, event_buffer, index)
                for index, one in enumerate(openings)
            ]

        return model, await self._threads.run(seconds, characters(request.prompt), choices)

    async def _run(
        self,
        choices: list[OutputStream],
        speculation: Speculation,
        model: ModelInfo,
        event_buffer: EventBuffer,
        seconds: float,
        inside: contextlib.AsyncExitStack,
    ) -> None:
        """Run the choices, then give back what the call holds.

        Its client may read on for long, or never: gRPC ends no call whose client reads nothing.
        """
        try:
            await self._runner.run(choices, speculation, model, event_buffer, seconds)
        finally:
            self._unread.add(event_buffer)
            await inside.aclose()

    @contextlib.asynccontextmanager
    async def _filling(
        self, event_buffer: EventBuffer, run: Coroutine[Any, Any, None]
    ) -> AsyncIterator[None]:
        """Run while this lasts, which is until its client has read all, or has gone."""
        task = asyncio.create_task(run)
        event_buffer.filled_by(task)
        watch = ReadWatch(event_buffer)
        try:
            yield
        finally:
            watch.stop()
            await cancelled(task)
            self._unread.remove(event_buffer)

    @contextlib.contextmanager
    def _signs(self, event_buffer: EventBuffer, *, given: bool) -> Iterator[None]:
        """Give signs of life, where that was asked for."""
        signs = LifeSigns(event_buffer) if given else None
        if signs is None:
            yield
            return
        self._life_signs.add(signs)
        if self._draining:
            signs.drain()
        try:
            yield
        finally:
            self._life_signs.discard(signs)
            signs.stop()

    @contextlib.contextmanager
    def _known(self, openings: list[Opening], event_buffer: EventBuffer) -> Iterator[None]:
        """Know the call while it runs. One that resumes a running call ends that: never two."""
        caller = current_caller().name
        keys = [(caller, one.request_id, one.seed, one.prompt_token_ids) for one in openings]
        older = self._running.get(keys[0]) if openings[0].output_token_ids else None
        if older is not None:
            older.abort(Aborted("the stream was resumed by another call"))
        self._running.update(dict.fromkeys(keys, event_buffer))
        try:
            yield
        finally:
            for key in keys:
                if self._running.get(key) is event_buffer:
                    del self._running[key]


def _spend_usage(spend: Callable[[int], None], choices: list[OutputStream]) -> None:
    """What the choices read and made."""
    used = [choice.usage for choice in choices]
    spend(used[0].prompt_tokens + sum(usage.output_tokens for usage in used))


def _salted(request: GenerateRequest, caller: Caller) -> GenerateRequest:
    """What one caller's prompts left in KV no other finds: how quick it is would tell of them."""
    if not caller.proven:
        return request
    return dataclasses.replace(request, cache_salt=f"{caller.name} {request.cache_salt}")


def _text(request: GenerateRequest, opening: Opening, tokenizer: TargetTokenizer) -> OutputText:
    """Text of one choice, at its beginning."""
    detokenizer = tokenizer.detokenizer(skip_special_tokens=request.skip_special_tokens)
    return OutputText(opening, detokenizer, tuple(request.stop), include_stop=request.include_stop)
