#!/usr/bin/env bash
# transformers 5.23.0: with `longrope` (Phi-3 128k, Phi-4-mini) the factors of all rows of a batch are
# chosen by the largest position in it. So the logits of a short sequence hang on what it is batched
# with: beside one that is longer than original_max_position_embeddings its best tokens are others.
# A stream that grows over that length while it decodes mixes both kinds: the keys in its cache keep
# the short factors, so the same tokens prefilled at once give other logits.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0
cat > "$work/try.py" <<'PY'
import torch
from transformers import AutoModelForCausalLM, Phi3Config

rope = {"rope_type": "longrope", "rope_theta": 1e4, "factor": 8.0, "short_factor": [1.0] * 8,
        "long_factor": [1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0]}
config = Phi3Config(
    vocab_size=96, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=4, max_position_embeddings=512, original_max_position_embeddings=64,
    pad_token_id=0, rope_parameters=rope, initializer_range=0.3,
)
torch.manual_seed(0)
model = AutoModelForCausalLM.from_config(config, dtype=torch.float64).eval()
tokens = torch.randint(1, 96, (2, 100))


@torch.no_grad()
def logits(ids, **more):
    return model(ids, **more)


short = tokens[:1, :40]
alone = logits(short).logits[0]
padded = torch.cat((torch.cat((short, torch.zeros(1, 60, dtype=torch.long)), 1), tokens[1:]))
mask = torch.ones_like(padded)
mask[0, 40:] = 0
beside = logits(padded, attention_mask=mask).logits[0, :40]
same = (alone.argmax(1) == beside.argmax(1)).sum().item()
print(f"short sequence, best tokens that are the same beside a long one: all {same == 40}")

cache = logits(tokens[:1, :60], use_cache=True).past_key_values
grown = logits(tokens[:1, 60:], past_key_values=cache).logits[0, -1]
whole = logits(tokens[:1]).logits[0, -1]
print(f"grown over the switch as prefilled at once: {torch.allclose(grown, whole, atol=1e-6)}")
inside = logits(tokens[:1, :60], use_cache=True).past_key_values
grown = logits(tokens[:1, 60:64], past_key_values=inside).logits[0, -1]
print(f"grown below it: {torch.allclose(grown, logits(tokens[:1, :64]).logits[0, -1], atol=1e-6)}")
PY
"$work/venv/bin/python" "$work/try.py" 2> /dev/null | tee "$work/out"
diff "$work/out" - <<'OUT'
short sequence, best tokens that are the same beside a long one: all False
grown over the switch as prefilled at once: False
grown below it: True
OUT
