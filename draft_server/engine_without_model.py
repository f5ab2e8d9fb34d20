"""An engine without a model, for drafters that only look up: it has sessions, and no torch."""

import socket
from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from draft_server.settings import DraftSettings
from paceline.engine.interfaces import KVCache, Logits, Span, StartedEngine
from paceline.engine.metrics import EngineMetrics
from paceline.engine.sampling.sampler import SAMPLER_VERSION
from paceline.engine.worker import EngineWorker
from paceline.errors import Internal
from paceline.machine import own_cores
from paceline.protocol.model import NO_KV_TOKENS, ModelInfo

MAX_SESSIONS = 4096
_ANY = NO_KV_TOKENS


class NoCache:
    """The KV of no model."""

    length = rope_length = 0

    def truncate(self, length: int) -> None:
        """Nothing to drop."""

    def copy(self, length: int) -> "NoCache":
        """Another one."""
        return NoCache()


class NoRunner:
    """The forward pass of no model. A session takes one page, which is all its tokens."""

    page_tokens = _ANY

    def new_cache(self, max_length: int = 0) -> NoCache:
        """An empty cache."""
        return NoCache()

    def forward(self, batch: Sequence[tuple[KVCache, Span]]) -> list[Logits]:
        """Never called: no drafter here asks for a step."""
        raise Internal("there is no model")


def start_without_model(settings: DraftSettings, registry: CollectorRegistry) -> StartedEngine:
    """Start at once; the model info fits any target."""
    model = ModelInfo(
        name=settings.model_name or settings.drafter,
        fingerprint="",
        vocabulary_hash="",
        vocabulary_size=_ANY,
        max_positions=_ANY,
        eos_token_ids=(),
        sampler_version=SAMPLER_VERSION,
        batch_invariant=True,
        host=socket.gethostname(),
        cores=own_cores(),
    )
    engine = EngineWorker(
        NoRunner(), max_batched_tokens=settings.max_batched_tokens, kv_pages=MAX_SESSIONS
    )
    EngineMetrics(registry).watch(lambda: engine.load)
    engine.start()
    return StartedEngine(engine, model, None)
