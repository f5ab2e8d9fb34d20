#!/usr/bin/env bash
# transformers 5.23.0 with torch 2.13.0 on the CPU: models with experts (Mixtral, Qwen3-MoE, gpt-oss)
# cannot run in float64, the dtype in which one checks an implementation. Unless told otherwise their
# experts are multiplied by grouped_mm, which knows float32, bfloat16 and float16 alone and raises;
# transformers takes its fallback by device and compilation, not by dtype.
# experts_implementation="eager" computes them one by one, in any dtype.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0
cat > "$work/try.py" <<'PY'
import torch
from transformers import AutoModelForCausalLM, MixtralConfig, Qwen3MoeConfig

SIZES = dict(vocab_size=32, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
             num_attention_heads=2, num_key_value_heads=2, head_dim=16)
CONFIGS = {
    "mixtral": MixtralConfig(num_local_experts=4, **SIZES),
    "qwen3_moe": Qwen3MoeConfig(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, **SIZES),
}


def outcome(config, dtype, **more):
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, **more).eval()
    try:
        with torch.no_grad():
            model(torch.arange(1, 9)[None])
    except RuntimeError as error:
        return f"RuntimeError: {str(error).splitlines()[0]}"
    return "runs"


for name, config in CONFIGS.items():
    print(name, "float32:", outcome(config, torch.float32))
    print(name, "float64:", outcome(config, torch.float64))
    print(name, "float64, eager:", outcome(config, torch.float64, experts_implementation="eager"))
PY
"$work/venv/bin/python" "$work/try.py" 2> /dev/null | tee "$work/out"
diff "$work/out" - <<'OUT'
mixtral float32: runs
mixtral float64: RuntimeError: Expected mat_a to be Float32, BFloat16 or Float16 matrix, got Double
mixtral float64, eager: runs
qwen3_moe float32: runs
qwen3_moe float64: RuntimeError: Expected mat_a to be Float32, BFloat16 or Float16 matrix, got Double
qwen3_moe float64, eager: runs
OUT
