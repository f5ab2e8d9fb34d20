"""deploy/kustomize's overlays and components: valid to the letter, and true of the servers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.settings import OrchestratorSettings
from paceline.engine.settings import EngineSettings
from paceline.engine.vllm.startup import check_settings
from paceline.settings import ServerSettings
from tests.contract.manifests import Object, faults
from tests.contract.rendering import KUSTOMIZE, container, kustomized, of, with_components
from tests.contract.test_deploy import SETTINGS
from tests.deploy_copies import copies

NAMES = "app.kubernetes.io/name", "app.kubernetes.io/component"


def settings_of(objects: list[Object], role: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The settings as a pod of the role reads them; names that mean nothing fail."""
    kind: type[ServerSettings] = SETTINGS[role]
    prefix = kind.model_config["env_prefix"]
    for name, value in of(objects, "ConfigMap")[role]["data"].items():
        assert name.removeprefix(prefix).lower() in kind.model_fields, name
        monkeypatch.setenv(name, value)
    return kind()


def labels(role: str) -> dict[str, str]:
    return dict(zip(NAMES, ("paceline", role), strict=True))


def reaches(objects: list[Object], caller: str, role: str, port: int) -> bool:
    """Whether policies let a pod of one role open a port of another's."""
    policies = of(objects, "NetworkPolicy").values()
    out = [rule for one in selecting(policies, caller) for rule in one["spec"].get("egress", ())]
    into = [rule for one in selecting(policies, role) for rule in one["spec"].get("ingress", ())]
    return any(allows(rule, "to", role, port) for rule in out) and any(
        allows(rule, "from", caller, port) for rule in into
    )


def selecting(policies: Any, role: str) -> Iterator[Object]:
    for one in policies:
        if one["spec"]["podSelector"]["matchLabels"].items() <= labels(role).items():
            yield one


def allows(rule: Object, way: str, role: str, port: int) -> bool:
    if port not in [one["port"] for one in rule["ports"] if one.get("protocol", "TCP") == "TCP"]:
        return False
    peers = [one.get("podSelector") for one in rule.get(way, ())]
    return not rule.get(way) or any(
        peer is not None and peer["matchLabels"].items() <= labels(role).items() for peer in peers
    )


