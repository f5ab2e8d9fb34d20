"""The models that can be asked for: their targets, tokenizers, and how many drafts they have."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import structlog

from orchestrator.backends.draft_router import DraftRouter
from orchestrator.backends.first_of import first_of
from orchestrator.backends.pool import Pool
from orchestrator.backends.replica import NOT_ASKED, POLL_SECONDS, Replica
from orchestrator.serving.text.tokenizer import TargetTokenizer
from paceline.errors import (
    Internal,
    InvalidArgument,
    NotFound,
    PacelineError,
    Unavailable,
    listed,
    shown,
)
from paceline.protocol.generation import Model
from paceline.protocol.model import KVSize, ModelInfo, TokenizerFiles
from paceline.protocol.status import LOADING

NO_TARGET = "no target is reachable"
NEXT_SECONDS = 0.3
"""Where a target has not sent its tokenizer in so long another one is asked beside it."""
T = TypeVar("T")
Asking = Callable[[Replica], Coroutine[Any, Any, T]]
_log = structlog.get_logger(__name__)


class ServedModels:
    """What the pools serve, by name."""

    def __init__(self, targets: Pool, drafts: DraftRouter) -> None:
        """The pools are watched elsewhere."""
        self._targets = targets
        self._drafts = drafts
        self._tokenizers: dict[str, TargetTokenizer] = {}
        self._missed: set[str] = set()
        self._fetching: dict[str, asyncio.Task[TargetTokenizer]] = {}

    async def pick(self, name: str) -> tuple[ModelInfo, TargetTokenizer]:
        """The model called `name`, which may be empty when there is only one."""
        models = {replica.model.name for replica in self._targets.ready if replica.model}
        if not models:
            raise Unavailable(self._none_reachable())
        if not name and len(models) > 1:
            raise InvalidArgument.of("model", name, f"one of {listed(models)}")
        if name and name not in models:
            raise NotFound(f"model {shown(name)} is not served; there is {listed(models)}")
        wanted = name or models.pop()
        replica = self._pick(wanted)
        if replica.model is None:
            raise Internal("a ready target has no model")
        return replica.model, await self._tokenizer(replica.model)

    def _none_reachable(self) -> str:
        """Why there is no model to ask for: without addresses, which are no client's business."""
        loading = [one.health.reason for one in self._targets.all]
        loading = [reason for reason in loading if reason.startswith(LOADING)]
        return f"no target is reachable yet: one is {loading[0]}" if loading else NO_TARGET

    async def tokenizer_files(self, name: str) -> TokenizerFiles:
        """The tokenizer of the model called `name` as it is; NotFound where it has none."""
        model, _ = await self.pick(name)
        found = await self._of_any(_tokenizer_key(model), model.name, _files_of)
        if isinstance(found, NotFound):
            raise found
        return found

    def _pick(self, name: str) -> Replica:
        """A target of the model: one whose tokenizer is here already where there is one."""

        def here(model: ModelInfo) -> bool:
            return model.name == name and self._here(model)

        with contextlib.suppress(Unavailable):
            return self._targets.pick(here, name)
        return self._targets.pick(lambda model: model.name == name, f"target of {name}")

    def kv_sizes(self, model: ModelInfo) -> Sequence[KVSize | None]:
        """KV of all targets that are known to serve a model, whether they answer now or not.

        None for one that does not say, or was not asked yet.
        """
        there = [replica for replica in self._targets.all if not replica.health.retired]
        known = [replica.model for replica in there if replica.model is not None]
        sizes = [one.kv for one in known if one.fingerprint == model.fingerprint]
        return [*sizes, *(None for replica in there if replica.health.reason == NOT_ASKED)]

    def list(self) -> list[Model]:
        """The models of the targets that are there, once their tokenizers are too; by name."""
        models = {
            replica.model.name: replica.model
            for replica in self._targets.ready
            if replica.model and self._here(replica.model)
        }
        return [self._describe(models[name]) for name in sorted(models)]

    @property
    def usable(self) -> bool:
        """Whether there is a target, with its tokenizer."""
        return bool(self.list())

    @property
    def hindrances(self) -> tuple[str, ...]:
        """What keeps each target from being usable."""
        waiting = (one for one in self._targets.ready if one.model and not self._here(one.model))
        missing = (f"{one.address}: its tokenizer is not here yet" for one in waiting)
        return (*self._targets.hindrances, *missing)

    def _here(self, model: ModelInfo) -> bool:
        """Whether its tokenizer is."""
        return _tokenizer_key(model) in self._tokenizers

    async def prepare(self) -> None:
        """Have each new target's tokenizer ready before a client asks; until cancelled.

        Outlives whatever goes wrong with one of them: it is looked at again a moment later.
        """
        try:
            while True:
                try:
                    self._look()
                except Exception:
                    _log.exception("models not refreshed")
                await asyncio.sleep(POLL_SECONDS)
        finally:
            for task in self._fetching.values():
                task.cancel()

    def _look(self) -> None:
        models = [replica.model for replica in self._targets.ready if replica.model]
        for model in models:
            if not self._here(model):
                self._fetch(model)
        self._forget()
        self._drafts.notice_models()

    def _forget(self) -> None:
        """Keep no tokenizer that no target has any more."""
        known = {_tokenizer_key(replica.model) for replica in self._targets.all if replica.model}
        for key in self._tokenizers.keys() - known:
            del self._tokenizers[key]
        self._missed &= known

    async def _tokenizer(self, model: ModelInfo) -> TargetTokenizer:
        """The model's tokenizer, fetched once for all that ask; who goes does not end that."""
        key = _tokenizer_key(model)
        if key in self._tokenizers:
            return self._tokenizers[key]
        try:
            return await asyncio.shield(self._fetch(model))
        except PacelineError:
            raise
        except Exception as error:
            raise Internal(f"the tokenizer of {model.name} could not be had") from error

    def _fetch(self, model: ModelInfo) -> asyncio.Task[TargetTokenizer]:
        """The task that fetches it: one for each tokenizer, so that none waits for another's."""
        key = _tokenizer_key(model)
        if key not in self._fetching:
            task = asyncio.create_task(self._of_any(key, model.name, fetch_tokenizer))
            self._fetching[key] = task
            task.add_done_callback(lambda _: self._fetched(key, task))
        return self._fetching[key]

    def _fetched(self, key: str, task: asyncio.Task[TargetTokenizer]) -> None:
        del self._fetching[key]
        if task.cancelled():
            return
        if error := task.exception():  # who asks is told; the log is told once
            if key not in self._missed:
                _log.warning("tokenizer not fetched", reason=type(error).__name__)
            self._missed.add(key)
        else:
            self._missed.discard(key)
            self._tokenizers[key] = task.result()

    async def _of_any(self, key: str, name: str, ask: Asking[T]) -> T:
        """What any target says that has this tokenizer; one that is silent holds up none."""
        ready = [(one, one.model) for one in self._targets.ready]
        asking = [
            partial(ask, one) for one, model in ready if model and _tokenizer_key(model) == key
        ]
        nobody = Unavailable(f"no target of {name} is reachable")
        return await first_of(asking, NEXT_SECONDS, nobody)

    def _describe(self, model: ModelInfo) -> Model:
        fits = self._drafts.vocabularies.fits
        drafts = [draft for draft in self._drafts.ready if fits(draft.model, model)]
        return Model(
            model.name,
            model.fingerprint,
            model.max_positions,
            model.vocabulary_size,
            len(drafts),
            equal_up_to_rounding=not model.batch_invariant,
        )


async def fetch_tokenizer(replica: Replica) -> TargetTokenizer:
    """The tokenizer of a server's model; reading a large one takes a second, on a thread.

    One for token ids alone where the model has no tokenizer.json, or none that can be read.
    """
    try:
        files = await replica.tokenizer_files()
    except NotFound:
        return TargetTokenizer(None)
    try:
        return await asyncio.to_thread(TargetTokenizer, files)
    except Exception as error:  # the library raises bare ones
        _log.warning("tokenizer cannot be read", reason=str(error)[:200])
        return TargetTokenizer(None)


async def _files_of(replica: Replica) -> TokenizerFiles | NotFound:
    """That it has none is an answer, too: no other need be asked."""
    try:
        return await replica.tokenizer_files()
    except NotFound as error:
        return error


def _tokenizer_key(model: ModelInfo) -> str:
    """Targets with equal files share a tokenizer; files that differ in anything are others."""
    return f"{model.name} {model.vocabulary_hash} {model.tokenizer_hash}"
