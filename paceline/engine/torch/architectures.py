"""Which models are served, by what their configs say."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from paceline.engine.torch.attention import NAME
from paceline.engine.torch.text_part import text_config
from paceline.errors import FailedPrecondition, PacelineError, in_a_line

ATTENTION_LAYERS = {"full_attention", "sliding_attention"}
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")
"""What configs call the most positions that a model is made for."""


@contextlib.contextmanager
def refusing(config: Any, what: str) -> Iterator[None]:
    """Make whatever fails within FailedPrecondition: of a model all may be wrong."""
    try:
        yield
    except PacelineError:
        raise
    except Exception as error:
        raise FailedPrecondition(
            f"model type {config.model_type!r} {_reason(config, what, error)}"
        ) from error


def _reason(config: Any, what: str, error: Exception) -> str:
    """What is wrong, in a line."""
    kind = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(text_config(config)), None)
    if error.args == (NAME,) or not getattr(kind, "_supports_attention_backend", True):
        return f"{what}: it attends by code of its own"
    if isinstance(error, KeyError):
        return f"{what}: its files name {error}, which transformers does not know, or lack it"
    return f"{what}: {in_a_line(error, kind=not isinstance(error, NotImplementedError))}"


def read_config(folder: Path) -> Any:
    """A folder's config.json; FailedPrecondition where it is none of a model that is served."""
    if not (folder / "config.json").is_file():
        adapter = (folder / "adapter_config.json").is_file()
        what = "is an adapter: merge it into its model first" if adapter else "has no config.json"
        raise FailedPrecondition(f"{folder} {what}")
    try:
        config = AutoConfig.from_pretrained(folder)
    except Exception as error:
        reason = in_a_line(error, kind=False)
        raise FailedPrecondition(f"{folder}/config.json cannot be read: {reason}") from error
    _refuse_other_than_attention(config)
    return config


def max_positions(config: Any) -> int:
    """Most tokens of a stream; FailedPrecondition where the config names none."""
    for name in POSITIONS:
        found = getattr(config, name, None)
        if isinstance(found, int) and found > 0:
            return found
    raise FailedPrecondition(
        f"model type {config.model_type!r} has no most positions: its config needs {POSITIONS[0]}"
    )


def _refuse_other_than_attention(config: Any) -> None:
    text = text_config(config)
    layers = set(getattr(text, "layer_types", None) or ())
    other = layers - ATTENTION_LAYERS
    recurrent = not hasattr(text, "num_attention_heads") or not hasattr(text, "vocab_size")
    # Only classes that may be either have the field; others have it of a file that says all.
    may_encode = hasattr(type(text), "is_decoder") and not text.is_decoder
    encodes = config.is_encoder_decoder or may_encode
    if encodes or other or recurrent:
        kind = ", ".join(sorted(other)) or ("an encoder" if encodes else "another architecture")
        raise FailedPrecondition(
            f"model type {config.model_type!r} has {kind}; "
            "only decoders of attention layers are served"
        )
