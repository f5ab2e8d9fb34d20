"""Models with odd text, over real servers: each is served, and none harms another."""

import json
from pathlib import Path
from typing import Any

import pytest

from paceline.errors import FailedPrecondition
from paceline.protocol.generation import ChatMessage, GenerateRequest, Prompt
from tests import servers
from tests.tiny_models import BOS, tiny_model

CHAT = (ChatMessage("user", "Hi"),)


def a_request(prompt: Prompt, **fields: Any) -> GenerateRequest:
    return GenerateRequest(prompt, seed=1, max_tokens=4, ignore_eos=True, **fields)


def write_template(folder: Path, template: str) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": template}))


async def test_templates_and_tokenizers_that_are_none_leave_the_rest_served(
    tmp_path: Path,
) -> None:
    good, bad, bare = (tiny_model(tmp_path / name) for name in ("good", "bad", "bare"))
    write_template(good, "{% generation %}{{ bos_token }}{% endgeneration %}")
    write_template(bad, "{% if %}")
    (bare / "tokenizer.json").unlink()
    async with (
        servers.target(good) as one,
        servers.target(bad) as two,
        servers.target(bare) as three,
        servers.orchestrator([one.address, two.address, three.address], []) as client,
    ):
        chat = await client.generate(a_request(CHAT, model="good")).result()
        assert chat.started.prompt_token_ids == (BOS,)
        with pytest.raises(FailedPrecondition, match="chat template cannot be used"):
            await client.generate(a_request(CHAT, model="bad")).result()
        assert (await client.generate(a_request("Hi", model="bad")).result()).choices[0].token_ids
        ids = await client.generate(a_request((1, 2), model="bare")).result()
        assert len(ids.choices[0].token_ids) == 4
        assert ids.choices[0].text == ""
        with pytest.raises(FailedPrecondition, match="send token ids"):
            await client.generate(a_request("Hi", model="bare")).result()
        with pytest.raises(FailedPrecondition, match="stop: the model has no"):
            await client.generate(a_request((1, 2), model="bare", stop=("x",))).result()
