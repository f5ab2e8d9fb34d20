"""Rotary embeddings as GGUF files describe them: metadata, and tensors of factors."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from paceline.engine.torch.gguf.gguf_file import GGUFFile
from paceline.errors import FailedPrecondition

TENSORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
"""Tensors that are read here and are no weights."""
_CLOSE = 1e-4  # factors are kept in float32

Take = Callable[..., Any]
"""The value of a key behind the architecture's name, and its default."""


def rope_parameters(
    source: GGUFFile, take: Take, head_dim: int, max_positions: int
) -> dict[str, Any]:
    """`rope_parameters` of a config, from all that a file says of its rotary embedding."""
    base: dict[str, Any] = {"rope_theta": take("rope.freq_base", 10000.0)}
    rotated = int(take("rope.dimension_count", head_dim))
    if rotated != head_dim:
        base["partial_rotary_factor"] = rotated / head_dim
    factors = factor_tensors(source)
    for name, values in factors.items():
        if len(values) != rotated // 2:
            raise FailedPrecondition(f"{name} has {len(values)} factors, not {rotated // 2}")
    scaling = _scaling(take, max_positions)
    if "rope_factors_long.weight" in factors:
        return base | _longrope(factors, scaling)
    if "rope_factors_short.weight" in factors:
        raise FailedPrecondition("rope_factors_long.weight is missing beside the short factors")
    freqs = factors.get("rope_freqs.weight")
    if scaling["rope_type"] == "yarn" and scaling["factor"] != 1.0:
        if freqs is not None:
            raise FailedPrecondition(
                "rope_freqs.weight beside rope.scaling.type yarn is not served"
            )
        return base | _scaled(scaling)
    return base | _linear(freqs or [1.0] * (rotated // 2), scaling, base, max_positions)


def factor_tensors(source: GGUFFile) -> dict[str, list[float]]:
    """The tensors of factors by name."""
    return {
        tensor.name: [_short(value) for value in tensor.data]
        for tensor in source.tensors()
        if tensor.name in TENSORS
    }


def _short(value: Any) -> float:
    return float(str(np.float32(value)))


def _scaling(take: Take, max_positions: int) -> dict[str, Any]:
    """What `rope.scaling` says, by the names of config.json. Without a type a factor is linear."""
    old = take("rope.scale_linear", 0.0)
    factor = float(take("rope.scaling.factor", old) or 1.0)
    take("rope.scaling.finetuned")
    extrapolation = float(take("rope.scaling.yarn_ext_factor", 1.0))
    kind = take("rope.scaling.type", "linear" if factor != 1.0 else "none")
    if kind not in ("none", "linear", "yarn", "longrope", "su"):
        raise FailedPrecondition(f"rope.scaling.type {kind!r} is not known")
    if kind == "yarn" and extrapolation not in (1.0, -1.0):
        raise FailedPrecondition(f"rope.scaling.yarn_ext_factor {extrapolation:g} is not served")
    attention = take("rope.scaling.attn_factor", None)
    other = take("rope.scaling.yarn_attn_factor", None)
    return {
        "rope_type": kind,
        "factor": factor,
        "original": int(take("rope.scaling.original_context_length", max_positions)),
        "attention": float(attention if attention is not None else other or 1.0),
        "beta_fast": float(take("rope.scaling.yarn_beta_fast", 32.0)),
        "beta_slow": float(take("rope.scaling.yarn_beta_slow", 1.0)),
    }


def _scaled(scaling: dict[str, Any]) -> dict[str, Any]:
    if scaling["rope_type"] in ("longrope", "su"):
        raise FailedPrecondition("rope.scaling.type is longrope, but rope_factors are missing")
    if scaling["rope_type"] == "none" or scaling["factor"] == 1.0:
        return {"rope_type": "default"}
    if scaling["rope_type"] == "linear":
        return {"rope_type": "linear", "factor": scaling["factor"]}
    return {
        "rope_type": "yarn",
        "factor": scaling["factor"],
        "original_max_position_embeddings": scaling["original"],
        "attention_factor": scaling["attention"] * (0.1 * math.log(scaling["factor"]) + 1.0),
        "beta_fast": scaling["beta_fast"],
        "beta_slow": scaling["beta_slow"],
    }


def _linear(
    freqs: list[float], scaling: dict[str, Any], base: dict[str, Any], max_positions: int
) -> dict[str, Any]:
    """Frequencies divided by factors of their own, and all by one."""
    plain, attention = _scaled(scaling), scaling["attention"]
    if attention == 1.0 and all(factor == 1.0 for factor in freqs):
        return plain
    factors = [factor * plain.get("factor", 1.0) for factor in freqs]
    if attention == 1.0 and plain["rope_type"] == "default":
        return _llama3(factors, base["rope_theta"], 2 * len(factors), max_positions)
    return _at_every_length(factors, attention, max_positions)


def _longrope(factors: dict[str, list[float]], scaling: dict[str, Any]) -> dict[str, Any]:
    if "rope_factors_short.weight" not in factors:
        raise FailedPrecondition("rope_factors_short.weight is missing beside the long factors")
    return {
        "rope_type": "longrope",
        "short_factor": factors["rope_factors_short.weight"],
        "long_factor": factors["rope_factors_long.weight"],
        "original_max_position_embeddings": scaling["original"],
        "attention_factor": scaling["attention"],
    }


def _llama3(factors: list[float], theta: float, rotated: int, max_positions: int) -> dict[str, Any]:
    """Llama 3's parameters, if they give these factors; else the factors themselves."""
    parameters = {
        "rope_type": "llama3",
        "factor": max(factors),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    if np.allclose(_llama3_factors(parameters, theta, rotated), factors, rtol=_CLOSE, atol=0):
        return parameters
    return _at_every_length(factors, 1.0, max_positions)


def _at_every_length(factors: list[float], attention: float, max_positions: int) -> dict[str, Any]:
    """One list for short and long texts: exactly these factors."""
    return {
        "rope_type": "longrope",
        "short_factor": factors,
        "long_factor": factors,
        "original_max_position_embeddings": max_positions,
        "attention_factor": attention,
    }


def _llama3_factors(parameters: dict[str, Any], theta: float, rotated: int) -> np.ndarray:
    """By what Llama 3 divides its frequencies."""
    wavelengths = 2 * math.pi * theta ** (np.arange(0, rotated, 2) / rotated)
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    turns = parameters["original_max_position_embeddings"] / wavelengths
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    factors: np.ndarray = 1 / ((1 - smooth) / parameters["factor"] + smooth)
    return factors
