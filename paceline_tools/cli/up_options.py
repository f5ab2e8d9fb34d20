"""The flags of `paceline up`."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from draft_server.drafters.registry import DEFAULT, SUMMARY, DrafterName
from orchestrator.round_settings import (
    DRAFT_LENGTH,
    MAX_BRANCH_TOKENS,
    MAX_DRAFT_LENGTH,
    MOST_DRAFT_LENGTH,
    check_draft_lengths,
)
from paceline import log
from paceline.catalog import DEFAULT_DRAFT, DEFAULT_TARGET
from paceline.engine.settings import LEAST_KV, MOST_KV
from paceline.protocol.limits import MAX_BRANCHES
from paceline.settings import (
    DEFAULT_LOG_LEVEL,
    HEALTH_PORTS,
    METRICS_PORTS,
    ORCHESTRATOR_PORT,
    PAGE_PORTS,
    Host,
    LogLevel,
)
from paceline_tools.cli.options import ModelOptions
from paceline_tools.evaluation.candidates import Weights
from paceline_tools.listener import GATEWAY_PORTS


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


Models = Annotated[list[str], BeforeValidator(_several), Field(min_length=1)]


class PlacedModels(ModelOptions):
    """On which devices models run. Checked with the models: what is wrong is told at once."""

    device: str = Field(
        "cpu",
        description="Device of the models: cpu, cuda, cuda:1, mps. cuda needs a torch built for "
        "it, with the Triton that comes with it.",
    )
    draft_device: str | None = Field(
        None, description="Device of the draft models. Unless given: that of the targets."
    )


class RoundOptions(PlacedModels):
    """How many draft tokens a round has."""

    draft_length: int = Field(
        DRAFT_LENGTH,
        ge=0,
        le=MOST_DRAFT_LENGTH,
        description="Draft tokens in a round when speculation is forced; 0: the target alone.",
    )
    max_draft_length: int = Field(
        MAX_DRAFT_LENGTH,
        ge=1,
        le=MOST_DRAFT_LENGTH,
        description="Most draft tokens in a round, when the pacer decides.",
    )
    max_branch_tokens: int = Field(
        MAX_BRANCH_TOKENS,
        ge=0,
        le=MAX_BRANCHES,
        description="Most draft tokens of branches verified beside them in a round; 0: none.",
    )

    @model_validator(mode="after")
    def _has_lengths_that_fit(self) -> Self:
        if {"draft_length", "max_draft_length"} <= self.model_fields_set:
            check_draft_lengths(self.draft_length, self.max_draft_length)
        return self


class UpOptions(RoundOptions):
    """What is started, and how."""

    target: Models = Field(
        [DEFAULT_TARGET],
        description="Target model: a pulled name, a folder, a .gguf file, a hub id, or simulated. "
        "Again: another replica, or with NAME=MODEL another model.",
    )
    draft: Models = Field(
        [DEFAULT_DRAFT],
        description="Draft model, likewise; none: the target alone. Again, as NAME=MODEL: pools "
        "that are compared, the preferred one first; NAME=ngram looks up only.",
    )
    vllm: Path | None = Field(
        None,
        description="Run targets on vLLM: the Python of an environment that has vLLM and Paceline. "
        "Unless given: on Paceline's own engine.",
    )
    model_name: str = Field(
        "", description="Name that clients ask for. Unless given: the last part of the target."
    )
    drafter: DrafterName = Field(DEFAULT, description=f"What drafts. {SUMMARY}.")
    draft_weights: Weights = Field(
        "int4", description="Weights of the draft: as they are, or in 8 or 4 bits."
    )
    kv_tokens: int = Field(
        65536,
        ge=LEAST_KV,
        le=MOST_KV,
        description="Tokens of KV of each server, for all its streams together.",
    )
    host: Host = Field(
        "127.0.0.1", description="Address to listen on; 0.0.0.0 lets other machines call."
    )
    port: int = Field(
        ORCHESTRATOR_PORT,
        ge=1,
        le=65000,
        description=f"Port of the orchestrator; health and metrics are {HEALTH_PORTS} and "
        f"{METRICS_PORTS} above it, those of targets and drafts behind them.",
    )
    gateway: bool = Field(
        False,
        description="Start smg, an OpenAI-compatible gateway, in front; its port is "
        f"{GATEWAY_PORTS[0]} above the orchestrator's, its metrics {GATEWAY_PORTS[1]}.",
    )
    page: bool = Field(
        False,
        description="Serve a page to look at in a browser: tokens by origin, rounds, off and on "
        f"side by side; its port is {PAGE_PORTS} above the orchestrator's.",
    )
    log_level: LogLevel = Field(DEFAULT_LOG_LEVEL, description="Least level that is logged.")
    log_format: log.Form = Field("auto", description=log.FORMS)
