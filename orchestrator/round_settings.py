"""How many draft tokens a round has, and how long it waits for them."""

from typing import Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from paceline.protocol.limits import MAX_BRANCHES
from paceline.settings import ServerSettings

DRAFT_LENGTH, MAX_DRAFT_LENGTH, MAX_BRANCH_TOKENS = 4, 16, 16
"""Draft tokens in a round, unless told otherwise: where forced; at most, where not; and beside."""
MOST_DRAFT_LENGTH = 32
"""What neither may be over."""
DRAFT_WAIT_SECONDS = 1.0


def check_draft_lengths(length: int, most: int) -> None:
    """Raise ValueError when more draft tokens would be forced than a round may have."""
    if length > most:
        limit = f"at most --max-draft-length, {most}"
        raise PydanticCustomError(
            "lengths",
            "--draft-length is {length}; it must be {limit}",
            {"length": length, "limit": limit},
        )


class RoundSettings(ServerSettings):
    """Of the rounds of each stream."""

    draft_length: int = Field(
        DRAFT_LENGTH,
        ge=0,
        le=MOST_DRAFT_LENGTH,
        description="Draft tokens verified in a round when a client forces speculation; 0 is the "
        "target alone for all.",
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
        description="Most draft tokens of branches verified beside them in a round; 0: none. A "
        "client that forces speculation gets none.",
    )
    lookahead: int | None = Field(
        None,
        ge=0,
        le=256,
        description="Tokens the draft may be ahead of what is committed. Unless given: none where "
        "draft and target share a machine, to take turns; elsewhere about two rounds.",
    )
    draft_wait_seconds: float = Field(
        DRAFT_WAIT_SECONDS,
        ge=0,
        le=3600,
        description="How long a round waits for its draft tokens, forced or not. A draft that "
        "misses this is not waited for again before it delivers.",
    )

    @model_validator(mode="after")
    def _has_lengths_that_fit(self) -> Self:
        """Of two lengths that were both given; otherwise the default is no limit to the other."""
        given = {"draft_length", "max_draft_length"} <= self.model_fields_set
        if given:
            check_draft_lengths(self.draft_length, self.max_draft_length)
        return self
