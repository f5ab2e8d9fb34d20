#!/usr/bin/env bash
# torch 2.13.0, CPU (x86-64 with AVX-512 and bf16, oneDNN held to AVX512_CORE_BF16): how a bfloat16
# linear layer groups its sums depends on the number of rows, and on the number of inputs, not only on
# the weights. oneDNN sums a chunk of the inputs from zero and then adds the chunks. From 2 rows on a
# chunk has 1024 inputs; a row alone has chunks of 512 where there are many inputs, so that it gets
# other bits than the same row in a batch. With fewer than 1024 inputs all have 512, not all at once.
# Where a chunk ends is seen by a 1 between 2^24 and -2^24: beside 2^24 it is lost, behind the last
# chunk's begin it is kept. A kernel that is to have oneDNN's bits must sum in these chunks.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.3.5
cat > "$work/try.py" <<'PY'
import torch
from torch.nn import functional

if not torch.cpu.get_capabilities().get("avx512_bf16"):
    raise SystemExit("this CPU has no AVX-512 with bf16: nothing to see")
BIG, OUTPUTS = 2.0**24, 64


def kept_from(inputs: int, rows: int) -> int:
    """The first input whose 1 is not lost beside the first input's 2^24."""
    x = torch.ones(rows, inputs, dtype=torch.bfloat16)
    for start in range(1, inputs - 1, OUTPUTS):
        tried = range(start, min(start + OUTPUTS, inputs - 1))
        weight = torch.zeros(OUTPUTS, inputs, dtype=torch.bfloat16)
        weight[:, 0], weight[:, -1] = BIG, -BIG
        for output, index in enumerate(tried):
            weight[output, index] = 1
        found = functional.linear(x, weight)[-1, : len(tried)]
        if found.any():
            return tried[int(found.nonzero()[0])]
    return inputs


for inputs in (896, 1536, 4864, 8960):
    starts = ", ".join(f"{rows} rows {kept_from(inputs, rows)}" for rows in (1, 2, 4, 64))
    print(f"{inputs} inputs, the last chunk begins at: {starts}")
PY
ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 "$work/venv/bin/python" "$work/try.py" | tee "$work/out"
diff "$work/out" - <<'OUT'
896 inputs, the last chunk begins at: 1 rows 512, 2 rows 512, 4 rows 512, 64 rows 512
1536 inputs, the last chunk begins at: 1 rows 1024, 2 rows 1024, 4 rows 1024, 64 rows 1024
4864 inputs, the last chunk begins at: 1 rows 4608, 2 rows 4096, 4 rows 4096, 64 rows 4096
8960 inputs, the last chunk begins at: 1 rows 8704, 2 rows 8192, 4 rows 8192, 64 rows 8192
OUT
