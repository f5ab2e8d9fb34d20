"""`up` says of a model that takes no text, or no conversation, that it is so and why."""

import shutil
from pathlib import Path

import pytest

from paceline.client import Client
from paceline.errors import FailedPrecondition
from paceline_tools.cli.up_servers import tell_of_text
from tests import servers
from tests.tiny_models import tiny_model


class Said:
    """What would stand on the terminal."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str, **_: object) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


async def told(client: Client) -> list[str]:
    said = Said()
    await tell_of_text(client, said)  # type: ignore[arg-type]
    return said.lines


async def test_a_whole_model_needs_no_word(folder: Path) -> None:
    async with (
        servers.target(folder) as target,
        servers.orchestrator([target.address], []) as client,
    ):
        assert await told(client) == []


async def test_a_folder_without_a_tokenizer_is_told(folder: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(folder, tmp_path / "bare")
    for path in bare.glob("tokenizer*"):
        path.unlink()
    async with servers.target(bare) as target, servers.orchestrator([target.address], []) as client:
        [line] = await told(client)
        assert line.endswith(": prompt: the model has no tokenizer.json; send token ids")
        chat = [{"role": "user", "content": "hi"}]
        with pytest.raises(FailedPrecondition) as raised:
            await client.generate(chat).result()
        assert str(raised.value) == ("prompt.chat: the model has no tokenizer.json; send token ids")


async def test_a_broken_chat_template_is_told(folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "chat_template.jinja").write_text("{% for x in messages }}")
    async with (
        servers.target(broken) as target,
        servers.orchestrator([target.address], []) as client,
    ):
        [line] = await told(client)
        assert "the model's chat template cannot be used: " in line
