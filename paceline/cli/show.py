"""How outputs look: tokens coloured by where they came from, numbers as JSON or a table."""

from typing import Any

from rich.console import Console
from rich.text import Text

from paceline.client import Result
from paceline.generation import Delta, Finished
from paceline.session import Origin

STYLES = {
    Origin.ACCEPTED: "green",
    Origin.RECOVERED: "yellow",
    Origin.BONUS: "cyan",
    Origin.PLAIN: "",
}


def show_delta(console: Console, delta: Delta) -> None:
    """Print a delta's text; on a terminal in the colours of its tokens' origins."""
    for token in delta.tokens:
        console.print(
            Text(token.text, style=STYLES[token.origin]), end="", soft_wrap=True, highlight=False
        )


def legend() -> Text:
    """What the colours mean."""
    text = Text()
    for origin, style in STYLES.items():
        text.append(f"{origin.value} ", style=style or "default")
    return text


def statistics(finished: Finished) -> dict[str, Any]:
    """Statistics for people and scripts; times in milliseconds."""
    found = finished.statistics
    return {
        "rounds": found.rounds,
        "drafted": found.drafted,
        "verified": found.verified,
        "accepted": found.accepted,
        "acceptance_rate": round(found.acceptance_rate, 4),
        "accepted_by_place": list(found.accepted_by_place),
        "verified_by_place": list(found.verified_by_place),
        "mean_accepted": round(found.mean_accepted, 3),
        "plain_steps": found.plain_steps,
        "ttft_ms": round(found.ttft_seconds * 1e3, 2),
        "tokens_per_s": round(finished.tokens_per_second, 3),
        "overhead_ms": round(found.overhead_seconds * 1e3, 3),
    }


def as_json(result: Result) -> dict[str, Any]:
    """A whole output as one object."""
    usage = result.finished.usage
    return {
        "text": result.text,
        "token_ids": list(result.token_ids),
        "finish_reason": result.finished.finish_reason.value,
        "seed": result.started.seed,
        "model": result.started.model,
        "fingerprint": result.started.fingerprint,
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "output_tokens": usage.output_tokens,
            "cached_tokens": usage.cached_tokens,
        },
        "stats": statistics(result.finished),
    }
