"""A model's generation_config.json: what ends its outputs and how it likes to sample; no torch.

As vLLM takes it: only what the file states counts, none of transformers' own defaults.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from paceline.engine.torch.tokenizer_files import read_json
from paceline.errors import InvalidArgument
from paceline.protocol.sampling import Sampling

_log = structlog.get_logger(__name__)

_STATED = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
"""Fields of Sampling that the file has by the same names."""
_MOST_TOP_K = 2**32 - 1


def read_generation_config(folder: Path) -> dict[str, Any]:
    """What the file holds, nothing without one; FailedPrecondition where it is no JSON object."""
    return read_json(folder / "generation_config.json")


def default_sampling(content: Mapping[str, Any]) -> Sampling:
    """Sampling as the file states it; a value that no request may have is logged and left out.

    do_sample false is greedy, whatever the temperature beside it.
    """
    kept: dict[str, Any] = {}
    for name in _STATED:
        value = content.get(name)
        if value is not None and (reason := _wrong(name, value)):
            _log.warning("generation_config.json's value is left out", reason=reason)
        elif value is not None:
            kept[name] = value
    if content.get("do_sample") is False:
        kept["temperature"] = 0.0
    return Sampling(**kept)


def _wrong(name: str, value: Any) -> str:
    """Why `value` is none that a request may have; empty where it is one."""
    kinds: Any = int if name == "top_k" else int | float
    if isinstance(value, bool) or not isinstance(value, kinds):
        kind = "a whole number" if name == "top_k" else "a number"
        return str(InvalidArgument.of(name, value, kind))
    if name == "top_k" and not 0 <= value <= _MOST_TOP_K:
        return str(InvalidArgument.of(name, value, f"from 0 to {_MOST_TOP_K}"))
    try:
        Sampling(**{name: value}).validate()
    except InvalidArgument as error:
        return str(error).removeprefix("sampling.")
    return ""


def eos_token_ids(content: Mapping[str, Any], config: Any, text: Any) -> tuple[int, ...]:
    """The file's, else those of the model's config, else of its text part's; one id or a list.

    Those that are no ids of the vocabulary are left out: no output would ever end with them.
    """
    named = [getattr(one, "eos_token_id", None) for one in (config, text)]
    for found in (content.get("eos_token_id"), *named):
        if ids := _in_vocabulary(found, text.vocab_size):
            return ids
    return ()


def _in_vocabulary(found: Any, size: int) -> tuple[int, ...]:
    named = found if isinstance(found, list | tuple) else [found]
    given = [token for token in named if token is not None]
    kept = [token for token in given if type(token) is int and 0 <= token < size]
    if len(kept) < len(given):
        left = [token for token in given if token not in kept]
        _log.warning("end tokens are not in the vocabulary", token_ids=left, vocabulary_size=size)
    return tuple(dict.fromkeys(kept))
