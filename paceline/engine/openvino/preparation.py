"""Makes of a draft's folder what OpenVINO runs, and measures it beside our own engine, once.

A process of its own: it needs torch and the whole model in memory, which the draft does not.
python -m paceline.engine.openvino.preparation FOLDER FILE --threads N: makes the file where it is
missing, and prints the comparison as JSON. It ends when its standard input does.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from paceline.engine.openvino import timing
from paceline.engine.openvino.agreement import share_right, written
from paceline.engine.openvino.child import answer_of
from paceline.engine.openvino.measurements import Comparison, Measured
from paceline.engine.openvino.prepared import (
    GROUP,
    DraftFacts,
    DraftShape,
    metadata,
)
from paceline.engine.openvino.quantization import quantize
from paceline.engine.openvino.timing import choices, timed_steps
from paceline.engine.torch.architectures import read_config
from paceline.engine.torch.fused import Layer, fused_layer, knows
from paceline.engine.torch.linear import FEW_ROWS
from paceline.engine.torch.loading import LoadedModel, load_model, read_model
from paceline.engine.torch.padding import NO_PADDING
from paceline.engine.torch.runner import ModelRunner
from paceline.engine.torch.text_part import text_config
from paceline.errors import FailedPrecondition, PacelineError, in_a_line
from paceline.protocol.sampling import Sampling

DTYPE = torch.bfloat16


class KeptLinear:
    """A weight [out, in] and its bias, to be quantized."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Keep them."""
        self.weight, self.bias = weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        """As nn.Linear."""
        return functional.linear(x, self.weight, self.bias)


def prepare(folder: Path, file: Path, loaded: LoadedModel) -> None:
    """Write the file. Raises FailedPrecondition for a model that has no such graph."""
    model = read_model(folder, DTYPE, "cpu", read_config(folder))
    if not knows(model) or loaded.rope_length.matters:
        raise FailedPrecondition(f"model type {model.config.model_type!r} has no graph here")
    config, body = text_config(model.config), model.get_decoder()
    layers = [fused_layer(n, one, config, KeptLinear) for n, one in enumerate(body.layers)]
    heads = config.num_attention_heads
    shape = DraftShape(
        heads=heads,
        kv_heads=config.num_key_value_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        epsilon=config.rms_norm_eps,
        windows=tuple(layer.window or 0 for layer in layers),
        rope_scaling=float(getattr(body.rotary_emb, "attention_scaling", 1.0)),
    )
    tensors = dict(_tensors(model, layers))
    file.parent.mkdir(parents=True, exist_ok=True)
    made = file.with_name(f".{file.name}-{os.getpid()}")
    try:
        save_file(tensors, made, metadata(shape, _facts(loaded)))
        made.rename(file)
    finally:
        made.unlink(missing_ok=True)


def _facts(loaded: LoadedModel) -> DraftFacts:
    said = asdict(loaded.default_sampling)
    return DraftFacts(
        weights_hash=loaded.weights_hash,
        vocabulary_hash=loaded.vocabulary_hash,
        vocabulary_size=loaded.vocabulary_size,
        max_positions=loaded.max_positions,
        eos_token_ids=loaded.eos_token_ids,
        default_sampling={
            name: value for name, value in said.items() if value != getattr(Sampling(), name)
        },
    )


def _tensors(model: PreTrainedModel, layers: list[Layer]) -> Iterator[tuple[str, Tensor]]:
    """All that the graph is made of, by name."""
    body: Any = model.get_decoder()
    head: Any = model.get_output_embeddings()
    yield "embeddings", body.embed_tokens.weight.detach().view(torch.uint16)
    yield "norm", body.norm.weight.detach().float()
    yield "inverse_frequencies", body.rotary_emb.inv_freq.float()
    yield from _quantized("head", head.weight.detach(), None)
    for index, layer in enumerate(layers):
        norms = {
            "input_norm": layer.input_norm,
            "mlp_norm": layer.mlp_norm,
            "query_norm": layer.query_norm,
            "key_norm": layer.key_norm,
        }
        yield from (
            (f"{index}.{name}", norm.float()) for name, norm in norms.items() if norm is not None
        )
        for name in ("qkv", "out", "gate_up", "down"):
            linear: KeptLinear = getattr(layer, name)
            yield from _quantized(f"{index}.{name}", linear.weight, linear.bias)


def _quantized(name: str, weight: Tensor, bias: Tensor | None) -> Iterator[tuple[str, Tensor]]:
    if weight.shape[1] % GROUP or weight.shape[0] % 2:
        limit = f"its columns a multiple of {GROUP} and its rows even"
        raise FailedPrecondition(f"{name} has shape {tuple(weight.shape)}; it must have {limit}")
    found = quantize(weight)
    yield f"{name}.codes", found.codes
    yield f"{name}.scales", found.scales
    yield f"{name}.zeros", found.zeros
    if bias is not None:
        yield f"{name}.bias", bias.float()


def measure(file: Path, loaded: LoadedModel, threads: int) -> Comparison:
    """Steps of one token a session: ours, OpenVINO's, OpenVINO's, ours; and what is right."""
    own = ModelRunner(loaded.forward, loaded.device, NO_PADDING, loaded.rope_length.of)
    texts, ours_first = written(own, loaded.eos_token_ids[0], FEW_ROWS)
    right = [choices(own, text) for text in texts]  # so many rows have weights in bfloat16
    ours = [timed_steps(own)]
    theirs = [_of_openvino(file, threads, texts), _of_openvino(file, threads, [])]
    ours += [timed_steps(own)]
    return Comparison(
        Measured(_medians(ours), share_right(ours_first, right)),
        Measured(
            _medians([one["seconds"] for one in theirs]), share_right(theirs[0]["choices"], right)
        ),
    )


def _medians(runs: list[list[list[float]]]) -> tuple[float, ...]:
    """Of several runs, by number of sessions."""
    return tuple(
        statistics.median(itertools.chain(*seconds)) for seconds in zip(*runs, strict=True)
    )


def _of_openvino(file: Path, threads: int, texts: list[list[int]]) -> Any:
    arguments = (str(file), f"--threads={threads}", f"--texts={json.dumps(texts)}")
    return answer_of(timing.__name__, *arguments, refused="OpenVINO does not run it")


def _end_with_parent() -> None:
    """End as soon as standard input does: who waits for this process is gone."""
    os.read(0, 1)
    os._exit(1)


def main() -> None:
    """Run it; what is wrong is the last line of standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        loaded = load_model(options.folder, DTYPE, "cpu", "int4")
        if not options.file.exists():
            prepare(options.folder, options.file, loaded)
        found = measure(options.file, loaded, options.threads)
    except PacelineError as error:
        sys.exit(str(error))
    except Exception as error:
        sys.exit(in_a_line(error))
    print(json.dumps(asdict(found)))  # noqa: T201  for who called it


if __name__ == "__main__":
    main()
