#!/usr/bin/env bash
# OpenVINO GenAI 2026.4.1.0 (openvino 2026.4.1, Linux x86-64) with gguf 0.19.0: a GGUF file as target and as draft.
#
# LLMPipeline takes the path of a GGUF file and reads it, and draft_model(...) is what its `draft_model` argument
# takes, by a path too. One would give it the smaller model's GGUF file. It is taken for a folder of OpenVINO's own
# form: the error names a file inside of the file, and does not say that GGUF is not read there. With the model
# read once by LLMPipeline(..., enable_save_ov_model=True), that form lies beside the GGUF file, and as a folder it
# is a draft like any other. The same reader knows float16 and not bfloat16, in which most models are published.
#
# Seen: "draft: ir: Could not open the file: .../model.gguf/openvino_model.xml"; "the saved folder drafts: True",
# with the tokens that come without it; "bfloat16: Unsupported quantization type".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openvino-genai==2026.4.1.0 openvino==2026.4.1 gguf==0.19.0
cat >"$folder/drafts.py" <<'PY'
"""A Qwen2 of one layer, with random weights and a token for each printable character."""

import sys
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import openvino
import openvino_genai as genai

FOLDER = Path(sys.argv[1])
WIDTH, HEADS, KV_HEADS, INNER = 64, 4, 2, 128
PIECES = [chr(code) for code in range(33, 324) if chr(code).isprintable()] + ["ab", "<end>"]
HALF = {
    "float16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bfloat16": (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
}


def written(kind: str) -> Path:
    path = FOLDER / kind / "model.gguf"
    path.parent.mkdir()
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    form, file_type = HALF[kind]
    writer.add_file_type(file_type)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(PIECES)
    writer.add_token_types([1] * (len(PIECES) - 1) + [3])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(len(PIECES) - 1)
    writer.add_bos_token_id(len(PIECES) - 1)

    def add(name: str, *shape: int) -> None:
        values = (random.standard_normal(shape) * 0.1).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, form), raw_dtype=form)

    kv = KV_HEADS * WIDTH // HEADS
    add("token_embd.weight", len(PIECES), WIDTH)
    for name, rows in (("attn_q", WIDTH), ("attn_k", kv), ("attn_v", kv)):
        add(f"blk.0.{name}.weight", rows, WIDTH)
        add(f"blk.0.{name}.bias", rows)
    add("blk.0.attn_output.weight", WIDTH, WIDTH)
    add("blk.0.attn_norm.weight", WIDTH)
    add("blk.0.ffn_norm.weight", WIDTH)
    add("blk.0.ffn_gate.weight", INNER, WIDTH)
    add("blk.0.ffn_up.weight", INNER, WIDTH)
    add("blk.0.ffn_down.weight", WIDTH, INNER)
    add("output_norm.weight", WIDTH)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tokens(pipeline: genai.LLMPipeline, **more: int) -> list[int]:
    config = genai.GenerationConfig()
    config.max_new_tokens, config.ignore_eos, config.do_sample = 12, True, False
    for name, value in more.items():
        setattr(config, name, value)
    ids = np.array([[5, 6, 7]], np.int64)
    inputs = genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
    return list(pipeline.generate(inputs, config).tokens[0])


def refusal(read: Callable[..., object], path: Path) -> str:
    try:
        read(path, "CPU")
    except RuntimeError as error:
        return str(error).strip().splitlines()[-1]
    return ""


small = written("float16")
alone = tokens(genai.LLMPipeline(small, "CPU", enable_save_ov_model=True))
as_draft = refusal(genai.draft_model, small)
print("draft:", as_draft)
assert as_draft.endswith("model.gguf/openvino_model.xml\"") and "Could not open" in as_draft, "it has changed"

saved = genai.draft_model(small.parent, "CPU")
both = tokens(genai.LLMPipeline(small.parent, "CPU", draft_model=saved), num_assistant_tokens=3)
print("the saved folder drafts:", both == alone)
assert both == alone, "it has changed"

brain = refusal(genai.LLMPipeline, written("bfloat16"))
print("bfloat16:", brain)
assert "Unsupported quantization type" in brain, "it has changed"
PY
"$folder/venv/bin/python" "$folder/drafts.py" "$folder"
