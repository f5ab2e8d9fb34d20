#!/bin/bash
# transformers reads a GGUF file's weights but not what the file says of its rotary embedding.
#
# llama.cpp's converter writes Llama 3's rope scaling as a tensor, rope_freqs.weight: by what each
# frequency is divided. YaRN is metadata (rope.scaling.*). A good guess is that from_pretrained with
# gguf_file either honours both or complains. Seen with transformers 5.23.0 and gguf 0.19.0: both
# are left out without a warning. The config says rope_type "default", so the logits are those of
# another model, more so the longer the text.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 transformers==5.23.0 gguf==0.19.0 accelerate==1.15.0
cat > "$work/show.py" <<'P'
import sys
import gguf, numpy as np
from transformers import AutoConfig, AutoModelForCausalLM

def write(path, fill):
    w = gguf.GGUFWriter(path, "llama")
    w.add_block_count(1); w.add_context_length(131072); w.add_embedding_length(16)
    w.add_feed_forward_length(16); w.add_head_count(2); w.add_head_count_kv(2)
    w.add_layer_norm_rms_eps(1e-5); w.add_rope_freq_base(500000.0); w.add_vocab_size(8)
    w.add_tokenizer_model("gpt2"); w.add_token_list(list("abcdefgh"))
    square, one = np.eye(16, dtype=np.float32), np.ones(16, np.float32)
    w.add_tensor("token_embd.weight", np.ones((8, 16), np.float32))
    w.add_tensor("output_norm.weight", one)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        w.add_tensor(f"blk.0.{name}.weight", square.copy())
    for name in ("attn_norm", "ffn_norm"):
        w.add_tensor(f"blk.0.{name}.weight", one.copy())
    fill(w)
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()

def yarn(w):
    w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    w.add_rope_scaling_factor(4.0)
    w.add_rope_scaling_orig_ctx_len(32768)

cases = {"rope_freqs.weight": lambda w: w.add_tensor("rope_freqs.weight", np.array([1, 1, 4, 8], np.float32)),
         "yarn": yarn}
folder = sys.argv[1]
for name, fill in cases.items():
    write(f"{folder}/{name}.gguf", fill)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=f"{name}.gguf")
    kind = model.config.rope_parameters["rope_type"]
    frequencies = model.model.rotary_emb.inv_freq
    plain = 500000.0 ** (-np.arange(0, 8, 2) / 8)
    print(f"{name}: rope_type {kind}, frequencies {frequencies.tolist()}")
    assert kind == "default" and np.allclose(frequencies, plain), f"{name} is honoured now"
P
"$work/venv/bin/python" "$work/show.py" "$work" 2>/dev/null
# rope_freqs.weight: rope_type default, frequencies [1.0, 0.037606..., 0.0014142..., 5.3182...e-05]
# yarn: rope_type default, frequencies [1.0, 0.037606..., 0.0014142..., 5.3182...e-05]
