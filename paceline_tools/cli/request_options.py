"""What generate and chat can both be told."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from paceline.protocol.generation import GenerateRequest, Prompt, Speculation
from paceline.protocol.limits import (
    FIT,
    MAX_BAD_WORD_CHARACTERS,
    MAX_BAD_WORDS,
    MAX_STOP_CHARACTERS,
    MAX_STOP_STRINGS,
)
from paceline.protocol.sampling import MAX_TEMPERATURE, Sampling
from paceline.rpc.wire_ranges import INT32, UINT32, UINT64
from paceline_tools.cli.constraint_options import ConstraintOptions
from paceline_tools.cli.flags import MOST_TOKENS, Finite, Text


def _word(value: str) -> str:
    if not value.strip():
        raise PydanticCustomError("blank", "must be a word, and not blank")
    return value


def _kept_tokens(value: int) -> int:
    if value != FIT and not 1 <= value <= INT32[-1]:
        raise PydanticCustomError("kept", f"must be from 1 to {INT32[-1]}, or {FIT}")
    return value


StopString = Annotated[Text, StringConstraints(min_length=1, max_length=MAX_STOP_CHARACTERS)]
BadWord = Annotated[
    Text,
    StringConstraints(min_length=1, max_length=MAX_BAD_WORD_CHARACTERS),
    AfterValidator(_word),
]
TokenId = Annotated[int, Field(ge=0, le=UINT32[-1])]
KeptTokens = Annotated[int, AfterValidator(_kept_tokens)]


class RequestOptions(ConstraintOptions):
    """Flags of an output, but for its prompt."""

    model: Text = Field("", description="Model to ask for. Unless given: the one that is served.")
    max_tokens: int | None = Field(
        None,
        ge=1,
        le=MOST_TOKENS,
        description="Most tokens to generate. Unless given: as many as the server is set to.",
    )
    temperature: float | None = Field(
        None,
        ge=0,
        le=MAX_TEMPERATURE,
        description="Divides the logits; 0 takes the best token. Unless given, as the model's "
        "generation_config.json says, else 1.",
    )
    top_p: Finite | None = Field(
        None,
        gt=0,
        le=1,
        description="Keeps the best tokens that reach this probability; 1 keeps all. Unless given, "
        "likewise, else 1.",
    )
    top_k: int | None = Field(
        None,
        ge=0,
        le=UINT32[-1],
        description="Keeps the best tokens, so many; 0 keeps all. Unless given, likewise, else 0.",
    )
    seed: int | None = Field(
        None,
        ge=0,
        le=UINT64[-1],
        description="Seed of the noise. Unless given: one is drawn, and told with --json.",
    )
    stop: list[StopString] = Field(
        [],
        max_length=MAX_STOP_STRINGS,
        description="String that ends the output, taken as it is; may be given again. Unless "
        "given: only the model's own end does.",
    )
    include_stop: bool = Field(False, description="Keep the stop string in the output.")
    skip_special_tokens: bool = Field(
        True, description="Leave special tokens, such as <|im_end|>, out of the output."
    )
    bad_words: list[BadWord] = Field(
        [],
        max_length=MAX_BAD_WORDS,
        description="Word that is not generated, taken as it is; may be given again. Unless "
        "given: all are.",
    )
    allowed_token_ids: list[TokenId] = Field(
        [], description="Ids of the only tokens to generate, as 5,6,7. Unless given: all."
    )
    truncate_prompt_tokens: KeptTokens | None = Field(
        None,
        description="Keeps the prompt's last tokens, so many; -1: as many as there is room for. "
        "Unless given: all, and a prompt that is too long is refused.",
    )
    speculation: Literal["off", "auto", "force"] = Field(
        "auto", description="off: the target alone; force: always wait for the draft."
    )

    def asking(self, prompt: Prompt, n: int = 1, logprobs: int | None = None) -> GenerateRequest:
        """What the flags ask for."""
        return GenerateRequest(
            prompt=prompt,
            model=self.model,
            sampling=self._sampling(),
            seed=self.seed,
            max_tokens=self.max_tokens,
            n=n,
            stop=tuple(self.stop),
            include_stop=self.include_stop,
            skip_special_tokens=self.skip_special_tokens,
            bad_words=tuple(self.bad_words),
            truncate_prompt_tokens=self.truncate_prompt_tokens,
            logprobs=logprobs,
            speculation=Speculation(self.speculation),
        )

    def _sampling(self) -> Sampling:
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            allowed_token_ids=tuple(self.allowed_token_ids),
            constraint=self.constraint(),
        )
