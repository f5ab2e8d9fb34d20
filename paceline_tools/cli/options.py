"""Flags that several commands have."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

from paceline.engine.settings import CORES
from paceline.protocol.sampling import MAX_TEMPERATURE
from paceline_tools.bench.samples import PROMPTS, Prompt, choose, read_prompts
from paceline_tools.cli.flags import MOST_TOKENS


def _threads(value: int) -> int:
    if not 1 <= value <= CORES:
        limit = f"must be from 1 to {CORES}, the cores that it may use here"
        raise PydanticCustomError("threads", "{limit}", {"limit": limit})
    return value


Threads = Annotated[int, AfterValidator(_threads)]
"""More than there are cores make every step wait for the others."""


class PromptOptions(BaseModel):
    """Which outputs are measured."""

    prompts: Path = Field(
        PROMPTS,
        description="JSONL of kind and prompt, or text, one a line. Unless given: 16 of ours, of "
        "code, edits, chat and prose.",
    )
    kinds: list[str] = Field(
        [], description="Only prompts of this kind; may be given again. Unless given: all."
    )
    max_tokens: int = Field(64, ge=2, le=MOST_TOKENS, description="Most tokens of each output.")
    temperature: float = Field(
        0.0,
        ge=0,
        le=MAX_TEMPERATURE,
        description="Of all outputs of ours; their seed is fixed. transformers is greedy.",
    )

    @property
    def chosen(self) -> list[Prompt]:
        """The prompts of these kinds; InvalidArgument when there is none."""
        return choose(read_prompts(self.prompts), self.kinds)


class ModelOptions(BaseModel):
    """How models run."""

    threads: Threads = Field(
        CORES,
        description="Threads of each model. Unless given: the cores that it may use.",
    )
    dtype: Literal["bfloat16", "float32", "float64"] = Field(
        "bfloat16", description="Numbers of weights and KV."
    )


class FigureOptions(BaseModel):
    """Where figures go, beside the terminal."""

    json_: Path | None = Field(
        None, alias="json", description="Write all figures there. Unless given: nowhere."
    )
    plot: Path | None = Field(
        None, description="Draw the figures there, as PNG. Unless given: nowhere."
    )
