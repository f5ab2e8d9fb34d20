#!/usr/bin/env bash
# tokenizers 0.23.3 (Python wheel, Linux x86-64, CPython 3.11): memory of a BPE tokenizer's word cache.
#
# A BPE model remembers how it split each word it has met, 10,000 words of up to 256 bytes. One would
# think that this memory belongs to the tokenizer. It belongs to the thread: a map in thread-local
# storage, keyed by tokenizer. So
#   - each thread that encodes has a cache of its own, and a pool of 4 threads has 4;
#   - a tokenizer that is dropped leaves its words behind in every thread that lives on, and a server
#     that loads a tokenizer anew, now and then, grows by a whole cache each time;
#   - clearing the cache (model._clear_cache()) frees nothing: it begins a new map beside the old one;
#   - "cache_capacity" in tokenizer.json is read by nobody. Only model._resize_cache(n), called before
#     anything is encoded, bounds it.
# With words of 250 characters, of which a byte-level model makes 250 tokens, a cache is 85 MB.
#
# Seen (MB): one tokenizer 85; the same, dropped 85; a second one 170; after _clear_cache and the words
# again 169; on 4 threads 423; with cache_capacity 0 in the json 85; resized to 0 words 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tokenizers==0.23.3 psutil==7.2.2
cat >"$folder/words.py" <<'PY'
import gc
import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import psutil
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS, LETTERS = 12_000, "abcdefghijklmnop"


def tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return made


def encode(which: Tokenizer, seed: int = 0) -> None:
    source = random.Random(seed)
    for _ in range(WORDS):
        which.encode("".join(source.choices(LETTERS, k=250)))


def resident() -> float:
    gc.collect()
    return psutil.Process().memory_info().rss / 1e6


one, before = tokenizer(), resident()
if sys.argv[1] == "json":
    described = json.loads(one.to_str())
    described["model"]["cache_capacity"] = 0
    one = Tokenizer.from_str(json.dumps(described))
if sys.argv[1] == "resized":
    one.model._resize_cache(0)
encode(one)
if sys.argv[1] == "cleared":
    one.model._clear_cache()
    encode(one)
if sys.argv[1] == "dropped":
    del one
if sys.argv[1] == "second":
    del one
    encode(tokenizer())
if sys.argv[1] == "threads":
    together = Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: (together.wait(), encode(one, seed)), range(4)))
        print(round(resident() - before))
else:
    print(round(resident() - before))
PY
holds=true
check() { # name, least and most MB
  local found
  found=$("$folder/venv/bin/python" "$folder/words.py" "$1")
  echo "$1: $found MB (expected $2 to $3)"
  if ((found < $2 || found > $3)); then holds=false; fi
}
check once 60 110
check dropped 60 110
check second 120 220
check cleared 120 220
check threads 300 550
check json 60 110
check resized 0 10
$holds || { echo "tokenizers behaves differently now"; exit 1; }
