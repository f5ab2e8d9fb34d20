"""GenerationService: requests in, streams out."""

import asyncio
import contextlib
import dataclasses
import secrets
import time
from collections.abc import AsyncIterator

import grpc
import structlog

from orchestrator.drafting import Drafting, NoDraft
from orchestrator.failover import run_stream
from orchestrator.metrics import OrchestratorMetrics
from orchestrator.pacing import FixedPacer
from orchestrator.pools import POLL_SECONDS, Pool, Replica
from orchestrator.settings import OrchestratorSettings
from orchestrator.statistics import StreamStatistics
from orchestrator.stream import OutputStream
from orchestrator.tokenizer import TargetTokenizer
from paceline.errors import (
    Cancelled,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    PacelineError,
    Unavailable,
)
from paceline.generation import GenerateRequest, Model, Prompt, Speculation, Started
from paceline.limits import check_fingerprint, check_opening
from paceline.rpc.deadline import remaining
from paceline.rpc.generation_codec import (
    event_to_proto,
    model_to_proto,
    prompt_from_proto,
    request_from_proto,
)
from paceline.rpc.request_id import current_request_id
from paceline.session import ModelInfo, Opening
from paceline.v1 import generation_pb2, generation_pb2_grpc

_log = structlog.get_logger(__name__)

FORCED_WAIT_SECONDS = 30.0
"""Bound of the wait for the draft when the client forces speculation."""


class GenerationService(generation_pb2_grpc.GenerationServiceServicer):
    """Streams outputs of the targets' models."""

    def __init__(
        self,
        settings: OrchestratorSettings,
        targets: Pool,
        drafts: Pool,
        metrics: OrchestratorMetrics,
    ) -> None:
        """The pools are watched by somebody else."""
        self._settings = settings
        self._targets = targets
        self._drafts = drafts
        self._metrics = metrics
        self._tokenizers: dict[str, TargetTokenizer] = {}
        self._fetching = asyncio.Lock()

    async def Generate(
        self,
        request: generation_pb2.GenerateRequest,
        context: grpc.aio.ServicerContext[object, object],
    ) -> AsyncIterator[generation_pb2.GenerateResponse]:
        """Started, deltas, Finished."""
        arrived = time.perf_counter()
        seconds = remaining(context)
        asked = request_from_proto(request)
        replica, model = self._pick(asked.model)
        tokenizer = await self._tokenizer(replica, model)
        opening = self._opening(asked, model, tokenizer)
        stream = OutputStream(
            opening,
            tokenizer.detokenizer(opening.output_token_ids),
            StreamStatistics(arrived),
        )
        run = asyncio.create_task(self._run(asked.speculation, model, opening, stream, seconds))
        try:
            yield event_to_proto(_started(opening, model))
            async for delta in stream.deltas():
                yield event_to_proto(delta)
            yield event_to_proto(stream.finished())
        finally:
            run.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await run

    async def Tokenize(
        self,
        request: generation_pb2.TokenizeRequest,
        context: grpc.aio.ServicerContext[object, object],
    ) -> generation_pb2.TokenizeResponse:
        """The ids that Generate would use."""
        prompt = prompt_from_proto(request.prompt)
        tokenizer = await self._tokenizer(*self._pick(request.model))
        return generation_pb2.TokenizeResponse(token_ids=tokenizer.encode(prompt))

    async def ListModels(
        self,
        request: generation_pb2.ListModelsRequest,
        context: grpc.aio.ServicerContext[object, object],
    ) -> generation_pb2.ListModelsResponse:
        """The models of the targets that are there, once their tokenizers are too."""
        models = {
            replica.model.name: replica.model
            for replica in self._targets.ready
            if replica.model and _tokenizer_key(replica.model) in self._tokenizers
        }
        return generation_pb2.ListModelsResponse(
            models=[model_to_proto(self._describe(models[name])) for name in sorted(models)]
        )

    async def _run(
        self,
        speculation: Speculation,
        model: ModelInfo,
        opening: Opening,
        stream: OutputStream,
        seconds: float,
    ) -> None:
        """Fill the stream, and end it whatever happens."""
        error: PacelineError | None = Cancelled("the client has gone")
        try:
            async with asyncio.timeout(seconds):
                await self._generate(speculation, model, opening, stream, seconds)
            error = None
        except TimeoutError:
            error = DeadlineExceeded(f"the output was not whole after {seconds:.1f} s")
        except PacelineError as raised:
            error = raised
        except Exception:
            _log.exception("stream failed")
            error = Internal(f"a bug ended the stream; request id {opening.request_id}")
        finally:
            self._metrics.finished(stream, error)
            _log_end(stream, speculation, error)
            stream.end(error)

    async def _generate(
        self,
        speculation: Speculation,
        model: ModelInfo,
        opening: Opening,
        stream: OutputStream,
        seconds: float,
    ) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        length = self._settings.draft_length
        if speculation is Speculation.OFF or length == 0:
            pacer = FixedPacer(0, 0.0)
            await run_stream(self._targets, NoDraft(), pacer, opening, stream, deadline)
            return
        forced = speculation is Speculation.FORCE
        wait = FORCED_WAIT_SECONDS if forced else self._settings.draft_wait_seconds
        draft = Drafting(
            self._drafts,
            model,
            opening,
            stream,
            draft_length=length,
            window=self._settings.window,
            seconds=seconds,
        )
        drafting = asyncio.create_task(draft.run())
        try:
            await run_stream(
                self._targets, draft, FixedPacer(length, wait), opening, stream, deadline
            )
        finally:
            drafting.cancel()

    def _pick(self, name: str) -> tuple[Replica, ModelInfo]:
        """A target that serves the model called `name`; empty when there is only one."""
        models = {replica.model.name for replica in self._targets.ready if replica.model}
        if not models:
            raise Unavailable("no target is reachable")
        if not name and len(models) > 1:
            raise InvalidArgument.of("model", name, f"one of {', '.join(sorted(models))}")
        if name and name not in models:
            raise NotFound(f"model {name!r} is not served; there is {', '.join(sorted(models))}")
        wanted = name or models.pop()
        replica = self._targets.pick(lambda model: model.name == wanted, f"target of {wanted}")
        if replica.model is None:
            raise Internal("a ready target has no model")
        return replica, replica.model

    async def prepare(self) -> None:
        """Have each new target's tokenizer ready before a client asks; until cancelled."""
        while True:
            for replica in self._targets.ready:
                with contextlib.suppress(PacelineError):  # the client that asks is told
                    if replica.model is not None:
                        await self._tokenizer(replica, replica.model)
            self._bench_strangers()
            await asyncio.sleep(POLL_SECONDS)

    def _bench_strangers(self) -> None:
        """Report, at each connect, a draft whose vocabulary is no target's: it is not used."""
        targets = [replica.model for replica in self._targets.ready if replica.model]
        for draft in self._drafts.ready:
            known = any(_same_vocabulary(draft.model, target) for target in targets)
            if targets and not known and not draft.benched:
                draft.benched = True
                reason = "its vocabulary is not the target's"
                _log.warning("draft benched", address=draft.address, reason=reason)

    async def _tokenizer(self, replica: Replica, model: ModelInfo) -> TargetTokenizer:
        """The model's tokenizer, fetched once for each vocabulary."""
        key = _tokenizer_key(model)
        async with self._fetching:
            if key not in self._tokenizers:
                self._tokenizers[key] = await replica.tokenizer()
        return self._tokenizers[key]

    def _opening(
        self, asked: GenerateRequest, model: ModelInfo, tokenizer: TargetTokenizer
    ) -> Opening:
        """The session to open for a request; raises what is wrong with the request."""
        _check_resume(asked)
        check_fingerprint(asked.fingerprint, model)
        prompt = tokenizer.encode(asked.prompt)
        room = max(1, model.max_positions - len(prompt))
        opening = Opening(
            request_id=current_request_id(),
            prompt_token_ids=prompt,
            sampling=asked.sampling,
            seed=secrets.randbits(64) if asked.seed is None else asked.seed,
            max_tokens=asked.max_tokens or min(self._settings.default_max_tokens, room),
            output_token_ids=asked.output_token_ids,
            stop_token_ids=frozenset() if asked.ignore_eos else frozenset(model.eos_token_ids),
            required_features=asked.required_features,
            fingerprint=model.fingerprint,
        )
        check_opening(opening, model)
        return opening

    def _describe(self, model: ModelInfo) -> Model:
        drafts = [draft for draft in self._drafts.ready if _same_vocabulary(draft.model, model)]
        return Model(
            model.name,
            model.fingerprint,
            model.max_positions,
            model.vocabulary_size,
            len(drafts),
        )


