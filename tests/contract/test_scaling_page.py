"""docs/scaling.md and docs/chart.md: what they say is rendered, and their numbers are true."""

import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from paceline_tools.scaling import autoscaler
from tests.contract.charts import CHART, Values, charted, helm
from tests.contract.manifests import faults
from tests.contract.rendering import KUSTOMIZE, kustomized, of

ROOT = Path(__file__).parents[2]
PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("scaling", "chart")}
COMMANDS = [
    line for page in PAGES.values() for line in re.findall(r"^helm .*$", page, re.MULTILINE)
]


@pytest.mark.parametrize(("block", "namespace"), [(0, "paceline"), (1, "mine")])
def test_its_overlays_are_rendered_and_scale_each_role(
    block: int, namespace: str, tmp_path: Path
) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGES["scaling"], re.DOTALL)
    assert len(blocks) == 2
    shutil.copytree(KUSTOMIZE, tmp_path / "kustomize")
    mine = tmp_path / "kustomize" / "mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(blocks[block])
    found = kustomized(mine)
    assert faults(found) == []
    for scaled in of(found, "ScaledObject").values():
        assert scaled["metadata"].get("namespace", "paceline") == namespace
        for trigger in scaled["spec"]["triggers"]:
            assert f'{{namespace="{namespace}"' in trigger["metadata"]["query"]
    rows = re.findall(r"^\| (\w+) \| (\d+) to (\d+)", PAGES["scaling"], re.MULTILINE)
    assert len(rows) == 3
    for role, fewest, most in rows:
        scaler = autoscaler(of(found, "ScaledObject")[role])
        assert (scaler.fewest, scaler.most) == (int(fewest), int(most))


def test_its_table_has_metrics_and_numbers_of_the_objects(tmp_path: Path) -> None:
    shutil.copytree(KUSTOMIZE / "components", tmp_path / "components")
    (tmp_path / "kustomization.yaml").write_text("components: [components/keda, components/hpa]\n")
    found = kustomized(tmp_path)
    rows = re.findall(
        r"^\|.*\| `(\w+)` of all \| `(\w+)` \| ([0-9.]+) \|$", PAGES["scaling"], re.MULTILINE
    )
    asked = [
        (re.findall(r"\((\w+)\{", one["metadata"]["query"])[0], float(one["metadata"]["threshold"]))
        for scaled in of(found, "ScaledObject").values()
        for one in scaled["spec"]["triggers"]
    ]
    plain = [
        (one["pods"]["metric"]["name"], trigger.target)
        for scaled in of(found, "HorizontalPodAutoscaler").values()
        for one, trigger in zip(scaled["spec"]["metrics"], autoscaler(scaled).triggers, strict=True)
    ]
    assert sorted((name, float(each)) for name, _, each in rows) == sorted(asked)
    assert sorted((name, float(each)) for _, name, each in rows) == sorted(plain)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_helm_is_told_can_be_rendered(command: str) -> None:
    words = shlex.split(command)
    assert ROOT / words[words.index("paceline") + 1] == CHART
    given: Values = {}
    for flag, value in pairwise(words):
        if flag == "--values":
            given |= yaml.safe_load((ROOT / value).read_text())
        if flag == "--set":
            for name, part in helm().parse_set_string(value).items():
                given.setdefault(name, {}).update(part)
    assert faults(charted(given)) == []


def test_there_are_such_commands() -> None:
    assert len(COMMANDS) == 2
