"""An engine at work, and what its model is."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from paceline.engine.interfaces import Runner
from paceline.engine.metrics import EngineMetrics
from paceline.engine.settings import EngineSettings
from paceline.engine.worker import Engine
from paceline.protocol.model import ModelInfo, TokenizerFiles


@dataclass(frozen=True, slots=True)
class StartedEngine:
    """What a server is made of. tokenizer: None where the model has none.

    threads: of the forward pass; 0 where there is none.
    """

    engine: Engine
    model: ModelInfo
    tokenizer: TokenizerFiles | None
    threads: int = 0


def run_engine(settings: EngineSettings, runner: Runner, registry: CollectorRegistry) -> Engine:
    """Start an engine that owns `runner`, watched by `registry`."""
    metrics = EngineMetrics(registry)
    engine = Engine(
        runner,
        max_batched_tokens=settings.max_batched_tokens,
        kv_pages=settings.kv_tokens // runner.page_rows,
        reserve_pages=settings.kv_reserve_tokens // runner.page_rows,
        on_step=metrics.on_step,
        on_admit=metrics.on_admit,
    )
    metrics.watch(lambda: engine.load)
    engine.start()
    return engine
