#!/usr/bin/env bash
# llguidance 1.9.1 (Linux x86-64) with tokenizers 0.23.3: a JSON schema's `format` of dates and times.
#
# A matcher made of {"type": "string", "format": "date"} lets a model write only dates, and it knows the months:
# 31 April is not to be written. So one would parse what comes out without a second look. But 29 February is a
# day of every year, there is a year 0000, and each minute may have a second 60; each of these answers is
# accepted, complete, and then refused by Python's own datetime. A model asked for a date near the end of
# February meets the first. A string that is a date by its form has still to be parsed with an error in mind.
#
# Seen: accepted 2023-02-29, 0000-01-01 and 2023-05-05T12:59:60Z, each refused by datetime; 2023-04-31 not accepted.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet llguidance==1.9.1 tokenizers==0.23.3
cat >"$folder/dates.py" <<'PY'
import datetime
import json

from llguidance import LLMatcher, LLTokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

vocabulary = {one: number for number, one in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
vocabulary["<eos>"] = len(vocabulary)
tokenizer = Tokenizer(models.BPE(vocabulary, []))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.add_special_tokens(["<eos>"])
TOKENS = LLTokenizer(tokenizer.to_str(), eos_token=vocabulary["<eos>"])


def accepted(form: str, text: str) -> bool:
    """Whether a model held to the form may write exactly this and end."""
    schema = {"type": "string", "format": form}
    matcher = LLMatcher(TOKENS, LLMatcher.grammar_from_json_schema(json.dumps(schema)))
    assert not matcher.is_error(), matcher.get_error()
    ids = tokenizer.encode(json.dumps(text)).ids
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


def exists(text: str) -> bool:
    """Whether the standard library takes it."""
    try:
        datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return False
    return True


SEEN = {
    ("date", "2024-02-29"): (True, True),
    ("date", "2023-04-31"): (False, False),
    ("date", "2023-02-29"): (True, False),
    ("date", "0000-01-01"): (True, False),
    ("date-time", "2023-05-05T12:59:60Z"): (True, False),
}
for (form, text), seen in SEEN.items():
    now = accepted(form, text), exists(text)
    print(f"{form} {text}: accepted {now[0]}, exists {now[1]}")
    assert now == seen, "it has changed"
PY
"$folder/venv/bin/python" "$folder/dates.py"
