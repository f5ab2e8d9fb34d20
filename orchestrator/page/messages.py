"""What the page's script sends and gets, as JSON: to values and back. Pure.

A stream is a line of JSON an event: started, then delta for each verdict, then finished, or error
wherever it ends. Times in it are seconds since the request came.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from orchestrator.serving.output import TimedDelta
from orchestrator.serving.stream_statistics import TimedStep
from paceline.errors import InvalidArgument
from paceline.protocol.generation import (
    ChatMessage,
    Finished,
    GenerateEvent,
    GenerateRequest,
    Model,
    Speculation,
    Started,
    Token,
)
from paceline.protocol.proposal import Drafter
from paceline.protocol.sampling import Sampling
from paceline.protocol.status import DraftPoolStatus, Role, Status
from paceline.rpc.wire_ranges import check_sendable

_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "prompt": ((str,), "text"),
    "chat": ((bool,), "true or false"),
    "model": ((str,), "text"),
    "speculation": ((str,), "text"),
    "max_tokens": ((int,), "a whole number"),
    "system": ((str,), "text"),
    "temperature": ((int, float), "a number"),
    "top_p": ((int, float), "a number"),
    "top_k": ((int,), "a whole number"),
    "min_p": ((int, float), "a number"),
    "seed": ((int, str), "a whole number"),
    "cache_salt": ((str,), "text"),
}
"""Fields of a request, and what each may be. A seed may be text: JavaScript's end at 2**53."""
_SAMPLING = ("temperature", "top_p", "top_k", "min_p")
NGRAM = "ngram"
"""The page's own word for accepted tokens of prompt lookup."""


def request_of(body: bytes) -> GenerateRequest:
    """What is asked for; raises InvalidArgument naming the first field that is wrong."""
    asked = _fields(body)
    sampling: dict[str, Any] = {name: asked.get(name) for name in _SAMPLING}
    request = GenerateRequest(
        _prompt(asked),
        model=asked.get("model", ""),
        sampling=Sampling(**sampling),
        seed=_seed(asked.get("seed")),
        max_tokens=asked.get("max_tokens"),
        speculation=_speculation(asked.get("speculation", Speculation.AUTO.value)),
        cache_salt=asked.get("cache_salt", ""),
    )
    check_sendable(request)
    return request


def _prompt(asked: Mapping[str, Any]) -> str | tuple[ChatMessage, ...]:
    """Text, or the messages of a chat; text where it is empty, which is refused as that."""
    prompt: str = asked.get("prompt", "")
    if not (asked.get("chat", False) and prompt):
        return prompt
    said = {"system": asked.get("system", ""), "user": prompt}
    return tuple(ChatMessage(role, content) for role, content in said.items() if content)


def _fields(body: bytes) -> dict[str, Any]:
    """Those that say something."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidArgument("the body is no JSON; it must be an object with a prompt") from None
    if not isinstance(asked, dict):
        raise InvalidArgument("the body is no object; it must be one with a prompt")
    given = {name: value for name, value in asked.items() if value is not None}
    for name, value in given.items():
        _check(name, value)
    return given


def _check(name: str, value: object) -> None:
    if name not in _TYPES:
        raise InvalidArgument.of("a field of the body", name, f"one of {', '.join(_TYPES)}")
    types, limit = _TYPES[name]
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise InvalidArgument.of(name, value, limit)


def _seed(seed: int | str | None) -> int | None:
    if not isinstance(seed, str):
        return seed
    if not (seed.isascii() and seed.isdecimal() and len(seed) <= 20):
        raise InvalidArgument.of("seed", seed, "a whole number")
    return int(seed)


def _speculation(word: str) -> Speculation:
    words = [one.value for one in Speculation]
    if word not in words:
        raise InvalidArgument.of("speculation", word, f"one of {', '.join(words)}")
    return Speculation(word)


def event_line(event: GenerateEvent, began: float) -> bytes:
    """A line for an event; none for what the page does not show. began: when the request came."""
    match event:
        case Started():
            return _json_line("started", _started(event))
        case TimedDelta():
            return _json_line("delta", _delta(event, began))
        case Finished():
            return _json_line("finished", _finished(event))
    return b""


def error_line(kind: str, message: str) -> bytes:
    """A line for what ended a stream early."""
    return _json_line("error", {"kind": kind, "message": message})


def _json_line(name: str, value: object) -> bytes:
    """One line: an object of one name."""
    return json.dumps({name: value}).encode() + b"\n"


def _started(started: Started) -> dict[str, object]:
    return {
        "request_id": started.request_id,
        "model": started.model,
        "seed": str(started.seed),
        "prompt_tokens": len(started.prompt_token_ids),
        "max_tokens": started.max_tokens,
    }


def _delta(delta: TimedDelta, began: float) -> dict[str, object]:
    tokens = [
        {"id": token.id, "origin": _origin(index, token, delta.step), "text": token.text}
        for index, token in enumerate(delta.tokens)
    ]
    return {"index": delta.token_index, "tokens": tokens, "step": _step(delta.step, began)}


def _origin(index: int, token: Token, step: TimedStep) -> str:
    return NGRAM if step.drafter(index, token.id) is Drafter.NGRAM else token.origin.value


def _step(step: TimedStep, began: float) -> dict[str, object]:
    return {
        "began": step.began_seconds - began,
        "arrived": step.arrived_seconds - began,
        "draft_wait": step.draft_wait_seconds,
        "forward": step.step_seconds,
        "verified": step.verified,
        "accepted": step.accepted,
    }


def _finished(finished: Finished) -> dict[str, object]:
    return {
        "finish_reason": finished.finish_reason.value,
        "output_tokens": finished.usage.output_tokens,
        "tokens_per_second": finished.tokens_per_second,
        "statistics": asdict(finished.statistics),
    }


def status_json(status: Status, models: Sequence[Model], hindrance: str) -> bytes:
    """What the strip above the page shows."""
    targets = status.of(Role.TARGET)
    told: Mapping[str, object] = {
        "models": [asdict(model) for model in models],
        "hindrance": hindrance,
        "running": status.totals.running,
        "waiting": status.totals.waiting,
        "targets": {"all": len(targets), "reachable": sum(one.reachable for one in targets)},
        "pools": [_pool(pool) for pool in status.draft_pools],
    }
    return json.dumps(told).encode()


def _pool(pool: DraftPoolStatus) -> dict[str, object]:
    speedup = pool.speedup
    known = speedup is not None and all(map(math.isfinite, asdict(speedup).values()))
    return {
        "name": pool.name,
        "state": pool.state.value,
        "reason": pool.reason,
        "acceptance_rate": pool.acceptance_rate,
        "speedup": asdict(speedup) if speedup is not None and known else None,
    }
