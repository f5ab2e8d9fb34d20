"""Models from a local folder: any attention-only decoder that transformers loads."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import GenerationConfig, PreTrainedModel

from paceline.engine.load_progress import begin, counted
from paceline.engine.torch import weights_progress
from paceline.engine.torch.architectures import max_positions, read_config, refusing
from paceline.engine.torch.attention import NAME
from paceline.engine.torch.exactness.operators import BatchInvariantOperators, elementwise
from paceline.engine.torch.exactness.reference import Reference
from paceline.engine.torch.fused import FusedModel, knows
from paceline.engine.torch.generation_config import (
    default_sampling,
    eos_token_ids,
    read_generation_config,
)
from paceline.engine.torch.generic import GenericModel
from paceline.engine.torch.kernels import has_kernels
from paceline.engine.torch.layer_operators import (
    LayerOperators,
    Normalize,
    TorchOperators,
    rms_norm,
)
from paceline.engine.torch.linear import (
    CountedLinears,
    MakeLinear,
    can_prepack,
    make_linear,
    swap_linears,
)
from paceline.engine.torch.native.operators import native_operators
from paceline.engine.torch.rotary import RopeLength, follow_sessions
from paceline.engine.torch.runner import ForwardPass
from paceline.engine.torch.text_part import loader_of, text_config
from paceline.engine.torch.tokenizer_conversion import make_tokenizer
from paceline.engine.torch.tokenizer_files import read_tokenizer, vocabulary_hash
from paceline.engine.torch.weights import check_dtypes, check_weights
from paceline.protocol.model import TokenizerFiles
from paceline.protocol.sampling import Sampling


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to run, and what its files say of it. kind: the class of forward.

    weight_bytes: of the weights as the model has them; quantized_bytes: of copies beside them.
    """

    forward: ForwardPass
    kind: str
    config: dict[str, Any]
    device: torch.device
    weights_hash: str
    vocabulary_hash: str
    vocabulary_size: int
    max_positions: int
    rope_length: RopeLength
    eos_token_ids: tuple[int, ...]
    default_sampling: Sampling
    tokenizer: TokenizerFiles | None
    weight_bytes: int
    quantized_bytes: int


def load_model(
    folder: Path,
    dtype: torch.dtype,
    device: str = "cpu",
    weights: str = "bf16",
    operators: BatchInvariantOperators | None = None,
) -> LoadedModel:
    """Load a folder of config.json, safetensors and tokenizer.json.

    weights: as in the settings; the target's own are bf16. operators: make the model's rows
    batch-invariant; None: nobody needs that. Raises FailedPrecondition,
    naming it, for a model whose layers are not all attention, or that is not computed as
    transformers computes it.
    """
    config = read_config(folder)
    text = text_config(config)
    model = read_model(folder, dtype, device, config)
    weights_hash, weight_bytes = _hash_weights(model), _weight_bytes(model)
    linears = CountedLinears(make_linear(weights))
    with refusing(config, "has a tokenizer that cannot be read"):
        tokenizer = read_tokenizer(folder) or make_tokenizer(folder)
        vocabulary = vocabulary_hash(tokenizer, text.vocab_size)
    with refusing(config, "has a generation_config.json that cannot be read"):
        generation = read_generation_config(folder)
        ends = eos_token_ids(generation, config, text)
    with refusing(config, "cannot be served"):
        begin("preparing")
        forward, rope_length = _checked_forward(model, config, linears, operators)
    return LoadedModel(
        forward=forward,
        kind=(FusedModel if isinstance(forward, FusedModel) else GenericModel).__name__,
        config=model.config.to_dict(),
        device=model.device,
        weights_hash=weights_hash,
        vocabulary_hash=vocabulary,
        vocabulary_size=text.vocab_size,
        max_positions=max_positions(text),
        rope_length=rope_length,
        eos_token_ids=ends,
        default_sampling=default_sampling(generation),
        tokenizer=tokenizer,
        weight_bytes=weight_bytes,
        quantized_bytes=linears.quantized_bytes,
    )


def read_model(folder: Path, dtype: torch.dtype, device: str, config: Any) -> PreTrainedModel:
    """The model as transformers has it, with weights that are all its own."""
    with refusing(config, "cannot be loaded"):
        if getattr(config, "quantization_config", None) is None:
            check_dtypes(folder)
        with weights_progress.told():
            loaded: Any = loader_of(config).from_pretrained(
                folder,
                dtype=dtype,
                attn_implementation=NAME,
                # Experts one by one: the other implementations multiply all at once.
                experts_implementation="eager",
                device_map=device,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                output_loading_info=True,
                generation_config=GenerationConfig(),  # the file's: refused for one bad value
            )
    model, info = loaded
    check_weights(model, info)
    return model.eval()  # type: ignore[no-any-return]


def _checked_forward(
    model: PreTrainedModel, config: Any, make: MakeLinear, operators: BatchInvariantOperators | None
) -> tuple[ForwardPass, RopeLength]:
    """The model's forward pass, compared with that of transformers. config: as in its file."""
    reference = Reference.of(model)
    rope_length = RopeLength(text_config(config))
    follow_sessions(model, rope_length)
    forward = _make_forward(model, make, operators)
    reference.check(forward, model.device, rope_length.of)
    return forward, rope_length


def _make_forward(
    model: PreTrainedModel, make: MakeLinear, operators: BatchInvariantOperators | None
) -> ForwardPass:
    """The fastest forward pass of the model on this machine."""
    makes = make if operators is None else operators.invariant_linears(make)
    if knows(model):
        return FusedModel(model, makes, _layer_operators(model, invariant=operators is not None))
    swap_linears(model, makes)
    forward = GenericModel(model)
    return forward if operators is None else operators.invariant_forward(forward)


def _layer_operators(model: PreTrainedModel, *, invariant: bool) -> LayerOperators:
    """In C where it can be; invariant: rows must not depend on those beside them."""
    config = text_config(model.config)
    like = next(model.parameters())
    native = native_operators(config, like, attends=not can_prepack(like))
    if native is not None:
        return native
    silu = elementwise(functional.silu, like) if invariant else functional.silu
    return TorchOperators(config.rms_norm_eps, silu, _normalize(model))


def _normalize(model: PreTrainedModel) -> Normalize:
    """A GPU's own, whose rows do not depend on their number; elsewhere torch's do not."""
    if not has_kernels(model.device.type, model.dtype):
        return rms_norm
    from paceline.engine.torch import tiled  # needs Triton

    return tiled.rms_norm


def _weight_bytes(model: PreTrainedModel) -> int:
    """Of all tensors; those that are tied count once."""
    tensors = {tensor.data_ptr(): tensor.nbytes for tensor in model.state_dict().values()}
    return sum(tensors.values())


def _hash_weights(model: PreTrainedModel) -> str:
    """Hash of all tensors, by name."""
    digest, tensors = hashlib.sha256(), model.state_dict()
    hashed = counted("hashing weights", len(tensors), "parts")
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        hashed(1)
    return digest.hexdigest()
