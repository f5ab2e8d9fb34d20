"""The compose file for one machine says what the settings and the images have."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from draft_server.settings import DraftSettings
from orchestrator.settings import OrchestratorSettings
from paceline.settings import ServerSettings
from target_server.settings import TargetSettings
from tests.contract.test_images import PYPROJECT, STAGES

COMPOSE = Path(__file__).parents[2] / "deploy" / "compose.yaml"
FOUND: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
SERVICES: dict[str, Any] = FOUND["services"]
SETTINGS: dict[str, type[ServerSettings]] = {
    "orchestrator": OrchestratorSettings,
    "target": TargetSettings,
    "draft": DraftSettings,
}
DEFAULT = re.compile(r"\$\{\w+:-(.*?)\}")


def with_defaults(value: str) -> str:
    """As it is where no variable is set."""
    return DEFAULT.sub(r"\1", value)


def settings(role: str) -> ServerSettings:
    prefix = f"PACELINE_{role.upper()}_"
    given: dict[str, Any] = {
        name.removeprefix(prefix).lower(): with_defaults(value)
        for name, value in SERVICES[role]["environment"].items()
        if name != "HOME"
    }
    return SETTINGS[role](**given)  # unknown names are refused


def test_there_is_a_server_of_each_role_and_what_pulls_its_model() -> None:
    assert SERVICES.keys() == {*SETTINGS, "pull-target", "pull-draft"}


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_one_of_ours_and_locked_down(name: str) -> None:
    service, role = SERVICES[name], name.removeprefix("pull-")
    assert service["image"] == f"paceline-{role}:{PYPROJECT['project']['version']}"
    assert service["read_only"]
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - in the container
    assert service["build"]["target"] == role
    assert role in STAGES
    if name in SETTINGS:
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("role", SETTINGS)
def test_a_server_has_settings_that_are_right_and_time_to_drain(role: str) -> None:
    service = SERVICES[role]
    assert int(service["stop_grace_period"].removesuffix("s")) > settings(role).drain_seconds
    assert service["healthcheck"]["test"][1:] == [
        "python",
        "-m",
        "paceline.health",
        role,
        "--ready",
    ]


def test_only_what_pulls_is_told_of_the_hub() -> None:
    for name, service in SERVICES.items():
        told = {one for one in service["environment"] if one.startswith("HF_")}
        assert told == ({"HF_TOKEN", "HF_ENDPOINT"} if name.startswith("pull-") else set())


@pytest.mark.parametrize("role", SETTINGS)
def test_the_other_file_has_tls_on_every_link(role: str) -> None:
    """As Compose merges: variables by name; volumes are added to by where they are mounted."""
    found = yaml.safe_load(COMPOSE.with_name("compose.tls.yaml").read_text())["services"]
    assert found.keys() == SETTINGS.keys()
    more = found[role]
    assert more["volumes"] == [
        f"${{PACELINE_TLS:?a folder with certificates is needed}}/{role}:/tls:ro"
    ]
    prefix = f"PACELINE_{role.upper()}_"
    given = SERVICES[role]["environment"] | more["environment"]
    values: dict[str, Any] = {
        name.removeprefix(prefix).lower(): with_defaults(value)
        for name, value in given.items()
        if name.startswith(prefix)
    }
    settings = SETTINGS[role](**values)
    assert not settings.plaintext
    assert str(settings.tls_certificate) == "/tls/tls.crt"
    authority = "tls_server_ca" if role == "orchestrator" else "tls_client_ca"
    assert str(getattr(settings, authority)) == "/tls/ca.crt"


def test_servers_find_each_other() -> None:
    orchestrator = settings("orchestrator")
    assert isinstance(orchestrator, OrchestratorSettings)
    environment = SERVICES["orchestrator"]["environment"]
    for role in ("target", "draft"):
        address = f"{role}:{settings(role).port}"
        assert environment[f"PACELINE_ORCHESTRATOR_{role.upper()}"] == address


def test_calls_are_taken_on_this_machine_alone_and_by_the_orchestrator_alone() -> None:
    assert {name for name, one in SERVICES.items() if "ports" in one} == {"orchestrator"}
    [port] = SERVICES["orchestrator"]["ports"]
    assert with_defaults(port) == "127.0.0.1:7070:7070"


@pytest.mark.parametrize("role", ["target", "draft"])
def test_a_model_is_pulled_before_it_is_served(role: str) -> None:
    pull = SERVICES[f"pull-{role}"]
    model = SERVICES[role]["environment"][f"PACELINE_{role.upper()}_MODEL"]
    assert pull["entrypoint"] == ["paceline", "pull", model]
    assert pull["volumes"] == SERVICES[role]["volumes"] == ["models:/models"]
    needed = SERVICES[role]["depends_on"]
    assert needed == {f"pull-{role}": {"condition": "service_completed_successfully"}}
