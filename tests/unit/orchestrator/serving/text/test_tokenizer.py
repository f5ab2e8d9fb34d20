"""Text of tokens: never half a character, nothing lost, templates as transformers renders them."""

import json
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import AutoTokenizer

from orchestrator.serving.text import tokenizer as module
from orchestrator.serving.text.tokenizer import TargetTokenizer, characters
from paceline.engine.torch.tokenizer_files import read_tokenizer
from paceline.errors import FailedPrecondition, InvalidArgument
from paceline.protocol.generation import Chat, ChatMessage, Prompt
from paceline.protocol.model import TokenizerFiles
from tests.tiny_models import BOS, TEMPLATE, byte_tokenizer, tiny_model

FILES = TokenizerFiles(byte_tokenizer().to_str().encode(), TEMPLATE, {"bos_token": "<|bos|>"})
TOKENIZER = TargetTokenizer(FILES)
HARD = "né e\u0301 日本語 👩‍👩‍👧 🇩🇪\n\tx\u00a0"


@given(st.one_of(st.text(), st.just(HARD)))
def test_text_comes_back_whole_and_in_whole_characters(text: str) -> None:
    """One byte a token: every split of every character."""
    detokenizer = TOKENIZER.detokenizer()
    pieces = [detokenizer.step(token) for token in TOKENIZER.encode(text)]
    assert "".join(pieces) + detokenizer.flush() == text
    assert text.startswith("".join(pieces))


def fallback_tokenizer() -> TargetTokenizer:
    """As sentencepiece models have it: pieces with a mark for spaces, and bytes for the rest."""
    pieces = ["\u2581", "a", "b", "\u2581a", "日", "é"]
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)}
    vocabulary |= {piece: 256 + index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, [("\u2581", "a")], byte_fallback=True, fuse_unk=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return TargetTokenizer(TokenizerFiles(tokenizer.to_str().encode(), "", {}))


FALLBACK = fallback_tokenizer()


@given(st.one_of(st.text("ab 日é語👩\u200d\u0301", max_size=12), st.just(HARD)))
def test_bytes_that_no_piece_covers_come_back_as_whole_characters(text: str) -> None:
    detokenizer = FALLBACK.detokenizer()
    pieces = [detokenizer.step(token) for token in FALLBACK.encode(text)]
    assert text.startswith("".join(pieces))
    assert "".join(pieces) + detokenizer.flush() == text


@given(st.sampled_from([FALLBACK, TOKENIZER]), st.text("é日👩\U0001f1e9", min_size=1, max_size=3))
def test_no_part_of_a_character_is_ever_shown(tokenizer: TargetTokenizer, text: str) -> None:
    tokens = tokenizer.encode(text)
    for end in range(len(tokens) + 1):
        detokenizer = tokenizer.detokenizer()
        shown = "".join(detokenizer.step(token) for token in tokens[:end])
        assert text.startswith(shown)
        assert "\ufffd" not in shown


@given(st.lists(st.integers(0, 257), max_size=40))
def test_any_bytes_become_text_without_an_error(tokens: list[int]) -> None:
    detokenizer = TOKENIZER.detokenizer()
    text = "".join(detokenizer.step(token) for token in tokens) + detokenizer.flush()
    assert text == byte_tokenizer().decode(tokens, skip_special_tokens=True)


texts = st.one_of(st.text(), st.text("ab 日é語👩\u200d\u0301<|bos>"), st.just(HARD))


@given(st.sampled_from([FALLBACK, TOKENIZER]), texts)
def test_the_text_of_a_texts_tokens_is_that_text(tokenizer: TargetTokenizer, text: str) -> None:
    """Whatever it is made of, but for the names of special tokens, which tokens have no text."""
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text.replace("<|bos|>", "")
    assert tokenizer.decode(tokens, skip_special_tokens=False).endswith(text)


@given(st.sampled_from([FALLBACK, TOKENIZER]), st.lists(st.integers(0, 300), max_size=20))
def test_any_tokens_have_a_text(tokenizer: TargetTokenizer, tokens: list[int]) -> None:
    assert tokenizer.decode(tokens).isprintable() in (True, False)


def test_special_tokens_that_are_asked_for_are_in_the_text_by_their_names() -> None:
    detokenizer = TOKENIZER.detokenizer(skip_special_tokens=False)
    tokens = [*TOKENIZER.encode("né"), BOS, *TOKENIZER.encode("日")]
    assert "".join(map(detokenizer.step, tokens)) == "né<|bos|>日"


def test_without_a_tokenizer_tokens_have_no_text() -> None:
    with pytest.raises(
        FailedPrecondition, match=r"^token_ids: the model has no tokenizer.json: its"
    ):
        TargetTokenizer(None).decode((1, 2))


def test_special_tokens_have_no_text() -> None:
    detokenizer = TOKENIZER.detokenizer()
    assert detokenizer.step(BOS) == ""
    assert detokenizer.flush() == ""


def test_a_conversation_is_rendered_as_transformers_does(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path)
    files = read_tokenizer(folder)
    assert files is not None
    assert files.special_tokens == {"bos_token": "<|bos|>", "eos_token": "<|eos|>"}
    messages = (ChatMessage("system", "Be brief."), ChatMessage("user", "Hi 👋"))
    expected = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        [{"role": message.role, "content": message.content or ""} for message in messages],
        add_generation_prompt=True,
        return_dict=False,
    )
    assert TargetTokenizer(files).encode(messages) == tuple(expected)


