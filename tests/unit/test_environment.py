"""Environment variables with our prefix that nothing reads are named, with the nearest one."""

import pytest

from draft_server.settings import DraftSettings
from orchestrator.settings import OrchestratorSettings
from paceline.environment import OTHERS, unknown_variables, variables
from paceline_tools.cli.app import main
from target_server.settings import TargetSettings
from tests.unit.test_settings import service_links

KNOWN = variables(OrchestratorSettings)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "PACELINE_ORCHESTRATOR_LOOKAHED",
            "the environment has PACELINE_ORCHESTRATOR_LOOKAHED, which is no setting; "
            "PACELINE_ORCHESTRATOR_LOOKAHEAD may be meant",
        ),
        (
            "PACELINE_ORCHESTRTOR_PORT",
            "the environment has PACELINE_ORCHESTRTOR_PORT, which is no setting; "
            "PACELINE_ORCHESTRATOR_PORT may be meant",
        ),
        (
            "PACELINE_ORCHESTRATOR_HELTH_PORT",
            "the environment has PACELINE_ORCHESTRATOR_HELTH_PORT, which is no setting; "
            "PACELINE_ORCHESTRATOR_HEALTH_PORT may be meant",
        ),
        ("PACELINE_X", "the environment has PACELINE_X, which is no setting"),
        (
            "PACELINE_HOM",
            "the environment has PACELINE_HOM, which is no setting; PACELINE_HOME may be meant",
        ),
        (
            "paceline_orchestrator_prt",
            "the environment has paceline_orchestrator_prt, which is no setting; "
            "PACELINE_ORCHESTRATOR_PORT may be meant",
        ),
    ],
)
def test_a_misspelt_variable_is_named_with_the_nearest(name: str, said: str) -> None:
    assert [str(one) for one in unknown_variables(KNOWN, {name: "1", "OTHER": "2"})] == [said]


def test_what_is_read_is_not_named() -> None:
    kinds = (OrchestratorSettings, TargetSettings, DraftSettings)
    there = dict.fromkeys([*variables(*kinds), "PACELINE_HOME", "paceline_draft_port"], "1")
    assert list(unknown_variables(variables(*kinds), there)) == []


def test_each_server_looks_at_its_own() -> None:
    there = {"PACELINE_TARGET_TREADS": "1", "PACELINE_DRAFT_MODEL": "m"}
    assert list(unknown_variables(KNOWN, there)) == []
    [found] = unknown_variables(variables(TargetSettings), there)
    assert found.nearest == "PACELINE_TARGET_THREADS"


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        (
            "PACELINE_TOKNE",
            "the environment has PACELINE_TOKNE, which is no setting; PACELINE_TOKEN may be meant",
        ),
        ("PACELINE_FOO", "the environment has PACELINE_FOO, which is no setting"),
    ],
)
def test_a_command_warns_too(
    variable: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, "x")
    with pytest.raises(SystemExit):
        main(["generate", ""])
    assert capsys.readouterr().err.splitlines()[0] == f"paceline: {said}"


def test_what_a_command_or_another_tool_reads_is_not_named() -> None:
    there = dict.fromkeys(OTHERS, "x")
    assert "PACELINE_VLLM_DRAFT" in there
    assert list(unknown_variables(KNOWN, there)) == []


def test_links_to_services_of_a_cluster_are_not_named() -> None:
    for service in ("PACELINE_ORCHESTRATOR_", "PACELINE_OTHER_", "PACELINE_ORCHESTRATOR_HEALTH_"):
        assert list(unknown_variables(KNOWN, service_links(service))) == []
