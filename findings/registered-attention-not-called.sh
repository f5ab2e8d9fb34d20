#!/usr/bin/env bash
# transformers 5.23.0: a function registered with AttentionInterface and named as attn_implementation
# need not be what computes attention. Llama calls it. CodeGen and XGLM take the name without a word
# and compute attention with code of their own; Falcon and GPT-J raise KeyError with the name. The
# class flag `_supports_attention_backend` is False for all four, but also for StableLM, which calls
# the function all the same, without the extra arguments that the model was given, which Llama hands on.
# Whoever replaces attention has to count its calls.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0
cat > "$work/try.py" <<'PY'
import torch
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM

seen: list[bool] = []


def counted(module, query, key, value, mask, scaling=None, **more):
    seen.append("note" in more)
    out = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scaling, enable_gqa=True
    )
    return out.transpose(1, 2), None


AttentionInterface.register("counted", counted)
SMALL = {
    "llama": dict(hidden_size=32, num_attention_heads=4, num_key_value_heads=4, intermediate_size=32,
                  num_hidden_layers=2),
    "stablelm": dict(hidden_size=32, num_attention_heads=4, num_key_value_heads=4,
                     intermediate_size=32, num_hidden_layers=2),
    "codegen": dict(n_embd=32, n_head=4, n_layer=2, rotary_dim=4),
    "xglm": dict(d_model=32, attention_heads=4, ffn_dim=32, num_layers=2),
    "falcon": dict(hidden_size=32, num_attention_heads=4, num_hidden_layers=2),
    "gptj": dict(n_embd=32, n_head=4, n_layer=2, rotary_dim=4),
}


def outcome(name: str) -> str:
    config = AutoConfig.for_model(name, vocab_size=40, pad_token_id=0, **SMALL[name])
    try:
        model = AutoModelForCausalLM.from_config(config, attn_implementation="counted").eval()
    except KeyError as error:
        return f"KeyError {error}"
    seen.clear()
    extra = {"note": 1} if name in ("llama", "stablelm") else {}
    with torch.no_grad():
        model(torch.arange(3, 9)[None], use_cache=False, **extra)
    return f"calls {len(seen)}, extra argument {any(seen)}, flag {model._supports_attention_backend}"


for name in SMALL:
    print(f"{name}: {outcome(name)}")
PY
"$work/venv/bin/python" "$work/try.py" 2> /dev/null | tee "$work/out"
diff "$work/out" - <<'OUT'
llama: calls 2, extra argument True, flag True
stablelm: calls 2, extra argument False, flag False
codegen: calls 0, extra argument False, flag False
xglm: calls 0, extra argument False, flag False
falcon: KeyError 'counted'
gptj: KeyError 'counted'
OUT
