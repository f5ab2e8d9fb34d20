"""What kind of model a folder holds: a decoder that is served, or what else."""

import re
from pathlib import Path
from typing import Any

from paceline.errors import FailedPrecondition, listed, shown
from paceline.model_files.json_files import AnyObject, Config, read_json
from paceline.model_files.model_types import (
    NOT_TRIED,
    SERVED,
    SERVED_TEXT,
    nearest_served,
    outcomes,
)

ATTENTION_LAYERS = {"full_attention", "sliding_attention"}
_DEQUANTIZED = {"mxfp4"}
"""Formats that transformers turns back into bf16 while it loads."""
_METHODS = {"gptq": "GPTQ", "awq": "AWQ", "fp8": "FP8", "bitsandbytes": "bitsandbytes"}
_EMBEDDINGS = ("modules.json", "config_sentence_transformers.json", "1_Pooling")
_FOLDER = "one has config.json, model.safetensors and tokenizer.json"
_OTHERS = {
    "model_index.json": "holds a pipeline of diffusers, not a language model",
    **dict.fromkeys(_EMBEDDINGS, "holds a model of embeddings; it generates no text"),
    "params.json": "has no config.json: it is in its makers' own format; fetch the files that "
    f"transformers reads: {_FOLDER}",
}
"""By a file that such a folder has."""
_SIZES = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "max_position_embeddings"),
)
_NO_TEXT = re.compile(r"(Classification|Answering|MaskedLM|MultipleChoice|Reward(Model)?)$")
"""What architectures without a head for tokens end in."""
_SEE = "docs/models.md has all"


def check_config(folder: Path, *, any_weights: bool = False) -> None:
    """Raise FailedPrecondition where config.json is missing, wrong or of no model served here.

    any_weights: leave it to another engine than ours to refuse weights that are quantized.
    """
    path = folder / "config.json"
    _refuse_adapter(folder)
    if not path.exists():
        names = {one.name for one in folder.iterdir()}
        names |= {f"{one.parent.name}/config.json" for one in folder.glob("*/config.json")}
        raise FailedPrecondition(f"{folder} {without_config(names)}")
    config = read_json(path, Config)
    _refuse_sizes(path, config)
    if not any_weights:
        _refuse_quantized(folder, config.quantization_config)
    _refuse_kinds(folder, config)
    _refuse_model_type(folder, config)


def _refuse_adapter(folder: Path) -> None:
    path = folder / "adapter_config.json"
    if not path.exists() or any(folder.glob("model*.safetensors")):
        return
    base = read_json(path, AnyObject).root.get("base_model_name_or_path")
    of = f" of {base}" if isinstance(base, str) else ""
    load = f"AutoPeftModelForCausalLM.from_pretrained('{folder}').merge_and_unload()"
    code = f"from peft import AutoPeftModelForCausalLM; {load}.save_pretrained('{folder}-merged')"
    raise FailedPrecondition(
        f"{folder} is a LoRA adapter{of}, not a whole model; merge it first, with peft: "
        f'python -c "{code}", then copy the tokenizer\'s files'
    )


def without_config(names: set[str]) -> str:
    """What files without config.json are, and what to give instead. names: within the folder."""
    ggufs = [name for name in names if name.endswith(".gguf") and "mmproj" not in name]
    inner = [name.removesuffix("/config.json") for name in names if name.endswith("/config.json")]
    tops = {name.partition("/")[0] for name in names}
    if ggufs:
        return f"has no config.json, but .gguf files; give one of them: {listed(ggufs)}"
    if inner:
        return f"has no config.json, but its folders have; give one of them: {listed(inner)}"
    for name, what in _OTHERS.items():
        if name in tops:
            return what
    return f"has no config.json, so it is no model folder; {_FOLDER}"


def _refuse_sizes(path: Path, config: Config) -> None:
    for part, root in ((config, ""), (config.text_config, "text_config.")):
        for name in _SIZES:
            found = getattr(part, name, None)
            if isinstance(found, int) and found < 1:
                raise FailedPrecondition(
                    f"{path} cannot be read: {root}{name} is {found}; it must be at least 1"
                )


def _refuse_quantized(folder: Path, found: dict[str, Any] | None) -> None:
    if found is None or (method := found.get("quant_method")) in _DEQUANTIZED:
        return
    name = _METHODS.get(str(method), shown(method))
    bits = found.get("bits") or found.get("w_bit")
    how = f"{name} in {bits} bits" if bits else name
    raise FailedPrecondition(
        f"{folder} is quantized with {how}, which is not read; take the model that it was made of, "
        "or a .gguf file (a draft is quantized while it is loaded: --weights int4 or int8)"
    )


def _refuse_kinds(folder: Path, config: Config) -> None:
    """Refuse what generates no text, or not as a decoder does."""
    names = config.architectures or []
    shown_names = ", ".join(names) or config.model_type
    if config.is_encoder_decoder:
        what = "is an encoder-decoder; only decoders are served"
    elif _is_embedder(folder, names):
        what = "is a model of embeddings; it generates no text"
    elif names and all(map(_NO_TEXT.search, names)):
        what = "predicts no tokens; take a model whose architecture ends in ForCausalLM"
    else:
        return
    raise FailedPrecondition(f"{folder} ({shown_names}) {what}. {_SEE}")


def _is_embedder(folder: Path, architectures: list[str]) -> bool:
    is_body = any(name.endswith("Model") for name in architectures)
    return is_body and any((folder / name).exists() for name in _EMBEDDINGS)


def _refuse_model_type(folder: Path, config: Config) -> None:
    name = config.model_type
    if name is None:
        raise FailedPrecondition(f"{folder}/config.json cannot be read: model_type is missing")
    outcome = outcomes().get(name, "transformers has no decoder of that name")
    # By its name such a model mixes layers; one that names none but attention may be served.
    layers = {*(config.layer_types or ())}
    is_attention = bool(layers) and layers <= ATTENTION_LAYERS
    if outcome in {SERVED, SERVED_TEXT} or outcome.startswith(NOT_TRIED) or is_attention:
        return
    raise FailedPrecondition(
        f"{folder} has model type {shown(name)}, which is not served: {outcome}; "
        f"nearest: {nearest_served(name)}. {_SEE}"
    )