def _same_vocabulary(draft: ModelInfo | None, target: ModelInfo) -> bool:
    return draft is not None and draft.vocabulary_hash == target.vocabulary_hash


def _tokenizer_key(model: ModelInfo) -> str:
    return f"{model.name} {model.vocabulary_hash}"


def _log_end(stream: OutputStream, speculation: Speculation, error: PacelineError | None) -> None:
    """Log one line for a stream that ended, with its statistics."""
    _log.info(
        "stream finished",
        outcome=type(error).__name__ if error else stream.finish_reason.value,
        speculation=speculation.value,
        prompt_tokens=stream.usage.prompt_tokens,
        output_tokens=stream.usage.output_tokens,
        **dataclasses.asdict(stream.statistics.result()),
    )


def _check_resume(asked: GenerateRequest) -> None:
    """A resumed stream must name what it resumes: ids, not text, and the seed."""
    if not asked.output_token_ids:
        return
    prompt: Prompt = asked.prompt
    if isinstance(prompt, str) or not isinstance(prompt[0], int):
        raise InvalidArgument.of("prompt", "text", "the token ids of started, to resume")
    if asked.seed is None:
        raise InvalidArgument.of("seed", None, "the seed of started, to resume")


def _started(opening: Opening, model: ModelInfo) -> Started:
    return Started(
        request_id=opening.request_id,
        model=model.name,
        fingerprint=opening.fingerprint,
        seed=opening.seed,
        prompt_token_ids=opening.prompt_token_ids,
        max_tokens=opening.max_tokens,
    )
