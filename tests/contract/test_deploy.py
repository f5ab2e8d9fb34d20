"""What deploy/ says to Kubernetes: valid to the letter, and true of the servers."""

import copy
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from draft_server.settings import DraftSettings
from orchestrator.settings import OrchestratorSettings
from paceline.engine.settings import EngineSettings
from paceline.settings import ServerSettings
from paceline.tracing.start import are_asked_for, hindrance
from target_server.settings import TargetSettings
from tests.contract.manifests import Object, containers, faults, quantity
from tests.contract.rendering import BASE, container, kustomized, of, plain_name, with_components

ROOT = Path(__file__).parents[2]
POD = "spec.template.spec"
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
STAGES = dict(
    re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM|\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
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


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    return kustomized(BASE)


def edit(objects: list[Object], kind: str, path: str, value: object) -> None:
    """Set what a dotted path leads to in the target's object of that kind."""
    at: Any = of(objects, kind)["target"]
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    for step in way:
        at = at[step]
    at[last] = value


def test_nothing_is_wrong_with_the_base(objects: list[Object]) -> None:
    assert faults(objects) == []
    for role in SETTINGS:
        kinds = [item["kind"] for item in objects if plain_name(item) == f"paceline-{role}"]
        assert sorted(kinds) == [
            *("ConfigMap", "Deployment", "NetworkPolicy"),
            *("PodDisruptionBudget", "Service", "ServiceAccount"),
        ]
    assert len(objects) == 6 * len(SETTINGS)


@pytest.mark.parametrize(
    ("kind", "path", "value", "seen"),
    [
        ("Deployment", "sepc", {}, "sepc"),
        ("Deployment", "spec.replicas", "one", "'one' is not of type"),
        ("Deployment", "kind", "Deploymnet", "is no kind of Kubernetes"),
        ("Deployment", "spec.selector.matchLabels", {"a": "b"}, "select its own pods"),
        ("Deployment", f"{POD}.containers.0.ports.1.containerPort", 7071, "port 7071 is there"),
        ("Deployment", f"{POD}.containers.0.ports.1.name", "grpc", "port grpc is there twice"),
        ("Deployment", f"{POD}.containers.0.resources.requests.cpu", "8500m", "more cpu"),
        ("Deployment", f"{POD}.initContainers.0.resources.requests.memory", "13Gi", "more memory"),
        ("Deployment", f"{POD}.containers.0.resources.limits", {}, "cpu has no limit"),
        ("Deployment", f"{POD}.initContainers.0.command.2", "$(MODEL)", "no variable MODEL"),
        ("Deployment", f"{POD}.enableServiceLinks", True, "links to services"),
        ("Deployment", f"{POD}.volumes.0.name", "weights", "no volume models"),
        ("ConfigMap", "metadata.name", "paceline-traget", "no ConfigMap paceline-target-"),
        ("ServiceAccount", "metadata.name", "paceline-traget", "no ServiceAccount paceline-target"),
        ("NetworkPolicy", "spec.podSelector.matchLabels", {"a": "b"}, "selects no Deployment"),
        ("PodDisruptionBudget", "spec.selector.matchLabels", {"a": "b"}, "selects no Deployment"),
        ("Deployment", f"{POD}.securityContext.runAsNonRoot", False, "may run as root"),
        ("Deployment", f"{POD}.securityContext.seccompProfile", {}, "no seccomp profile"),
        ("Deployment", f"{POD}.hostNetwork", True, "a pod has hostNetwork"),
        ("Deployment", f"{POD}.volumes.0.hostPath", {"path": "/"}, "a volume is of hostPath"),
        ("Deployment", f"{POD}.containers.0.ports.0.hostPort", 1, "takes a port of its node"),
        ("Deployment", f"{POD}.containers.0.securityContext", {}, "target may gain privileges"),
        ("Deployment", f"{POD}.initContainers.0.securityContext", {}, "pull keeps capabilities"),
        ("Service", "spec.selector", {"a": "b"}, "selects 0 Deployments"),
        ("Service", "spec.selector", {"app.kubernetes.io/name": "paceline"}, "selects 3"),
        ("Service", "spec.ports.0.targetPort", "rpc", "leads to a port rpc"),
        ("Service", "metadata.name", "paceline-draft", "is there twice"),
    ],
)
def test_each_fault_would_be_seen(
    kind: str, path: str, value: object, seen: str, objects: list[Object]
) -> None:
    wrong = copy.deepcopy(objects)
    edit(wrong, kind, path, value)
    assert seen in "\n".join(faults(wrong))


@pytest.mark.parametrize("role", SETTINGS)
def test_ports_are_those_that_the_servers_listen_on(role: str, objects: list[Object]) -> None:
    service, deployment = of(objects, "Service")[role], of(objects, "Deployment")[role]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"]["app.kubernetes.io/component"] == role
    ports = {port["name"]: port["containerPort"] for port in container(deployment)["ports"]}
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
    alive = {"port": health}
    # A pod that waits for a target of another pod is not to be started again and again.
    assert found["startupProbe"]["grpc"] == (alive if role == "orchestrator" else ready)
    assert found["readinessProbe"]["grpc"] == ready
    assert found["livenessProbe"]["grpc"] == alive


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
    deployment = of(objects, "Deployment")[role]
    before = container(deployment)["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > before + settings.drain_seconds
    if isinstance(settings, EngineSettings):
        requested = container(deployment)["resources"]["requests"]["cpu"]
        assert settings.threads <= quantity(requested)


def test_the_orchestrator_calls_the_services_there_are(objects: list[Object]) -> None:
    data = of(objects, "ConfigMap")["orchestrator"]["data"]
    services = of(objects, "Service")
    for role in ("target", "draft"):
        name = data[f"PACELINE_ORCHESTRATOR_{role.upper()}"]
        assert name == f"paceline-{role}:{services[role]['spec']['ports'][0]['port']}"


@pytest.mark.parametrize("role", SETTINGS)
def test_pods_are_locked_down(role: str, objects: list[Object]) -> None:
    deployment = of(objects, "Deployment")[role]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert all("sizeLimit" in volume["emptyDir"] for volume in pod["volumes"])
    for found in containers(deployment):
        assert found["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("role", ["target", "draft"])
def test_the_model_that_is_pulled_is_the_one_served(role: str, objects: list[Object]) -> None:
    pull, serve = containers(of(objects, "Deployment")[role])
    name = f"PACELINE_{role.upper()}_MODEL"
    assert name in of(objects, "ConfigMap")[role]["data"]
    assert pull["command"] == ["paceline", "pull", f"$({name})"]
    assert pull["envFrom"][:1] == serve["envFrom"]
    assert pull["image"] == serve["image"]
    assert pull["volumeMounts"] == serve["volumeMounts"]


@pytest.mark.parametrize("role", ["target", "draft"])
def test_only_pulling_knows_the_hubs_secret_and_none_is_needed(
    role: str, objects: list[Object]
) -> None:
    pull, serve = containers(of(objects, "Deployment")[role])
    assert pull["envFrom"][1:] == [{"secretRef": {"name": "paceline-hub", "optional": True}}]
    assert not [source for source in serve["envFrom"] if "secretRef" in source]


@pytest.mark.parametrize("role", SETTINGS)
def test_the_dockerfile_has_the_image_that_is_deployed(role: str, objects: list[Object]) -> None:
    deployment = of(objects, "Deployment")[role]
    image, tag = container(deployment)["image"].split(":")
    assert tag == PROJECT["version"]
    assert image == f"paceline-{role}"
    stage = STAGES[role]
    ports = [port["containerPort"] for port in container(deployment)["ports"]]
    assert f"EXPOSE {' '.join(map(str, ports))}\n" in stage
    module = SETTINGS[role].__module__.partition(".")[0]
    assert f'ENTRYPOINT ["python", "-m", "{module}"]' in stage


def test_images_run_as_the_user_that_others_count_on(
    objects: list[Object],
) -> None:
    users = {
        str(item["spec"]["template"]["spec"]["securityContext"]["runAsUser"])
        for item in of(objects, "Deployment").values()
    }
    assert set(re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE)) == users


def test_the_component_turns_traces_on_for_all_three(tmp_path: Path) -> None:
    found = with_components(tmp_path, ["traces"])
    assert faults(found) == []
    environment = of(found, "ConfigMap")["traces"]["data"]
    assert are_asked_for(environment)
    assert hindrance(environment) == ""
    deployments = of(found, "Deployment")
    assert deployments.keys() == SETTINGS.keys()
    for name, deployment in deployments.items():
        maps = [one["configMapRef"]["name"] for one in container(deployment)["envFrom"]]
        assert maps[0].startswith(f"paceline-{name}-")
        assert maps[1:] == ["paceline-traces"]
