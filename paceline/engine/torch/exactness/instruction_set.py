"""The instruction set that decides the bits: the one that oneDNN uses, and the one of torch."""

import os
from collections.abc import Mapping
from typing import Any

import torch

LEVELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("SSE41", ("sse4_1",)),
    ("AVX", ("avx",)),
    ("AVX2", ("avx2",)),
    ("AVX2_VNNI", ("avx2", "avx_vnni")),
    ("AVX2_VNNI_2", ("avx2", "avx_vnni", "avx_vnni_int8", "avx_ne_convert")),
    ("AVX512_CORE", ("avx512_f", "avx512_bw", "avx512_vl", "avx512_dq")),
    ("AVX512_CORE_VNNI", ("avx512_f", "avx512_bw", "avx512_vnni")),
    ("AVX512_CORE_BF16", ("avx512_f", "avx512_bw", "avx512_vnni", "avx512_bf16")),
    ("AVX512_CORE_FP16", ("avx512_bf16", "avx512_fp16", "avx_vnni")),
    ("AVX10_1_512", ("avx10_1", "avx512_fp16")),
    ("AVX512_CORE_AMX", ("amx_tile", "amx_int8", "amx_bf16")),
    ("AVX512_CORE_AMX_FP16", ("amx_tile", "amx_int8", "amx_bf16", "amx_fp16")),
    ("AVX10_2_512", ("avx10_2",)),
)
"""oneDNN's names, from the least up, and the CPU's flags that each needs."""
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
OTHER_LIMITS = ("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_DEFAULT_FPMATH_MODE")
"""Variables of the environment that also change the kernels of products."""


def instruction_set() -> str:
    """What decides the kernels on this CPU, in this environment: equal strings, equal kernels."""
    environment = {name: os.environ[name] for name in OTHER_LIMITS if os.environ.get(name)}
    parts = (
        onednn_level(torch.cpu.get_capabilities(), os.environ),
        torch.backends.cpu.get_cpu_capability(),
        *(f"{name}={value}" for name, value in sorted(environment.items())),
    )
    return " ".join(parts)


def onednn_level(capabilities: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """The highest instruction set of oneDNN that the CPU has and the environment leaves."""
    if capabilities.get("architecture") != "x86_64":
        flags = sorted(name for name, value in capabilities.items() if value is True)
        return " ".join((str(capabilities.get("architecture")), *flags))
    names = [name for name, _ in LEVELS]
    limit = next((environment[name].upper() for name in LIMITS if environment.get(name)), "")
    allowed = LEVELS[: names.index(limit) + 1] if limit in names else LEVELS
    usable = [name for name, flags in allowed if all(capabilities.get(flag) for flag in flags)]
    return usable[-1] if usable else "generic"
