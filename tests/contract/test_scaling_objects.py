"""What each role is scaled by: objects that are valid, and metrics that the servers export."""

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from paceline.protocol.generation import GenerateRequest, Speculation
from paceline_tools.scaling import autoscaler
from tests import servers
from tests.contract.charts import charted
from tests.contract.manifests import Object, faults
from tests.contract.rendering import of, with_components
from tests.contract.test_chart import assert_alike
from tests.contract.test_deploy import SETTINGS
from tests.metrics_reference import registries, sections
from tests.promtool import promtool

WANTING = "paceline_streams_wanting_draft"
KINDS = {"keda": "ScaledObject", "hpa": "HorizontalPodAutoscaler"}
NAME = re.compile(r"\bpaceline_[a-z0-9_]+")


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Object]]:
    """With each component over the base."""
    return {by: with_components(tmp_path_factory.mktemp(by), [by]) for by in KINDS}


def queries(objects: list[Object]) -> list[str]:
    return [
        trigger["metadata"]["query"]
        for one in of(objects, "ScaledObject").values()
        for trigger in one["spec"]["triggers"]
    ]


@pytest.mark.parametrize("by", KINDS)
def test_each_role_is_scaled_and_nothing_else_says_how_many(
    by: str, objects: dict[str, list[Object]]
) -> None:
    assert faults(objects[by]) == []
    deployments = of(objects[by], "Deployment")
    found = of(objects[by], KINDS[by])
    assert found.keys() == deployments.keys() == SETTINGS.keys()
    for role, one in found.items():
        assert one["spec"]["scaleTargetRef"]["name"] == deployments[role]["metadata"]["name"]
        assert "replicas" not in deployments[role]["spec"]
        scaler = autoscaler(one)
        assert scaler.down.stabilization_seconds == 300
        assert scaler.fewest < scaler.most


def test_drafts_alone_go_to_zero_and_only_with_keda(objects: dict[str, list[Object]]) -> None:
    fewest = {
        by: {role: autoscaler(one).fewest for role, one in of(objects[by], kind).items()}
        for by, kind in KINDS.items()
    }
    assert fewest["keda"] == {"orchestrator": 2, "target": 1, "draft": 0}
    assert fewest["hpa"] == {"orchestrator": 2, "target": 1, "draft": 1}


@pytest.mark.parametrize("by", KINDS)
def test_the_chart_has_the_same(by: str, objects: dict[str, list[Object]]) -> None:
    chart = charted({"scaling": {"by": by}}, namespace="paceline")
    assert faults(chart) == []
    assert_alike(chart, objects[by])


def test_values_of_the_chart_get_into_the_objects() -> None:
    values: dict[str, Any] = {
        "scaling": {"by": "hpa", "downSeconds": 60},
        "target": {"scaling": {"min": 2, "max": 3, "kvShare": 0.6, "waiting": 2.5}},
    }
    found = autoscaler(of(charted(values), "HorizontalPodAutoscaler")["target"])
    assert [one.target for one in found.triggers] == [2.5, 0.6]
    assert (found.fewest, found.most, found.down.stabilization_seconds) == (2, 3, 60)
    values["scaling"]["by"] = "keda"
    found = autoscaler(of(charted(values), "ScaledObject")["target"])
    assert [one.target for one in found.triggers] == [2.5, 0.6]


async def test_every_metric_is_exported_under_that_name_by_the_role_that_has_it(
    objects: dict[str, list[Object]],
) -> None:
    found = sections(await registries())
    series = {
        section: {one for family in some for one in family.series}
        for section, some in found.items()
    }
    both = series["Target and draft"]
    of_role = {
        "orchestrator": series["Orchestrator"],
        "target": series["Target"] | both,
        "draft": series["Draft"] | both,
    }
    for role, one in of(objects["hpa"], "HorizontalPodAutoscaler").items():
        named = {metric["pods"]["metric"]["name"] for metric in one["spec"]["metrics"]}
        assert named
        assert named <= of_role[role], role
    for query in queries(objects["keda"]):
        [name] = NAME.findall(query)
        [role] = re.findall(r'container="(\w+)"', query) or ["orchestrator"]
        assert name in of_role[role], query


def test_the_queries_are_promql(tmp_path: Path, objects: dict[str, list[Object]]) -> None:
    rules = "".join(
        f"  - record: scaling:{number}\n    expr: '{query}'\n"
        for number, query in enumerate(queries(objects["keda"]))
    )
    file = tmp_path / "rules.yaml"
    file.write_text(f"groups:\n- name: scaling\n  rules:\n{rules}")
    promtool("check", "rules", file)


@pytest.mark.parametrize(
    ("speculation", "wanted"), [(Speculation.AUTO, 1), (Speculation.FORCE, 1), (Speculation.OFF, 0)]
)
async def test_a_stream_wants_a_draft_though_there_is_none(
    speculation: Speculation, wanted: int
) -> None:
    registry = CollectorRegistry()
    asked = GenerateRequest("a", max_tokens=200, ignore_eos=True, speculation=speculation)
    async with (
        servers.target("simulated:step_ms=5") as target,
        servers.orchestrator([target.address], [], registry=registry) as client,
    ):
        async with client.generate(asked) as stream:
            await anext(aiter(stream))
            assert registry.get_sample_value(WANTING, {"model": "simulated"}) == wanted
        await servers.nothing_is_left(target)
    assert registry.get_sample_value(WANTING, {"model": "simulated"}) == 0
