"""Settings: flags before environment, every field explained, bad ones named with their limit."""

import pytest
from pydantic_settings import CliApp

from draft_server.settings import DraftSettings
from orchestrator.settings import OrchestratorSettings
from paceline.settings import ServerSettings, parse
from target_server.settings import TargetSettings

ALL: tuple[type[ServerSettings], ...] = (OrchestratorSettings, TargetSettings, DraftSettings)


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACELINE_ORCHESTRATOR_DRAFT", "a:1,b:2")
    monkeypatch.setenv("PACELINE_ORCHESTRATOR_DRAFT_LENGTH", "7")
    settings = parse(OrchestratorSettings, ["--draft-length=3"])
    assert settings.draft == ["a:1", "b:2"]
    assert settings.draft_length == 3
    assert parse(OrchestratorSettings, ["--draft="]).draft == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--draft-length=99"], "--draft-length is '99': Input should be less than or equal to 32"),
        (["--target="], "--target is []: List should have at least 1 item"),
        (["--port=x"], "--port is 'x': Input should be a valid integer"),
    ],
)
def test_a_bad_setting_is_named_with_its_limit(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(OrchestratorSettings, arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_missing_setting_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(TargetSettings, [])
    assert capsys.readouterr().err == "--model is missing\n"


@pytest.mark.parametrize("kind", ALL)
def test_help_explains_every_setting(
    kind: type[ServerSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        CliApp.run(kind, cli_args=["--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, field in kind.model_fields.items():
        assert f"--{name.replace('_', '-')} " in text
        assert field.description
        assert field.description.split(":")[0][:30] in text
        assert f"{kind.model_config['env_prefix']}{name.upper()}" in text


def test_a_socket_takes_the_place_of_host_and_port() -> None:
    assert OrchestratorSettings(host="h", port=1).address == "h:1"
    assert parse(OrchestratorSettings, ["--socket=/tmp/s"]).address == "unix:/tmp/s"
