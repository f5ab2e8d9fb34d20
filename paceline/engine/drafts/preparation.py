"""Makes of a draft's folder what engines of prepared drafts run, and measures all engines, once.

A process of its own: it needs torch and the whole model in memory, which the draft does not.
python -m paceline.engine.drafts.preparation FOLDER --threads N: makes the files that are missing,
and prints the comparison as JSON. It ends when its standard input does.
"""

import argparse
import functools
import itertools
import json
import os
import platform
import statistics
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from paceline.engine.drafts import timing
from paceline.engine.drafts.agreement import share_right, written
from paceline.engine.drafts.child import MEASURING_SECONDS, answer_of
from paceline.engine.drafts.engines import TORCH, possible
from paceline.engine.drafts.measurements import Comparison, Measured, prepared_file
from paceline.engine.drafts.timing import choices, timed_steps
from paceline.engine.prepared.draft_file import DraftFacts, DraftShape, metadata
from paceline.engine.prepared.interface import PreparedEngine
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
Quantize = Callable[[str, Tensor, Tensor | None], Mapping[str, Tensor]]
"""See PreparedEngine.quantized."""


class KeptLinear:
    """A weight [out, in] and its bias, to be quantized."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Keep them."""
        self.weight, self.bias = weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        """As nn.Linear."""
        return functional.linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class DraftSource:
    """A draft's model as it was read, of which each engine makes its file."""

    model: PreTrainedModel
    layers: list[Layer]
    shape: DraftShape
    facts: DraftFacts


def read_source(folder: Path, loaded: LoadedModel) -> DraftSource:
    """Read the model. Raises FailedPrecondition for one that no engine of prepared drafts runs."""
    model = read_model(folder, DTYPE, "cpu", read_config(folder))
    if not knows(model) or loaded.rope_length.matters:
        raise FailedPrecondition(f"model type {model.config.model_type!r} is none of Llama's")
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
    return DraftSource(model, layers, shape, _facts(loaded))


def prepare(source: DraftSource, file: Path, engine: PreparedEngine) -> None:
    """Write the engine's file. Raises FailedPrecondition for a model that it does not run."""
    engine.check(source.shape)
    tensors = dict(_tensors(source, engine.quantized))
    file.parent.mkdir(parents=True, exist_ok=True)
    # Pods that share a volume have the same process ids.
    made = file.with_name(f".{file.name}-{platform.node()}-{os.getpid()}")
    try:
        save_file(tensors, made, metadata(source.shape, source.facts))
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


def _tensors(source: DraftSource, quantized: Quantize) -> Iterator[tuple[str, Tensor]]:
    """All that a draft is made of, by name."""
    body: Any = source.model.get_decoder()
    head: Any = source.model.get_output_embeddings()
    yield "embeddings", body.embed_tokens.weight.detach().view(torch.uint16)
    yield "norm", body.norm.weight.detach().float()
    yield "inverse_frequencies", body.rotary_emb.inv_freq.float()
    yield from quantized("head", head.weight.detach(), None).items()
    for index, layer in enumerate(source.layers):
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
            yield from quantized(f"{index}.{name}", linear.weight, linear.bias).items()


def measure(
    folder: Path, loaded: LoadedModel, engines: Sequence[PreparedEngine], threads: int
) -> Comparison:
    """Steps of one token a session, of all in turn and then in reverse order; and what is right.

    An engine that fails meanwhile is left out.
    """
    own = ModelRunner(loaded.forward, loaded.device, NO_PADDING, loaded.rope_length.of)
    texts, ours_first = written(own, loaded.eos_token_ids[0], FEW_ROWS)
    right = [choices(own, text) for text in texts]  # so many rows have weights in bfloat16
    ours = [timed_steps(own)]
    found, failed = _in_turn(folder, engines, threads, texts)
    ours += [timed_steps(own)]
    measured = {TORCH: Measured(_quarters(ours), share_right(ours_first, right))}
    for name, runs in found.items():
        seconds = _quarters([one["seconds"] for one in runs])
        measured[name] = Measured(seconds, share_right(runs[0]["choices"], right))
    return Comparison(measured, failed, whole=not loaded.quantized_bytes)


def _in_turn(
    folder: Path, engines: Sequence[PreparedEngine], threads: int, texts: list[list[int]]
) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """What each engine answered, in turn and in reverse order; and why others answered nothing."""
    found: dict[str, list[Any]] = {engine.name: [] for engine in engines}
    failed: dict[str, str] = {}
    for name in (*found, *reversed(found)):
        if name in failed:
            continue
        try:
            answer = _in_its_process(name, prepared_file(folder, name), threads, texts)
            found[name].append(answer)
        except FailedPrecondition as error:
            failed[name] = str(error)
    return {name: runs for name, runs in found.items() if name not in failed}, failed


def _quarters(runs: list[list[list[float]]]) -> tuple[float, ...]:
    """The lower quartile of several runs, by number of sessions: others may want the cores, too."""
    return tuple(
        statistics.quantiles(itertools.chain(*seconds))[0] for seconds in zip(*runs, strict=True)
    )


def _in_its_process(engine: str, file: Path, threads: int, texts: list[list[int]]) -> Any:
    arguments = (engine, str(file), f"--threads={threads}", f"--texts={json.dumps(texts)}")
    failed = "it failed while it was measured"
    return answer_of(timing.__name__, *arguments, refused=failed, seconds=MEASURING_SECONDS)


def compare(folder: Path, threads: int) -> Comparison:
    """Prepare what is missing, and measure what could be prepared; nothing if that is none."""
    loaded = load_model(folder, DTYPE, "cpu", "int4")
    engines, refused = _prepared(folder, loaded)
    if not engines:
        return Comparison({}, refused)
    found = measure(folder, loaded, engines, threads)
    return replace(found, refused={**refused, **found.refused})


def _prepared(folder: Path, loaded: LoadedModel) -> tuple[list[PreparedEngine], dict[str, str]]:
    """The engines that have their files now, and why others have none."""
    source = functools.cache(lambda: read_source(folder, loaded))  # once, and only if it is needed
    engines, refused = [], {}
    for engine in possible():
        file = prepared_file(folder, engine.name)
        try:
            if not file.exists():
                prepare(source(), file, engine)
            engines.append(engine)
        except FailedPrecondition as error:
            refused[engine.name] = str(error)
    return engines, refused


def _end_with_parent() -> None:
    """End as soon as standard input does: who waits for this process is gone."""
    os.read(0, 1)
    os._exit(1)


def main() -> None:
    """Run it; what is wrong is the last line of standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        found = compare(options.folder, options.threads)
    except PacelineError as error:
        sys.exit(str(error))
    except Exception as error:
        sys.exit(in_a_line(error))
    print(json.dumps(asdict(found)))  # noqa: T201  for who called it


if __name__ == "__main__":
    main()
