"""Bad words, as tokens: with and without a blank, whatever the tokenizer makes of that."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from orchestrator.serving.text.bad_words import bad_sequences
from orchestrator.serving.text.tokenizer import TargetTokenizer
from paceline.protocol.model import TokenizerFiles


def encode(text: str) -> tuple[int, ...]:
    return tuple(text.encode())


def test_each_word_is_forbidden_alone_and_behind_a_blank() -> None:
    found = bad_sequences(["no", " not"], encode)
    assert [bytes(one) for one in found] == [b"no", b" no", b"not", b" not"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("foo",), ((0, 1, 1), (3, 1))),  # of another number of tokens: vLLM lets it through
        (("foo", "foo"), ((0, 1, 1), (3, 1))),
        (("o",), ((1,), (2, 1))),
        (("foo日",), ((0, 1, 1), (3, 1))),  # what has no token is never generated
        (("日",), ((2,),)),
    ],
)
def test_with_a_tokenizer(words: tuple[str, ...], expected: tuple[tuple[int, ...], ...]) -> None:
    vocabulary = {"f": 0, "o": 1, "\u0120": 2, "\u0120fo": 3, "\u0120f": 4}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("\u0120", "f"), ("\u0120f", "o")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    files = TokenizerFiles(tokenizer.to_str().encode(), "", {})
    assert bad_sequences(words, TargetTokenizer(files).encode_part) == expected
