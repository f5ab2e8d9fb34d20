#!/usr/bin/env bash
# torch 2.13.0, CPU (x86-64 with AVX-512 and bf16): masked keys behind the last one that a query may
# see change its bits, though their weights are exactly 0. scaled_dot_product_attention in bfloat16 of
# one query over 255 keys, filled up with masked ones to 256, gives other bits than filled up to 512 or
# 1024, in some of 64 draws; with 100 keys, filled up to 128, 256 or 512, all are the same. 512 and 1024
# agree, too: so lengths in multiples of 512 are alike, and shorter ones are alike only for few keys.
# A cache that grows in steps of less than 512 keys changes outputs as it grows.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.3.5
cat > "$work/try.py" <<'PY'
import torch
from torch.nn.functional import scaled_dot_product_attention

if not torch.cpu.get_capabilities().get("avx512_bf16"):
    raise SystemExit("this CPU has no AVX-512 with bf16: nothing to see")
torch.set_num_threads(2)
QUERIES, WIDTH, DRAWS = 8, 128, 64


def attended(draw: int, keys: int, length: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(draw)
    query, key, value = (
        torch.randn(1, 2, count, WIDTH, generator=generator).bfloat16()
        for count in (QUERIES, 255, 255)
    )
    room = torch.zeros(2, 1, 2, length, WIDTH, dtype=torch.bfloat16)
    room[0, :, :, :keys], room[1, :, :, :keys] = key[:, :, :keys], value[:, :, :keys]
    hidden = torch.full((QUERIES, length), torch.finfo(torch.bfloat16).min / 2)
    hidden[:, :keys] = 0
    return scaled_dot_product_attention(query, *room, attn_mask=hidden.bfloat16())


for keys, length, other in ((100, 128, 512), (100, 256, 512), (255, 256, 512), (255, 512, 1024)):
    pairs = [(attended(d, keys, length), attended(d, keys, other)) for d in range(DRAWS)]
    same = all(torch.equal(*pair) for pair in pairs)
    close = all(torch.allclose(*pair, atol=0.02) for pair in pairs)
    print(f"{keys} keys in {length} or {other}: {'the same' if same else 'other'} bits, close: {close}")
PY
"$work/venv/bin/python" "$work/try.py" | tee "$work/out"
diff "$work/out" - <<'OUT'
100 keys in 128 or 512: the same bits, close: True
100 keys in 256 or 512: the same bits, close: True
255 keys in 256 or 512: other bits, close: True
255 keys in 512 or 1024: the same bits, close: True
OUT
