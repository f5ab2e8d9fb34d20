"""The JSON-Schema-Test-Suite: random outputs under the masks are valid, the rest is refused."""

import json
import re

import numpy as np
import pytest

from paceline.engine.grammar import Grammars
from paceline.errors import InvalidArgument
from paceline.protocol.constraint import json_schema
from tests.json_schema_test_suite import CASES, Case
from tests.marks import slow
from tests.tiny_models import EOS, VOCABULARY, byte_tokenizer

TOKENIZER = byte_tokenizer()
GRAMMARS = Grammars(TOKENIZER.to_str().encode(), VOCABULARY, (EOS,))
CLOSING = [*TOKENIZER.encode('"]}a@:').ids, EOS]
"""So that outputs end: a pattern waits for a, an email for @, a URI for :."""
NO_KEYWORD = ("Expecting object schema", "Unsatisfiable schema: ")
TAKEN = 205


def write(case: Case, seed: int) -> str:
    """An output of random logits, which close ever more likely."""
    matcher = GRAMMARS.compile(json_schema(json.dumps(case.schema))).matcher()
    rng, output = np.random.default_rng(seed), list[int]()
    while True:
        logits = rng.gumbel(size=VOCABULARY)
        logits[CLOSING] += len(output) / 8
        mask = matcher.mask()
        assert mask is not None
        token = int(np.where(mask, logits, -np.inf).argmax())
        if token == EOS:
            return str(TOKENIZER.decode(output))
        output.append(token)
        matcher.append(token)


def taken() -> list[Case]:
    return [case for case in CASES if not refusal(case)]


def refusal(case: Case) -> str:
    try:
        GRAMMARS.compile(json_schema(json.dumps(case.schema)))
    except InvalidArgument as error:
        return str(error)
    return ""


@pytest.mark.parametrize("seeds", [range(2), *slow(range(2, 16), range(16, 30))])
def test_every_output_parses_and_is_what_its_schema_describes(seeds: range) -> None:
    cases = taken()
    assert len(cases) >= TAKEN
    for case in cases:
        for seed in seeds:
            case.check(write(case, seed))


def test_what_is_refused_is_named_with_its_place() -> None:
    refused = {case: said for case, said in ((case, refusal(case)) for case in CASES) if said}
    for said in refused.values():
        assert said.startswith("sampling.constraint.json_schema: ")
        assert re.search(r"json_schema: #\S*/\S+: ", said) or any(
            reason in said for reason in NO_KEYWORD
        ), said
