"""What is measured: outputs and when their tokens came. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from paceline.errors import InvalidArgument

PROMPTS = Path(__file__).parent / "prompts.jsonl"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One thing to ask, and its kind: code, edit, chat, prose or the user's own."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One output of one variant, seen from outside.

    seconds: when each of token_ids came, since it was asked for. verified and accepted: draft
    tokens by draft position.
    """

    variant: str
    prompt: Prompt
    token_ids: tuple[int, ...]
    seconds: tuple[float, ...]
    verified: tuple[int, ...] = ()
    accepted: tuple[int, ...] = ()
    overhead_seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Of the whole output, its prompt's prefill included."""
        return len(self.token_ids) / self.seconds[-1]

    @property
    def first_token_seconds(self) -> float:
        """Time to the first token."""
        return self.seconds[0]

    @property
    def gaps(self) -> list[float]:
        """Times between tokens; 0 for tokens that came together."""
        return [after - before for before, after in pairwise(self.seconds)]


def read_prompts(path: Path) -> list[Prompt]:
    """Prompts from JSONL of {"kind", "prompt"}, or from text, one a line.

    Raises InvalidArgument for a file without prompts.
    """
    try:
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InvalidArgument.of("--prompts", str(path), f"valid UTF-8: {error}") from None
    except OSError as error:
        limit = f"a file that can be read: {error.strerror}"
        raise InvalidArgument.of("--prompts", str(path), limit) from None
    if not lines:
        raise InvalidArgument.of("--prompts", str(path), "a file with at least one prompt")
    return [_prompt(line, number) for number, line in enumerate(lines, start=1)]


def choose(prompts: Sequence[Prompt], kinds: Sequence[str]) -> list[Prompt]:
    """Those of some kinds, all unless any is given; InvalidArgument when there is none."""
    chosen = [one for one in prompts if not kinds or one.kind in kinds]
    if not chosen:
        known = ", ".join(dict.fromkeys(one.kind for one in prompts))
        raise InvalidArgument.of("--kinds", ", ".join(kinds), f"some of {known}")
    return chosen


def _prompt(line: str, number: int) -> Prompt:
    if not line.lstrip().startswith("{"):
        return Prompt("text", line)
    try:
        entry = json.loads(line)
        return Prompt(str(entry.get("kind", "text")), str(entry["prompt"]))
    except (ValueError, KeyError) as error:
        limit = 'it must be text, or JSON with "prompt"'
        raise InvalidArgument(f"line {number} of --prompts is no prompt: {limit}") from error
