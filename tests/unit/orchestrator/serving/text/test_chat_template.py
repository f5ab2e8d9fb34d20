"""Chat templates as transformers renders them; a bad one harms nobody."""

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.serving.text import chat_template as module
from orchestrator.serving.text.chat_template import ChatTemplates
from orchestrator.serving.text.tokenizer import TargetTokenizer
from paceline.engine.torch.tokenizer_files import read_tokenizer
from paceline.errors import FailedPrecondition, InvalidArgument
from paceline.protocol.generation import Chat, ChatMessage
from paceline.protocol.model import TokenizerFiles
from tests.tiny_models import byte_tokenizer

USER: list[dict[str, Any]] = [{"role": "user", "content": "Hi <b>'you'</b>"}]


def render(source: str, **given: Any) -> str:
    return ChatTemplates({"default": source}, {"bos_token": "<s>"}).render(USER, **given)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ bos_token }}{% generation %}{{ messages[0].role }}{% endgeneration %}", "<s>user"),
        ("{{ messages[0].content | tojson }}", "\"Hi <b>'you'</b>\""),
        ("{{ {'b': 1, 'a': 'é'} | tojson(sort_keys=true) }}", '{"a": "é", "b": 1}'),
        ("{{ [1] | tojson(indent=1) }}", "[\n 1\n]"),
        ("{{ [1, 2] | tojson(separators=(',', ':')) }}", "[1,2]"),
        ("{{ tools is none and documents is none }}", "True"),
        ("{{ eos_token is defined }}", "False"),
        ("{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "1"),
        ("{% set ns = namespace(a=1) %}{% set ns.a = 2 %}{{ ns.a }}{{ dict(a=1) }}", "2{'a': 1}"),
    ],
)
def test_templates_have_what_transformers_gives_them(source: str, text: str) -> None:
    assert render(source) == text


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate$"),
        ("{{ raise_exception('not ' ~ messages[0].content) }}", r"refuses it: not \.\.\.$"),
        ("{{ raise_exception(messages[0].content) }}", r"refuses it: \.\.\.$"),
        ("\n{{ 1 / 0 }}", "ZeroDivisionError in its line 2"),
        ("{{ 'a' + 1 }}", "TypeError in its line 1"),
        ("{{ missing.name }}", "UndefinedError"),
        ("{{ messages.__class__.__mro__ }}", "SecurityError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
        ("{% set n = namespace(_a=1) %}", "SecurityError"),
        ("{{ 'x' * 10 ** 9 }}", "repeats a text"),
        ("{{ (9 ** 9) ** (9 ** 9) }}", "power"),
        ("{{ no_such_function() }}", "UndefinedError"),
        ("{{ undefined_thing | fromjson }}", "cannot be used"),
    ],
)
def test_an_error_in_a_template_is_the_callers_and_never_quotes_the_conversation(
    source: str, reason: str
) -> None:
    with pytest.raises((InvalidArgument, FailedPrecondition), match=reason) as raised:
        render(source)
    assert "you" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_template_has_so_long_and_may_say_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENDER_SECONDS", 0.05)
    monkeypatch.setattr(module, "MAX_CHARACTERS", 1000)
    endless = "{% set r = range(9999) %}{% for a in r %}{% for b in r %}{% set c = b %}{% endfor %}"
    with pytest.raises(InvalidArgument, match=r"longer than 0\.05 s"):
        render(endless + "{% endfor %}")
    with pytest.raises(InvalidArgument, match="more than 1000 characters"):
        render("{% for a in range(999) %}{{ a }}{% endfor %}")


def test_a_template_that_is_none_leaves_text_and_ids() -> None:
    files = TokenizerFiles(byte_tokenizer().to_str().encode(), "{% if %}", {})
    tokenizer = TargetTokenizer(files)
    with pytest.raises(FailedPrecondition, match="cannot be used: TemplateSyntaxError in its line"):
        tokenizer.encode_chat(USER)
    assert tokenizer.encode("a") != ()
    assert tokenizer.encode((1, 2)) == (1, 2)


def test_templates_are_picked_by_name() -> None:
    both = ChatTemplates({"default": "plain", "tool_use": "tools"}, {})
    assert both.render(USER) == "plain"
    assert both.render(USER, tools=[]) == "tools"
    with pytest.raises(InvalidArgument, match="are rag; none is default"):
        ChatTemplates({"rag": "x"}, {}).render(USER)


def write(folder: Path, files: dict[str, object]) -> TokenizerFiles:
    (folder / "additional_chat_templates").mkdir()
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text, "utf-8")
    found = read_tokenizer(folder)
    assert found is not None
    return found


