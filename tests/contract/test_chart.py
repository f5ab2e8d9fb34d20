"""deploy/helm: the objects of deploy/kustomize, from values that are checked."""

import copy
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import chart_reference
from tests.chart_reference import SETTINGS, described, leaves, written
from tests.contract.charts import CHART, HELM, Values, charted, helm, values_of
from tests.contract.manifests import Object, faults
from tests.contract.rendering import (
    KUSTOMIZE,
    container,
    kustomized,
    of,
    plain_name,
    with_components,
)

HELMS = frozenset(f"app.kubernetes.io/{name}" for name in ("instance", "version", "managed-by")) | {
    "helm.sh/chart"
}
"""Labels that only Helm's objects have."""
OF_RELEASE = re.compile(
    r"""\{namespace="default",job="default/paceline"}|(?<=\{)namespace="default",job="default/paceline","""
    r"""|,pod=~"paceline-\w+-\[a-z0-9]\+-\[a-z0-9]\+\""""
)
"""Matchers that only its queries have."""
WHOLE: Values = {
    "tls": {"enabled": True, "certManager": True},
    "tokens": {"secret": "paceline-tokens"},
    "monitoring": {"enabled": True},
    "traces": {"enabled": True},
}
ERROR = "values don't meet the specifications"


def alike(objects: list[Object]) -> dict[str, Object]:
    """By kind and name, without what is Helm's or kustomize's own, and with lists in one order.

    Helm's are its labels, and matchers of the release in queries.
    """
    hashed = {one["metadata"]["name"]: plain_name(one) for one in objects}
    found = {
        f"{one['kind']} {plain_name(one)}": _alike(one, hashed)
        for one in objects
        if one["kind"] != "Namespace"
    }
    for one in found.values():
        one["metadata"].pop("namespace", None)
    return found


def _alike(part: Any, hashed: dict[str, str]) -> Any:
    if isinstance(part, dict):
        return {
            name: _alike(value, hashed)
            for name, value in part.items()
            if name not in HELMS and not name.startswith("checksum/")
        }
    if isinstance(part, list):
        found = [_alike(one, hashed) for one in part]
        named = all(isinstance(one, dict) and "name" in one for one in found)
        return sorted(found, key=lambda one: str(one["name"])) if named else found
    return hashed.get(part, OF_RELEASE.sub("", part)) if isinstance(part, str) else part


def assert_alike(chart: list[Object], overlay: list[Object]) -> None:
    given, wanted = alike(chart), alike(overlay)
    assert given.keys() == wanted.keys()
    for name, one in wanted.items():
        assert given[name] == one, name


@pytest.mark.parametrize("name", ["cpu-demo", "gpu", "gpu-vllm"])
def test_objects_are_those_of_the_overlay(name: str) -> None:
    chart = charted(values_of(name))
    assert faults(chart) == []
    assert_alike(chart, kustomized(KUSTOMIZE / "overlays" / name))


def test_defaults_are_the_base_and_switches_its_components(tmp_path: Path) -> None:
    assert_alike(charted({}), kustomized(KUSTOMIZE / "base"))
    names = ["monitoring", "traces", "cert-manager", "tls", "tokens"]
    chart = charted(WHOLE)
    assert faults(chart) == []
    assert_alike(chart, with_components(tmp_path, names))


def test_every_file_of_values_is_compared() -> None:
    assert {one.stem for one in (HELM / "values").iterdir()} == {"cpu-demo", "gpu", "gpu-vllm"}
    assert {one.name for one in (KUSTOMIZE / "overlays").iterdir()} == {
        "cpu-demo",
        "gpu",
        "gpu-vllm",
    }


def test_the_chart_is_of_this_release() -> None:
    project = tomllib.loads((HELM.parents[1] / "pyproject.toml").read_text())["project"]
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert about["version"] == about["appVersion"] == project["version"]


def test_pages_say_the_kubernetes_that_the_chart_needs() -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    least = about["kubeVersion"].removeprefix(">=").removesuffix(".0-0")
    for page in ("chart", "kubernetes"):
        text = (HELM.parents[1] / "docs" / f"{page}.md").read_text()
        assert f"Kubernetes {least} or newer" in text
    for one in of(charted({}), "Deployment").values():
        assert container(one)["lifecycle"]["preStop"].keys() == {"sleep"}


def test_helm_finds_nothing_wrong_with_the_chart() -> None:
    report = helm().lint(CHART, strict=True)
    said = [one["error"] for one in report["messages"]]
    assert report["errors"] == []
    assert said == ["icon is recommended"]


def test_a_package_has_what_links_lead_to(tmp_path: Path) -> None:
    with helm().Chart.load(CHART) as chart:
        archive = chart.save(tmp_path)
    helm().expand(tmp_path, archive)
    for name, original in (
        ("alerts.yaml", "prometheus/alerts.yaml"),
        ("dashboard.json", "grafana/paceline.json"),
    ):
        packed = tmp_path / "paceline" / "files" / name
        assert not packed.is_symlink()
        assert packed.read_text() == (HELM.parent / original).read_text()