@pytest.mark.parametrize("name", ["overlays/cpu-demo", "overlays/gpu", "overlays/gpu-vllm"])
def test_nothing_is_wrong_with_an_overlay(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = kustomized(KUSTOMIZE / name)
    assert faults(found) == []
    [namespace] = of(found, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    homes = {one["metadata"].get("namespace") for one in found if one["kind"] != "Namespace"}
    assert homes == {namespace["metadata"]["name"]}
    for role in SETTINGS:
        settings_of(found, role, monkeypatch)


def test_only_the_orchestrator_reaches_targets_and_drafts() -> None:
    found = kustomized(KUSTOMIZE / "base")
    for role, kind in SETTINGS.items():
        port = kind.model_fields["port"].default
        callers = {one for one in (*SETTINGS, "stranger") if reaches(found, one, role, port)}
        assert callers == (set() if role == "orchestrator" else {"orchestrator"})


@pytest.mark.parametrize("role", SETTINGS)
def test_probes_and_scrapes_get_through_and_the_hub_is_reached_where_models_are(role: str) -> None:
    policy = of(kustomized(KUSTOMIZE / "base"), "NetworkPolicy")[role]["spec"]
    fields = SETTINGS[role].model_fields
    rules = {rule["ports"][0]["port"]: rule.get("from") for rule in policy["ingress"]}
    assert rules[fields["health_port"].default] is None
    monitoring = {"namespaceSelector": {"matchLabels": {NAMESPACE: "monitoring"}}}
    assert rules[fields["metrics_port"].default] == [monitoring]
    assert len(rules) == 3
    outside = [rule["ports"] for rule in policy["egress"] if "to" not in rule]
    dns, *hub = outside
    assert dns == [{"port": 53, "protocol": "UDP"}, {"port": 53}]
    assert hub == ([[{"port": 443}]] if issubclass(SETTINGS[role], EngineSettings) else [])


NAMESPACE = "kubernetes.io/metadata.name"


@pytest.mark.parametrize("role", SETTINGS)
def test_pods_are_spread_and_go_one_at_a_time(role: str) -> None:
    found = kustomized(KUSTOMIZE / "base")
    pod = of(found, "Deployment")[role]["spec"]["template"]["spec"]
    keys = [one["topologyKey"] for one in pod["topologySpreadConstraints"]]
    assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    for one in pod["topologySpreadConstraints"]:
        assert one["labelSelector"]["matchLabels"] == labels(role)
        assert one["whenUnsatisfiable"] == "ScheduleAnyway"
    assert of(found, "PodDisruptionBudget")[role]["spec"]["maxUnavailable"] == 1
    assert of(found, "ServiceAccount")[role]["automountServiceAccountToken"] is False


def test_a_changed_setting_changes_the_pods(tmp_path: Path) -> None:
    more = (
        "configMapGenerator:\n- name: paceline-target\n  behavior: merge\n"
        "  literals: [PACELINE_TARGET_KV_TOKENS=131072]\n"
    )
    before, after = kustomized(KUSTOMIZE / "base"), with_components(tmp_path, [], more=more)
    pods = [of(found, "Deployment") for found in (before, after)]
    changed = {role for role in SETTINGS if pods[0][role] != pods[1][role]}
    assert changed == {"target"}
    assert of(after, "ConfigMap")["target"]["data"]["PACELINE_TARGET_KV_TOKENS"] == "131072"
    assert "PACELINE_TARGET_MODEL" in of(after, "ConfigMap")["target"]["data"]


def test_a_gpu_is_asked_for_and_used(monkeypatch: pytest.MonkeyPatch) -> None:
    found = kustomized(KUSTOMIZE / "overlays" / "gpu")
    target = of(found, "Deployment")["target"]
    own = container(target)
    assert own["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert own["image"].startswith("paceline-target-cuda:")
    pod = target["spec"]["template"]["spec"]
    [toleration] = pod["tolerations"]
    assert toleration == {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    volumes = {one["name"]: one for one in pod["volumes"]}
    mounts = {one["name"]: one["mountPath"] for one in own["volumeMounts"]}
    assert volumes["shm"]["emptyDir"]["medium"] == "Memory"
    assert mounts == {"shm": "/dev/shm", "models": "/models", "tmp": "/tmp"}  # noqa: S108
    probe = own["startupProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] == 30 * 60
    assert settings_of(found, "target", monkeypatch).device == "cuda"
    others = of(found, "Deployment")
    assert "nvidia.com/gpu" not in json.dumps([others["draft"], others["orchestrator"]])


def test_vllm_has_a_gpu_for_each_rank_and_memory_that_ranks_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = kustomized(KUSTOMIZE / "overlays" / "gpu-vllm")
    target = of(found, "Deployment")["target"]
    own, pod = container(target), target["spec"]["template"]["spec"]
    settings = settings_of(found, "target", monkeypatch)
    check_settings(settings)
    assert settings.engine == "vllm"
    ranks = settings.tensor_parallel_size * settings.pipeline_parallel_size
    assert own["resources"]["limits"]["nvidia.com/gpu"] == str(ranks)
    assert own["image"].startswith("paceline-target-vllm:")
    [shm] = [one for one in pod["volumes"] if one["name"] == "shm"]
    assert shm["emptyDir"]["medium"] == "Memory"


@pytest.mark.parametrize("role", SETTINGS)
def test_tls_is_on_every_link(role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = with_components(tmp_path, ["monitoring", "cert-manager", "tls"])
    assert faults(found) == []
    settings = settings_of(found, role, monkeypatch)
    assert not settings.plaintext
    files = {settings.tls_certificate, settings.tls_key}
    if isinstance(settings, OrchestratorSettings):
        files.add(settings.tls_server_ca)
    else:
        files.add(settings.tls_client_ca)
    deployment = of(found, "Deployment")[role]
    volumes = {one["name"]: one for one in deployment["spec"]["template"]["spec"]["volumes"]}
    [mount] = [one for one in container(deployment)["volumeMounts"] if one["name"] == "tls"]
    assert "subPath" not in mount  # a file of it would stay as it was
    folder = Path(mount["mountPath"])
    assert files == {folder / name for name in ("tls.crt", "tls.key", "ca.crt")}
    certificate = of(found, "Certificate")[role]["spec"]
    assert volumes["tls"]["secret"] == {
        "secretName": certificate["secretName"],
        "defaultMode": 0o440,
    }
    assert f"paceline-{role}" in certificate["dnsNames"]
    assert ("client auth" in certificate["usages"]) == (role == "orchestrator")
    [port] = of(found, "Service")[role]["spec"]["ports"]
    assert port["appProtocol"] == "https"
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/scheme"] == "https"


def test_scrapes_know_the_name_that_every_certificate_is_for(tmp_path: Path) -> None:
    found = with_components(tmp_path, ["monitoring", "cert-manager", "tls"])
    [monitor] = of(found, "PodMonitor").values()
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["scheme"] == "https"
    ends = [one["spec"] for one in of(found, "Certificate").values() if "isCA" not in one["spec"]]
    assert all(endpoint["tlsConfig"]["serverName"] in one["dnsNames"] for one in ends)
    secrets = {one["secretName"] for one in ends}
    assert endpoint["tlsConfig"]["ca"]["secret"]["name"] in secrets
    issuers = of(found, "Issuer")
    named = {one["issuerRef"]["name"] for one in ends}
    assert named == {"paceline"}
    assert issuers["paceline"]["spec"]["ca"]["secretName"] == "paceline-authority"


def test_tokens_are_read_from_the_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = with_components(tmp_path, ["tls", "tokens"])
    assert faults(found) == []
    deployment = of(found, "Deployment")["orchestrator"]
    volumes = {one["name"]: one for one in deployment["spec"]["template"]["spec"]["volumes"]}
    assert volumes["tokens"]["secret"]["secretName"] == "paceline-tokens"
    [mount] = [one for one in container(deployment)["volumeMounts"] if one["name"] == "tokens"]
    file = settings_of(found, "orchestrator", monkeypatch).token_file
    assert file == Path(mount["mountPath"]) / "tokens.toml"
    assert "subPath" not in mount


def test_the_monitor_finds_every_pod_and_its_rules_are_those_of_prometheus(tmp_path: Path) -> None:
    found = with_components(tmp_path, ["monitoring"])
    assert faults(found) == []
    [monitor] = of(found, "PodMonitor").values()
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    [expression] = monitor["spec"]["selector"]["matchExpressions"]
    assert set(expression["values"]) == SETTINGS.keys()
    for deployment in of(found, "Deployment").values():
        ports = {port["name"]: port for port in container(deployment)["ports"]}
        assert endpoint["port"] in ports
        given = deployment["spec"]["template"]["metadata"]["labels"].items()
        assert monitor["spec"]["selector"]["matchLabels"].items() <= given
    for path, content in copies().items():
        assert path.read_text() == content, f"{path}: python -m tests.deploy_copies"
    rules = KUSTOMIZE.parent / "prometheus" / "alerts.yaml"
    [rule] = of(found, "PrometheusRule").values()
    assert rule["spec"] == yaml.safe_load(rules.read_text())


@pytest.mark.parametrize(
    ("kind", "wrong", "seen"),
    [
        ("PodMonitor", {"selectors": {}}, ".spec.selectors is unknown"),
        ("PodMonitor", {"podMetricsEndpoints": 3}, "podMetricsEndpoints"),
        ("PodMonitors", {}, "PodMonitors is no kind of monitoring.coreos.com/v1"),
    ],
)
def test_each_fault_of_an_operators_object_would_be_seen(
    kind: str, wrong: Object, seen: str
) -> None:
    item = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": kind,
        "metadata": {"name": "a"},
        "spec": {"selector": {}, "podMetricsEndpoints": [], **wrong},
    }
    assert seen in "\n".join(faults([item]))
