#!/bin/bash
# transformers 5 reads vocabulary and merges of a Llama tokenizer.json and leaves out its normalizer.
#
# Llama 2, Mistral and their kin have a tokenizer.json that puts "▁" before every text: " one" begins
# with two blanks, as SentencePiece has it. A good guess is that AutoTokenizer gives the ids of the
# file that it reads. Seen with transformers 5.23.0: where tokenizer_config.json names the class
# LlamaTokenizer, it is built anew and puts "▁" only before a text that does not begin with a blank,
# and not behind a special token. The same file under PreTrainedTokenizerFast keeps its ids.
# The same holds for a tokenizer.model alone; where no class of transformers is named beside that,
# "▁" is left out before every text. Neither is warned about.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q transformers==5.23.0 tokenizers==0.23.3 sentencepiece==0.2.1 protobuf==7.36.2
cat > "$work/show.py" <<'P'
import io, json, pathlib, sys
import sentencepiece
from tokenizers import Tokenizer
from transformers import AutoTokenizer

folder = pathlib.Path(sys.argv[1])
written = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(["one two  three", "one <s> two", "two one"] * 9), model_writer=written,
    model_type="bpe", vocab_size=300, byte_fallback=True, normalization_rule_name="identity",
    remove_extra_whitespaces=False, hard_vocab_limit=False, minloglevel=2)
own = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())

def ids(kind, **files):
    """What AutoTokenizer makes of " one" and "one", with these files."""
    for path in folder.glob("*.*"):
        path.unlink()
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    config = {"tokenizer_class": kind, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer, [tokenizer.encode(text, add_special_tokens=False) for text in (" one", "one")]

expected = [own.encode(text) for text in (" one", "one")]
made, of_model = ids("LlamaTokenizer", tokenizer__model=written.getvalue())
content = json.loads(made.backend_tokenizer.to_str())
steps = [{"type": "Prepend", "prepend": "▁"},
         {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
content |= {"normalizer": {"type": "Sequence", "normalizers": steps}, "pre_tokenizer": None}
file = json.dumps(content).encode()
plain = Tokenizer.from_str(file.decode())
of_file = [plain.encode(text, add_special_tokens=False).ids for text in (" one", "one")]
_, of_llama = ids("LlamaTokenizer", tokenizer__json=file)
_, of_fast = ids("PreTrainedTokenizerFast", tokenizer__json=file)
_, of_other = ids("OwnTokenizer", tokenizer__model=written.getvalue())
print("SentencePiece", expected, "tokenizer.json", of_file)
print("as PreTrainedTokenizerFast", of_fast, "as LlamaTokenizer", of_llama)
print("tokenizer.model as LlamaTokenizer", of_model, "as a class of its makers'", of_other)
assert of_file == of_fast == expected
assert of_llama[0] != expected[0] and of_llama[1] == expected[1], "the file's normalizer is kept now"
assert of_model == of_llama
assert of_other[1] != expected[1], "the blank before a text is kept now"
P
"$work/venv/bin/python" "$work/show.py" "$work" 2>/dev/null
# SentencePiece [[278, 263], [263]] tokenizer.json [[278, 263], [263]]
# as PreTrainedTokenizerFast [[278, 263], [263]] as LlamaTokenizer [[263], [263]]
# tokenizer.model as LlamaTokenizer [[263], [263]] as a class of its makers' [[263], [273]]
