"""The models that can be asked for: their targets, tokenizers, and the drafts at hand."""

import asyncio
import contextlib
from collections.abc import Sequence

import structlog

from orchestrator.drafts import Drafts
from orchestrator.pools import POLL_SECONDS, Pool, Replica
from orchestrator.tokenizer import TargetTokenizer
from paceline.errors import (
    Internal,
    InvalidArgument,
    NotFound,
    PacelineError,
    Unavailable,
    listed,
    shown,
)
from paceline.generation import Model
from paceline.session import KVSize, ModelInfo

_log = structlog.get_logger(__name__)


class Models:
    """What the pools serve, by name."""

    def __init__(self, targets: Pool, drafts: Drafts) -> None:
        """The pools are watched by somebody else."""
        self._targets = targets
        self._drafts = drafts
        self._tokenizers: dict[str, TargetTokenizer] = {}
        self._fetching = asyncio.Lock()

    async def pick(self, name: str) -> tuple[ModelInfo, TargetTokenizer]:
        """The model called `name`, which may be empty when there is only one."""
        models = {replica.model.name for replica in self._targets.ready if replica.model}
        if not models:
            raise Unavailable("no target is reachable")
        if not name and len(models) > 1:
            raise InvalidArgument.of("model", name, f"one of {listed(models)}")
        if name and name not in models:
            raise NotFound(f"model {shown(name)} is not served; there is {listed(models)}")
        wanted = name or models.pop()
        replica = self._targets.pick(lambda model: model.name == wanted, f"target of {wanted}")
        if replica.model is None:
            raise Internal("a ready target has no model")
        return replica.model, await self._tokenizer(replica, replica.model)

    def kv_sizes(self, model: ModelInfo) -> Sequence[KVSize | None]:
        """KV of all targets that are known to serve a model, whether they answer now or not."""
        known = (replica.model for replica in self._targets.all if not replica.retired)
        return [one.kv for one in known if one is not None and one.fingerprint == model.fingerprint]

    def list(self) -> list[Model]:
        """The models of the targets that are there, once their tokenizers are too; by name."""
        models = {
            replica.model.name: replica.model
            for replica in self._targets.ready
            if replica.model and _tokenizer_key(replica.model) in self._tokenizers
        }
        return [self._describe(models[name]) for name in sorted(models)]

    async def prepare(self) -> None:
        """Have each new target's tokenizer ready before a client asks; until cancelled."""
        while True:
            for replica in self._targets.ready:
                with contextlib.suppress(PacelineError):  # the client that asks is told
                    if replica.model is not None:
                        await self._tokenizer(replica, replica.model)
            self._drafts.notice_models()
            await asyncio.sleep(POLL_SECONDS)

    async def _tokenizer(self, replica: Replica, model: ModelInfo) -> TargetTokenizer:
        """The model's tokenizer, fetched once for each vocabulary."""
        key = _tokenizer_key(model)
        async with self._fetching:
            if key not in self._tokenizers:
                self._tokenizers[key] = await replica.tokenizer()
        return self._tokenizers[key]

    def _describe(self, model: ModelInfo) -> Model:
        fits = self._drafts.vocabularies.fits
        drafts = [draft for draft in self._drafts.ready if fits(draft.model, model)]
        return Model(
            model.name,
            model.fingerprint,
            model.max_positions,
            model.vocabulary_size,
            len(drafts),
        )


def _tokenizer_key(model: ModelInfo) -> str:
    return f"{model.name} {model.vocabulary_hash}"