def test_a_conversation_that_the_template_refuses_is_an_invalid_argument() -> None:
    refusing = TokenizerFiles(FILES.tokenizer_json, "{{ raise_exception('no roles') }}", {})
    with pytest.raises(InvalidArgument, match="the chat template refuses it: no roles"):
        TargetTokenizer(refusing).encode((ChatMessage("x", "y"),))
    without = TokenizerFiles(FILES.tokenizer_json, "", {})
    with pytest.raises(InvalidArgument, match="no chat template"):
        TargetTokenizer(without).encode((ChatMessage("user", "y"),))


def test_a_template_cannot_reach_out_of_its_sandbox() -> None:
    evil = "{{ messages.__class__.__mro__ }}"
    with pytest.raises(InvalidArgument, match="refuses it"):
        TargetTokenizer(TokenizerFiles(FILES.tokenizer_json, evil, {})).encode(
            (ChatMessage("user", "y"),)
        )


def test_ids_are_taken_as_they_are() -> None:
    assert TOKENIZER.encode((5, BOS)) == (5, BOS)
    assert json.loads(FILES.tokenizer_json)["added_tokens"][0]["id"] == BOS


def grown_by(encode: Callable[[str], object], words: int) -> float:
    """MiB by which this process grows while so many long words, each another, are encoded."""
    process = psutil.Process()
    before = process.memory_info().rss
    for number in range(words):
        encode(f"{number:x}" * 40)
    return (process.memory_info().rss - before) / 2**20


def test_words_of_prompts_are_not_kept_for_good() -> None:
    """tokenizers keeps 10,000, up to 8 KB each, for each thread and for ever: 40 MiB of these."""
    grown = grown_by(TargetTokenizer(FILES).encode, 10_000)
    assert grown < 10


def test_of_a_long_text_only_the_beginning_is_read_where_that_is_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The byte tokenizer's longest token has 7 characters: by that 700 would fit."""
    monkeypatch.setattr(module, "LEAST_PIECE", 10)
    monkeypatch.setattr(module, "PIECE_CHARACTERS", 3)
    said = "prompt has 300 tokens in its first 300 characters; it must be under 100 tokens, "
    with pytest.raises(InvalidArgument, match=f"^{said}the model's positions$"):
        TOKENIZER.encode("x" * 600, 100)
    assert len(TOKENIZER.encode("x" * 600, 200)) == 600 + len(TOKENIZER.encode(""))
    assert len(TOKENIZER.encode("x" * 600)) == 600 + len(TOKENIZER.encode(""))


@pytest.mark.parametrize(
    ("prompt", "count"),
    [
        ("text", 4),
        ((1, 2, 3), 3),
        ((), 0),
        ((ChatMessage("user", "four", reasoning_content="two"), {"content": "three"}), 12),
        (Chat((ChatMessage("user", None, tool_calls=({"a": ["xx", 1]},)),), ({"b": "y"},)), 3),
    ],
)
def test_the_characters_of_a_prompt_are_those_of_all_its_texts(prompt: Prompt, count: int) -> None:
    assert characters(prompt) == count
