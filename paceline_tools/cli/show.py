"""How outputs look: tokens coloured by where they came from, numbers as JSON or a table."""

import dataclasses
import enum
import itertools
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style
from rich.text import Text

from paceline.client import Generation, Result
from paceline.protocol.generation import Delta, Finished, Started
from paceline.protocol.verdict import Origin, TokenLogprobs
from paceline_tools.cli.word_wrap import WordWrap
from paceline_tools.terminal import safe

STYLES = {
    Origin.ACCEPTED: "green",
    Origin.RECOVERED: "yellow",
    Origin.BONUS: "cyan",
    Origin.TARGET_ONLY: "",
}


class Streamed:
    """One output as it comes; on a terminal in the colours of its tokens' origins.

    There lines are broken between words. Elsewhere it is written as it is.
    """

    def __init__(self, console: Console) -> None:
        """At the beginning of a line."""
        self._console = console
        self._wrap = WordWrap[Style]()

    def show(self, delta: Delta) -> None:
        """A part of it."""
        if not self._console.is_terminal:
            self._console.file.write(delta.text)
            self._console.file.flush()
            return
        for token in delta.tokens:
            style = self._console.get_style(STYLES[token.origin] or "none")
            self._print(self._wrap.add(safe(token.text), style, self._console.width))

    def _print(self, pieces: Iterable[tuple[str, Style]]) -> None:
        runs = itertools.groupby(pieces, key=lambda piece: piece[1])
        segments = [Segment("".join(text for text, _ in run), style) for style, run in runs]
        if segments:
            self._console.print(Segments(segments), end="", soft_wrap=True)


def legend() -> Text:
    """What the colours mean."""
    text = Text()
    for origin, style in STYLES.items():
        text.append(f"{origin.value} ", style=style or "default")
    return text


def summary(finished: Finished) -> str:
    """One line on how an output went."""
    found = statistics(finished)
    return (
        f"[dim]{finished.usage.output_tokens} tokens, {found['tokens_per_s']:.1f}/s, "
        f"first after {found['ttft_ms']:.0f} ms, {found['accepted']} of {found['verified']} "
        f"draft tokens accepted{_of_branches(found['branch_accepted'])}[/]"
    )


def _of_branches(count: int) -> str:
    """What came into the output beside them."""
    return f", {count} of branches" if count else ""


def statistics(finished: Finished) -> dict[str, Any]:
    """Statistics for people and scripts; times in milliseconds."""
    found = finished.statistics
    return {
        "rounds": found.rounds,
        "drafted": found.drafted,
        "verified": found.verified,
        "accepted": found.accepted,
        "acceptance_rate": round(found.acceptance_rate, 4),
        "accepted_by_position": list(found.accepted_by_position),
        "verified_by_position": list(found.verified_by_position),
        "mean_accepted": round(found.mean_accepted, 3),
        "branch_verified": found.branch_verified,
        "branch_accepted": found.branch_accepted,
        "target_only_steps": found.target_only_steps,
        "ttft_ms": round(found.ttft_seconds * 1e3, 2),
        "tokens_per_s": round(finished.tokens_per_second, 3),
        "overhead_ms": round(found.overhead_seconds * 1e3, 3),
        "overhead_parts_ms": {
            part: round(seconds * 1e3, 3)
            for part, seconds in dataclasses.asdict(found.overhead).items()
        },
    }


def as_json(result: Result) -> dict[str, Any]:
    """A call as one object: the first choice, and, where there are more, all of them."""
    choices = [_choice(one.deltas, one.finished) for one in result.choices]
    return _call(choices, result.started, result.prompt_logprobs)


def as_json_so_far(started: Started, generation: Generation, error: str) -> dict[str, Any]:
    """What came of a call before it failed, and why it did.

    As as_json, but a choice that has not ended has null as finish_reason, no usage and no stats.
    """
    choices = [_choice(*one) for one in generation.so_far]
    return {**_call(choices, started, generation.prompt_logprobs), "error": error}


def _call(
    choices: list[dict[str, Any]], started: Started, prompt_logprobs: tuple[TokenLogprobs, ...]
) -> dict[str, Any]:
    shown = {
        **choices[0],
        "seed": started.seed,
        "model": started.model,
        "fingerprint": started.fingerprint,
    }
    if started.sampling is not None:
        shown["sampling"] = dataclasses.asdict(started.sampling, dict_factory=_plain)
    if prompt_logprobs:
        shown["prompt_token_ids"] = list(started.prompt_token_ids)
        shown["prompt_logprobs"] = [dataclasses.asdict(one) for one in prompt_logprobs]
    return {**shown, "choices": choices} if len(choices) > 1 else shown


def _plain(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON has no word for an enumeration's member but its value."""
    return {name: one.value if isinstance(one, enum.Enum) else one for name, one in fields}


def _choice(deltas: tuple[Delta, ...], finished: Finished | None) -> dict[str, Any]:
    tokens = [token for delta in deltas for token in delta.tokens]
    shown: dict[str, Any] = {
        "text": "".join(delta.text for delta in deltas),
        "token_ids": [token.id for token in tokens],
        **_ending(finished),
    }
    logprobs = [dataclasses.asdict(one.logprobs) for one in tokens if one.logprobs]
    return {**shown, "logprobs": logprobs} if logprobs else shown


def _ending(finished: Finished | None) -> dict[str, Any]:
    if finished is None:
        return {"finish_reason": None}
    shown: dict[str, Any] = {
        "finish_reason": finished.finish_reason.value,
        "usage": dataclasses.asdict(finished.usage),
        "stats": statistics(finished),
    }
    for name in ("stop_string", "stop_token_id"):
        if (value := getattr(finished, name)) is not None:
            shown[name] = value
    return shown
