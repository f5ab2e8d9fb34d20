"""Whole outputs."""

from dataclasses import dataclass

from paceline.protocol.generation import Delta, Finished, Started, Token
from paceline.protocol.verdict import TokenLogprobs


@dataclass(frozen=True, slots=True)
class Choice:
    """A whole output."""

    deltas: tuple[Delta, ...]
    finished: Finished

    @property
    def tokens(self) -> tuple[Token, ...]:
        """Its tokens."""
        return tuple(token for delta in self.deltas for token in delta.tokens)

    @property
    def text(self) -> str:
        """Its text."""
        return "".join(delta.text for delta in self.deltas)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Ids of its tokens."""
        return tuple(token.id for token in self.tokens)


@dataclass(frozen=True, slots=True)
class Result:
    """All that a call gave. What is said of one output is the first choice's.

    prompt_logprobs: of the prompt's tokens from the second one on, when asked for.
    """

    started: Started
    choices: tuple[Choice, ...]
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()

    @property
    def deltas(self) -> tuple[Delta, ...]:
        """The output's deltas."""
        return self.choices[0].deltas

    @property
    def finished(self) -> Finished:
        """How the output ended."""
        return self.choices[0].finished

    @property
    def text(self) -> str:
        """The output's text."""
        return self.choices[0].text

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The output's tokens."""
        return self.choices[0].token_ids