def test_templates_come_from_every_place_that_holds_some(tmp_path: Path) -> None:
    names = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]
    listed = write(tmp_path, {"tokenizer_config.json": {"chat_template": names}})
    assert (listed.chat_template, listed.named_templates) == ("d", {"tool_use": "t"})
    (tmp_path / "chat_template.jinja").write_text("é", "utf-8")
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("r")
    files = read_tokenizer(tmp_path)
    assert files is not None
    assert (files.chat_template, files.named_templates) == ("é", {"rag": "r"})
    assert files.digest != listed.digest


@pytest.mark.parametrize("decoder", [True, False])
def test_special_tokens_come_from_every_file_that_holds_them(tmp_path: Path, decoder: bool) -> None:
    """The one that transformers believes wins where two differ."""
    settings: dict[str, Any] = {
        "bos_token": {"__type": "AddedToken", "content": "<b>"},
        "eos_token": "<e>",
        "sep_token": None,
        "extra_special_tokens": {"image": "<i>"},
    }
    older = {"eos_token": {"content": "<older>"}, "unk_token": "<u>"}
    if decoder:
        settings["added_tokens_decoder"] = {}
    files = write(tmp_path, {"tokenizer_config.json": settings, "special_tokens_map.json": older})
    eos = "<e>" if decoder else "<older>"
    specials = {"bos_token": "<b>", "eos_token": eos, "unk_token": "<u>", "image": "<i>"}
    assert files.special_tokens == specials


def test_what_was_saved_to_clip_and_pad_prompts_does_not(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.enable_truncation(16)
    tokenizer.enable_padding(length=64)
    files = TokenizerFiles(tokenizer.to_str().encode(), "", {})
    assert len(TargetTokenizer(files).encode("x" * 44)) == 44


def test_a_model_without_a_tokenizer_has_ids_alone() -> None:
    tokenizer = TargetTokenizer(None)
    assert tokenizer.encode((1, 2)) == (1, 2)
    assert not tokenizer.has_text
    with pytest.raises(FailedPrecondition, match="send token ids"):
        tokenizer.encode("text")
    detokenizer = tokenizer.detokenizer()
    assert detokenizer.step(1) + detokenizer.alone(1) + detokenizer.flush() == ""


def test_a_text_that_cannot_fit_is_refused_before_it_is_read() -> None:
    """The longest token is <|bos|>, of 7 characters."""
    tokenizer = TargetTokenizer(
        TokenizerFiles(byte_tokenizer().to_str().encode(), "{{'x'*99}}", {})
    )
    assert len(tokenizer.encode("x" * 70, 10)) == 70
    with pytest.raises(InvalidArgument, match="length is 71; it must be at most 70 characters"):
        tokenizer.encode("x" * 71, 10)
    with pytest.raises(InvalidArgument, match="length is 99"):
        tokenizer.encode_chat(USER, max_positions=10)


def test_arguments_that_are_text_of_an_object_are_the_object_once() -> None:
    source = "{{ messages[0].tool_calls[0].function.arguments | tojson }}"
    files = TokenizerFiles(byte_tokenizer().to_str().encode(), source, {})

    def arguments(given: Any) -> str:
        call = {"type": "function", "function": {"name": "f", "arguments": given}}
        chat = Chat((ChatMessage("assistant", None, tool_calls=(call,)),))
        return byte_tokenizer().decode(TargetTokenizer(files).encode(chat))

    assert arguments('{"b":1,"a":[2.0]}') == arguments({"b": 1, "a": [2.0]})
    assert arguments("") == arguments({}) == "{}"
    assert arguments("no JSON") == '"no JSON"'
    assert arguments("[1]") == '"[1]"'


def test_what_a_template_is_told_by_name_wins_over_special_tokens() -> None:
    assert render("{{ bos_token }}{{ self_ }}", given={"bos_token": "b", "self_": 1}) == "b1"
    assert render("{{ 1 }}", given={"self": 1, "max_positions": 2}) == "1"


@pytest.mark.parametrize(
    ("source", "content", "reason"),
    [
        ("{{ 1 }}", "said", "leaves out part of the message"),
        ("{{ messages[0].role }}", None, "has no content to continue"),
    ],
)
def test_a_message_that_cannot_be_continued_is_said(
    source: str, content: str | None, reason: str
) -> None:
    template = ChatTemplates({"default": source}, {})
    message = {"role": "assistant", "content": content}
    with pytest.raises(InvalidArgument, match=f"continue_final_message: .*{reason}"):
        template.render([message], continue_final_message=True)


def test_the_final_message_is_continued_where_it_ends() -> None:
    source = "{% for m in messages %}<{{ m.content }}>{% endfor %}{{ add_generation_prompt }}"
    assert (
        ChatTemplates({"default": source}, {}).render(
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b "}],
            continue_final_message=True,
        )
        == "<a><b "
    )
    assert render("{{ add_generation_prompt }}") == "True"
    assert render("{{ add_generation_prompt }}", add_generation_prompt=False) == "False"
