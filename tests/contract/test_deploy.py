"""What deploy/ says to Kubernetes: valid to the letter, and true of the servers."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from draft_server.settings import DraftSettings
from orchestrator.settings import OrchestratorSettings
from paceline.settings import ServerSettings
from target_server.settings import TargetSettings

BASE = Path(__file__).parents[2] / "deploy" / "kustomize" / "base"
KUBERNETES = "1.34"
SETTINGS: dict[str, type[ServerSettings]] = {
    "orchestrator": OrchestratorSettings,
    "target": TargetSettings,
    "draft": DraftSettings,
}
READY = {
    "orchestrator": "paceline.v1.GenerationService",
    "target": "paceline.v1.TargetService",
    "draft": "paceline.v1.DraftService",
}
Object = dict[str, Any]


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    kubectl = Path(sys.executable).parent / "kubectl"
    rendered = subprocess.run(
        [kubectl, "kustomize", BASE], check=True, capture_output=True, text=True, timeout=60
    )
    return list(yaml.safe_load_all(rendered.stdout))


def of(objects: list[Object], kind: str) -> dict[str, Object]:
    return {
        item["metadata"]["name"].removeprefix("paceline-"): item
        for item in objects
        if item["kind"] == kind
    }


def container(deployment: Object) -> Object:
    [only] = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def test_every_object_is_valid_strictly_and_of_a_known_kind(objects: list[Object]) -> None:
    assert {item["kind"] for item in objects} == {"ConfigMap", "Deployment", "Service"}
    for item in objects:
        kubernetes_validate.validate(item, KUBERNETES, strict=True)


def test_a_misspelt_field_would_be_seen(objects: list[Object]) -> None:
    wrong = {**of(objects, "Deployment")["target"], "sepc": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


@pytest.mark.parametrize("role", SETTINGS)
def test_services_select_their_pods_and_name_their_ports(role: str, objects: list[Object]) -> None:
    service, deployment = of(objects, "Service")[role], of(objects, "Deployment")[role]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["clusterIP"] == "None"
    for selector in (service["spec"]["selector"], deployment["spec"]["selector"]["matchLabels"]):
        assert selector.items() <= labels.items()
        assert selector["app.kubernetes.io/component"] == role
    ports = {port["name"]: port["containerPort"] for port in container(deployment)["ports"]}
    assert len(set(ports.values())) == len(ports) == 3
    fields = SETTINGS[role].model_fields
    assert ports == {
        "grpc": fields["port"].default,
        "health": fields["health_port"].default,
        "metrics": fields["metrics_port"].default,
    }
    [port] = service["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (ports["grpc"], "grpc")
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports["metrics"])


@pytest.mark.parametrize("role", SETTINGS)
def test_probes_ask_the_health_port_for_what_the_server_says(
    role: str, objects: list[Object]
) -> None:
    found = container(of(objects, "Deployment")[role])
    health = SETTINGS[role].model_fields["health_port"].default
    ready = {"port": health, "service": READY[role]}
    assert found["startupProbe"]["grpc"] == ready
    assert found["readinessProbe"]["grpc"] == ready
    assert found["livenessProbe"]["grpc"] == {"port": health}


@pytest.mark.parametrize("role", SETTINGS)
def test_the_config_map_holds_settings_that_exist(
    role: str, objects: list[Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    data: dict[str, str] = of(objects, "ConfigMap")[role]["data"]
    kind = SETTINGS[role]
    prefix = kind.model_config["env_prefix"]
    for name, value in data.items():
        assert name.removeprefix(prefix).lower() in kind.model_fields, name
        monkeypatch.setenv(name, value)
    settings = kind()
    assert {name.removeprefix(prefix).lower() for name in data} <= settings.model_fields_set
    pod = of(objects, "Deployment")[role]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > settings.drain_seconds


def test_the_orchestrator_calls_the_services_there_are(objects: list[Object]) -> None:
    data = of(objects, "ConfigMap")["orchestrator"]["data"]
    services = of(objects, "Service")
    for role in ("target", "draft"):
        name = data[f"PACELINE_ORCHESTRATOR_{role.upper()}"]
        assert name == f"paceline-{role}:{services[role]['spec']['ports'][0]['port']}"


@pytest.mark.parametrize("role", SETTINGS)
def test_pods_are_bounded_and_locked_down(role: str, objects: list[Object]) -> None:
    pod = of(objects, "Deployment")[role]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    for found in (*pod.get("initContainers", ()), *pod["containers"]):
        assert found["securityContext"]["readOnlyRootFilesystem"] is True
        assert found["securityContext"]["capabilities"]["drop"] == ["ALL"]
        assert ":" in found["image"]
        assert not found["image"].endswith(":latest")
        resources = found["resources"]
        assert memory(resources["requests"]["memory"]) <= memory(resources["limits"]["memory"])


@pytest.mark.parametrize("role", ["target", "draft"])
def test_the_model_that_is_pulled_is_the_one_served(role: str, objects: list[Object]) -> None:
    pod = of(objects, "Deployment")[role]["spec"]["template"]["spec"]
    [pull] = pod["initContainers"]
    served = of(objects, "ConfigMap")[role]["data"][f"PACELINE_{role.upper()}_MODEL"]
    assert pull["command"] == ["paceline", "pull", served]
    assert pull["image"] == container(of(objects, "Deployment")[role])["image"]


def memory(quantity: str) -> int:
    units = {"Mi": 2**20, "Gi": 2**30}
    return int(quantity[:-2]) * units[quantity[-2:]]