def test_the_dashboard_is_that_of_grafana() -> None:
    chart = charted({"monitoring": {"dashboard": True}})
    assert faults(chart) == []
    [wanted] = kustomized(KUSTOMIZE.parent / "grafana")
    found = of(chart, "ConfigMap")["dashboard"]
    assert found["data"]["paceline.json"].strip() == wanted["data"]["paceline.json"].strip()
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ({"targets": {}}, "at '': additional properties 'targets' not allowed"),
        ({"target": {"gpu": 1}}, "at '/target': additional properties 'gpu' not allowed"),
        ({"target": {"replicas": "two"}}, "at '/target/replicas': got string, want integer"),
        ({"draft": {"replicas": -1}}, "at '/draft/replicas': minimum: got -1, want 0"),
        (
            {"scaling": {"by": "vpa"}},
            "at '/scaling/by': value must be one of 'none', 'keda', 'hpa'",
        ),
        ({"target": {"settings": {"thread": 1}}}, "additional properties 'thread' not allowed"),
        ({"target": {"settings": {"threads": "4"}}}, "'/target/settings/threads': got string"),
        ({"draft": {"settings": {"port": 1}}}, "additional properties 'port' not allowed"),
        (
            {"draft": {"rollout": {"maxSurge": "a"}}},
            "'/draft/rollout/maxSurge': 'a' does not match",
        ),
        ({"target": {"resources": {"request": {}}}}, "additional properties 'request' not allowed"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(values: Values, seen: str) -> None:
    with pytest.raises(Exception, match=ERROR) as refused:
        charted(values)
    assert seen in str(refused.value)


def test_schema_and_table_are_those_of_the_values_and_each_value_has_a_comment() -> None:
    for path, content in written().items():
        assert path.read_text() == content, f"{path}: python -m tests.chart_reference"
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert {path for path, _ in leaves(values)} - {path for path, _ in described()} == set()


def test_no_secret_is_among_the_settings() -> None:
    known = chart_reference.schema()["properties"]["orchestrator"]["properties"]["settings"]
    assert "token_file" in known["properties"]
    assert not {"tokens", "token"} & known["properties"].keys()


def test_a_changed_setting_changes_the_pods_of_its_role_alone() -> None:
    before = of(charted({}), "Deployment")
    after = of(charted({"target": {"settings": {"kv_tokens": 1048576}}}), "Deployment")
    changed = {role for role in SETTINGS if before[role] != after[role]}
    assert changed == {"target"}


def test_whole_numbers_are_written_whole() -> None:
    chart = charted({"target": {"settings": {"kv_tokens": 104857600}}})
    assert of(chart, "ConfigMap")["target"]["data"]["PACELINE_TARGET_KV_TOKENS"] == "104857600"


@pytest.mark.parametrize(("drain", "grace"), [(30, 50), (600, 620), (0.5, 21)])
def test_pods_have_longer_than_the_drain(drain: float, grace: int) -> None:
    chart = charted({"target": {"settings": {"drain_seconds": drain}}})
    pod = of(chart, "Deployment")["target"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == grace


def test_releases_share_no_name_and_reach_none_of_each_others_pods() -> None:
    first, second = (charted(WHOLE, release) for release in ("paceline", "coder"))
    for one in (first, second):
        assert faults(one) == []
    names = [
        {f"{one['kind']} {one['metadata']['name']}" for one in part} for part in (first, second)
    ]
    assert names[0] & names[1] == set()
    assert len(names[0]) == len(names[1])
    for chosen in _selectors(first):
        assert chosen["app.kubernetes.io/instance"] == "paceline"
    settings = {one["metadata"]["name"]: one for one in second}["coder-paceline-orchestrator"]
    assert settings["kind"]


def _selectors(objects: list[Object]) -> Iterator[dict[str, str]]:
    for one in objects:
        spec = one.get("spec", {})
        if one["kind"] == "Service":
            yield spec["selector"]
        for name in ("selector", "podSelector"):
            if "matchLabels" in (spec.get(name) or {}):
                yield spec[name]["matchLabels"]


def test_what_a_cluster_may_need_gets_to_the_pods() -> None:
    values: Values = {
        "image": {"registry": "registry.example/team", "tag": "1", "pullSecrets": ["a"]},
        "network": {"clients": [{"namespaceSelector": {"matchLabels": {"team": "web"}}}]},
        "draft": {
            "nodeSelector": {"pool": "cpu"},
            "tolerations": [{"key": "cpu", "operator": "Exists"}],
            "models": {"claim": "weights"},
            "gpus": 1,
            "image": "paceline-draft-cuda",
            "settings": {"device": "cuda"},
        },
    }
    chart = charted(copy.deepcopy(values))
    assert faults(chart) == []
    draft = of(chart, "Deployment")["draft"]
    pod = draft["spec"]["template"]["spec"]
    assert container(draft)["image"] == "registry.example/team/paceline-draft-cuda:1"
    assert container(draft)["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["imagePullSecrets"] == [{"name": "a"}]
    assert pod["nodeSelector"] == {"pool": "cpu"}
    assert [one["key"] for one in pod["tolerations"]] == ["nvidia.com/gpu", "cpu"]
    [models] = [one for one in pod["volumes"] if one["name"] == "models"]
    assert models["persistentVolumeClaim"] == {"claimName": "weights"}
    [clients, *_] = of(chart, "NetworkPolicy")["orchestrator"]["spec"]["ingress"]
    assert clients["from"] == values["network"]["clients"]
    without = charted({"network": {"policies": False}})
    assert of(without, "NetworkPolicy") == {}
