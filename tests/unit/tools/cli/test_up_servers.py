"""What `up` starts its servers with."""

from dataclasses import replace
from pathlib import Path

import pytest

from paceline.errors import InvalidArgument
from paceline_tools.cli.up_options import UpOptions
from paceline_tools.cli.up_ports import choose_ports, usual_ports
from paceline_tools.cli.up_servers import LocalPlan, _commands, check

SIMULATED = "simulated:step_ms=1"


def commands(up: UpOptions) -> dict[str, list[str]]:
    plan = LocalPlan.of(up)
    usual = usual_ports(up.port, plan.names, page=False, gateway=False)
    plan = replace(plan, ports=choose_ports(up.host, up.port, usual))
    return _commands(up, plan, Path("/s"))


def test_targets_are_on_vllm_where_its_python_is_given_and_drafts_are_not() -> None:
    models = {"target": [SIMULATED], "draft": [SIMULATED]}
    own = commands(UpOptions(**models))
    assert "--device=cpu" in own["target"]
    assert "--engine=vllm" not in own["target"]
    found = commands(UpOptions(**models, vllm=Path("/v/bin/python")))
    assert "--engine=vllm" in found["target"]
    assert "--device=cpu" not in found["target"]
    assert "--engine=vllm" not in found["draft"]
    assert "--device=cpu" in found["draft"]


def test_a_python_that_is_not_there_is_told_before_anything_is_started() -> None:
    up = UpOptions(target=[SIMULATED], draft=["none"], vllm=Path("/nowhere/python"))
    with pytest.raises(InvalidArgument, match="--vllm is '/nowhere/python'"):
        check(up)
