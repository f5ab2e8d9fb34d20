"""The text of any ids: defined, the same however it comes, and never an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from orchestrator.serving.text.detokenizer import Vocabulary

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
PIECES = ["\u2581", "\u2581a", "a", "b", "日", "\u2581\u2581"]


def with_decoder(
    names: list[str], decoder: decoders.Decoder | None, kind: object = models.BPE
) -> Tokenizer:
    vocabulary = {name: index for index, name in enumerate(names)}
    model = models.WordPiece(vocabulary) if kind is models.WordPiece else models.BPE(vocabulary, [])
    tokenizer = Tokenizer(model)
    if decoder is not None:
        tokenizer.decoder = decoder
    tokenizer.add_special_tokens(["<s>"])
    return tokenizer


def llama() -> Tokenizer:
    parts = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    return with_decoder([*BYTES, *PIECES], decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)]))


KINDS = {
    "metaspace": with_decoder(PIECES, decoders.Metaspace()),
    "wordpiece": with_decoder(
        ["a", "##b", "##", ".", "n", "'", "日"], decoders.WordPiece(), models.WordPiece
    ),
    "suffix": with_decoder(["a</w>", "b", "</w>", "日</w>"], decoders.BPEDecoder()),
    "ctc": with_decoder(["<pad>", "|", "a", "b"], decoders.CTC()),
    "none": with_decoder(["a", "b", "日"], None),
}
LLAMA = llama()
ids = st.lists(st.integers(0, 12), max_size=12)


def text_of(tokenizer: Tokenizer, tokens: list[int], *, specials: bool = False) -> str:
    detokenizer = Vocabulary(tokenizer).detokenizer(specials=specials)
    return "".join(detokenizer.step(token) for token in tokens) + detokenizer.flush()


@pytest.mark.parametrize("kind", KINDS)
@given(tokens=ids, specials=st.booleans())
def test_token_by_token_is_the_librarys_text_of_all(
    kind: str, tokens: list[int], specials: bool
) -> None:
    """But for the blank that it takes from the beginning of a text, which an output is not."""
    tokenizer = KINDS[kind]
    whole = tokenizer.decode(tokens, skip_special_tokens=not specials)
    assert text_of(tokenizer, tokens, specials=specials).removesuffix(whole).strip() == ""


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["<0x41>", "<0x80>", "a"], "\ufffd\ufffda"),
        (["<0x41>", "a", "<0x80>", "a"], "Aa\ufffda"),
        (["<0xE6>", "<0x97>", "<0xA5>", "a"], "日a"),
        (["<0xE6>", "<0x97>", "a"], "\ufffd\ufffda"),
        (["<0xE6>", "<0x97>"], "\ufffd\ufffd"),
        (["<0x80>", "<0x41>", "<s>", "<0xE6>", "<0x97>", "<0xA5>"], "\ufffd" * 5),
        (["\u2581a", "\u2581a"], " a a"),
        (["\u2581\u2581", "b"], "  b"),
        (["<s>", "\u2581a", "<s>"], " a"),
        ([], ""),
    ],
)
def test_bytes_that_are_no_character_end_nothing(names: list[str], text: str) -> None:
    tokens = [token for name in names if (token := LLAMA.token_to_id(name)) is not None]
    assert text_of(LLAMA, tokens) == text
    assert text_of(LLAMA, [*tokens, 999, 2**31]) == text


def test_thousands_of_continuation_bytes_are_not_held_back() -> None:
    detokenizer = Vocabulary(LLAMA).detokenizer()
    texts = [detokenizer.step(0x80) for _ in range(4000)]
    assert texts == [""] * 32 + ["\ufffd" * 33] + ["\ufffd"] * 3967
    assert detokenizer.flush() == ""
    assert detokenizer.step(LLAMA.token_to_id("a") or 0) == "a"


def test_a_long_run_of_characters_comes_as_it_can() -> None:
    tokens = list(("日" * 20).encode())
    detokenizer = Vocabulary(LLAMA).detokenizer()
    texts = [detokenizer.step(token) for token in tokens]
    assert "".join(texts[:40]) == "日" * 13
    assert "".join(texts) == "日" * 20


@given(tokens=st.lists(st.integers(0, 270), max_size=32), specials=st.booleans())
def test_bytes_are_as_the_library_has_them(tokens: list[int], specials: bool) -> None:
    """But for the blank that it takes from the beginning of a text."""
    text = text_of(LLAMA, tokens, specials=specials)
    whole = LLAMA.decode(tokens, skip_special_tokens=not specials)
    assert text in (whole, f" {whole}")


def test_branches_keep_their_blanks() -> None:
    detokenizer = Vocabulary(LLAMA).detokenizer()
    names = ["\u2581a", "a", "<0x80>", "<s>"]
    tokens = [LLAMA.token_to_id(name) or 0 for name in names]
    assert [detokenizer.alone(token) for token in tokens] == [" a", "a", "\ufffd", "<s>"]
    assert detokenizer.alone(999) == ""
