#!/usr/bin/env bash
# torch 2.13.0, CPU (x86-64, ATen held to AVX2): an elementwise function need not give a number the
# same bits wherever it lies in a tensor. gelu computes whole vectors by one formula and what is left
# over at the end of a contiguous run by another, so the same bfloat16 number alone, at the end, or in a
# strided view may come out a unit in the last place apart. Where a run ends depends on the tensor's
# size, its layout and on how threads share it: a row of a batch has other bits in a batch of another
# size. silu is the same everywhere in bfloat16; in float32 neither is.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.3.5
cat > "$work/try.py" <<'PY'
import torch
from torch.nn import functional

torch.set_num_threads(1)


def numbers(dtype):
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(40_000, generator=generator, dtype=torch.float64) * 4).to(dtype)


for name in ("gelu", "silu"):
    function = getattr(functional, name)
    for dtype in (torch.bfloat16, torch.float32):
        x = numbers(dtype)
        whole = function(x)
        alone = torch.cat([function(one) for one in x.split(1)])
        strided = function(torch.stack((x, x), 1)[:, 0])
        print(f"{name} {dtype}: alone as in a row {torch.equal(whole, alone)}, "
              f"strided as contiguous {torch.equal(whole, strided)}")
PY
ATEN_CPU_CAPABILITY=avx2 "$work/venv/bin/python" "$work/try.py" | tee "$work/out"
diff "$work/out" - <<'OUT'
gelu torch.bfloat16: alone as in a row False, strided as contiguous False
gelu torch.float32: alone as in a row False, strided as contiguous False
silu torch.bfloat16: alone as in a row True, strided as contiguous True
silu torch.float32: alone as in a row False, strided as contiguous False
OUT
