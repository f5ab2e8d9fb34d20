"""deploy/kustomize/inference-gateway: valid to the letter, and true of the orchestrators."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import orchestrator.__main__ as orchestrator_main
from orchestrator.settings import OrchestratorSettings
from tests.contract.manifests import Object, faults
from tests.contract.rendering import BASE, kustomized
from tests.metrics_reference import registries, sections

OVERLAY = Path(__file__).parents[2] / "deploy" / "kustomize" / "inference-gateway"
PICKER = "paceline-endpoint-picker"
PARSERS = {"openai-parser", "vllmgrpc-parser", "passthrough-parser"}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _EngineConfig(_Strict):
    name: str
    queued: str = Field(alias="queuedRequestsSpec")
    running: str = Field(alias="runningRequestsSpec")
    kv_usage: str = Field(alias="kvUsageSpec")


class _Extractor(_Strict):
    default_engine: str = Field(alias="defaultEngine")
    engines: list[_EngineConfig] = Field(alias="engineConfigs")


class _Plugin(_Strict):
    type: str
    parameters: dict[str, Any] | None = None


class _Reference(_Strict):
    plugin: str = Field(alias="pluginRef")
    weight: float | None = None


class _Profile(_Strict):
    name: str
    plugins: list[_Reference]


class _PickerConfig(_Strict):
    """The fields used, as apix/config/v1alpha1 of gateway-api-inference-extension 1.5.0 has them.

    No CRD and no package has this one: the picker reads it from a file.
    """

    version: str = Field(alias="apiVersion", pattern="^inference.networking.x-k8s.io/v1alpha1$")
    kind: str = Field(pattern="^EndpointPickerConfig$")
    plugins: list[_Plugin]
    profiles: list[_Profile] = Field(alias="schedulingProfiles")
    parser: _Reference


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    return kustomized(OVERLAY)


def of(objects: list[Object], kind: str, name: str = "") -> Any:
    [found] = [
        one for one in objects if one["kind"] == kind and name in (one["metadata"]["name"], "")
    ]
    return found


def config(objects: list[Object]) -> _PickerConfig:
    pod = of(objects, "Deployment", PICKER)["spec"]["template"]["spec"]
    [volume] = pod["volumes"]
    data = of(objects, "ConfigMap", volume["configMap"]["name"])["data"]
    [path] = [one for one in pod["containers"][0]["args"] if one.startswith("--config-file=")]
    mount = pod["containers"][0]["volumeMounts"][0]["mountPath"]
    return _PickerConfig(**yaml.safe_load(data[path.removeprefix(f"--config-file={mount}/")]))


def test_nothing_is_wrong_with_it(objects: list[Object]) -> None:
    assert faults(objects) == []
    kinds = {one["kind"] for one in objects} - {one["kind"] for one in kustomized(BASE)}
    assert kinds == {"GRPCRoute", "InferencePool", "Role", "RoleBinding"}


@pytest.mark.parametrize(
    ("kind", "field", "value", "seen"),
    [
        ("InferencePool", "appProtocol", "h2c", "'h2c' is not one of"),
        ("InferencePool", "targetPorts", [{"number": 70700}], "maximum of 65535"),
        ("InferencePool", "selector", {}, "'matchLabels' is a required property"),
        ("InferencePool", "targetPort", 7070, "'targetPort' was unexpected"),
        ("GRPCRoute", "rules", [{"backends": []}], "'backends' was unexpected"),
        ("GRPCRoute", "hostnames", ["*"], "does not match"),
    ],
)
def test_each_fault_would_be_seen(
    kind: str, field: str, value: object, seen: str, objects: list[Object]
) -> None:
    wrong = copy.deepcopy(objects)
    of(wrong, kind)["spec"][field] = value
    assert seen in "\n".join(faults(wrong))


def test_the_pool_is_the_orchestrators_at_their_port_in_http2(objects: list[Object]) -> None:
    spec = of(objects, "InferencePool")["spec"]
    assert spec["appProtocol"] == "kubernetes.io/h2c"
    wanted = spec["selector"]["matchLabels"].items()
    pods = {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"]
        for one in objects
        if one["kind"] == "Deployment"
    }
    selected = [name for name, labels in pods.items() if wanted <= labels.items()]
    assert selected == ["paceline-orchestrator"]
    port = OrchestratorSettings.model_fields["port"].default
    assert spec["targetPorts"] == [{"number": port}]


def test_the_picker_gets_to_the_metrics_that_it_reads(objects: list[Object]) -> None:
    policy = of(objects, "NetworkPolicy", PICKER)["spec"]
    [rule] = policy["ingress"]
    assert rule["ports"] == [{"port": OrchestratorSettings.model_fields["metrics_port"].default}]
    [peer] = rule["from"]
    pods = of(objects, "Deployment", PICKER)["spec"]["template"]["metadata"]["labels"]
    assert peer["podSelector"]["matchLabels"].items() <= pods.items()


def test_the_pool_asks_the_picker_and_the_picker_the_pool(objects: list[Object]) -> None:
    reference = of(objects, "InferencePool")["spec"]["endpointPickerRef"]
    service = of(objects, "Service", reference["name"])
    assert reference["port"]["number"] in [port["port"] for port in service["spec"]["ports"]]
    deployment = of(objects, "Deployment", PICKER)["spec"]["template"]["spec"]
    arguments = deployment["containers"][0]["args"]
    metrics = OrchestratorSettings.model_fields["metrics_port"].default
    assert f"--pool-name={of(objects, 'InferencePool')['metadata']['name']}" in arguments
    assert f"--model-server-metrics-port={metrics}" in arguments
    [subject] = of(objects, "RoleBinding")["subjects"]
    assert deployment["serviceAccountName"] == subject["name"]
    assert of(objects, "RoleBinding")["roleRef"]["name"] == of(objects, "Role")["metadata"]["name"]


def test_the_route_leads_every_service_of_the_orchestrator_to_the_pool(
    objects: list[Object],
) -> None:
    [rule] = of(objects, "GRPCRoute")["spec"]["rules"]
    services = [match["method"]["service"] for match in rule["matches"]]
    assert services == list(orchestrator_main.NAMES)
    pool = of(objects, "InferencePool")
    [backend] = rule["backendRefs"]
    group = pool["apiVersion"].partition("/")[0]
    assert backend == {"group": group, "kind": pool["kind"], "name": pool["metadata"]["name"]}


def test_the_pickers_configuration_names_plugins_that_it_has(objects: list[Object]) -> None:
    found = config(objects)
    types = {one.type for one in found.plugins}
    named = {one.plugin for profile in found.profiles for one in profile.plugins}
    assert named | {found.parser.plugin} <= types
    assert types - named == PARSERS & types | {"metrics-data-source", "core-metrics-extractor"}


async def test_the_picker_reads_gauges_that_orchestrators_export_one_series_of_each(
    objects: list[Object],
) -> None:
    [plugin] = [one for one in config(objects).plugins if one.type == "core-metrics-extractor"]
    extractor = _Extractor(**plugin.parameters or {})
    [engine] = extractor.engines
    assert extractor.default_engine == engine.name
    exported = {one.name: one for one in sections(await registries())["Orchestrator"]}
    for name in (engine.queued, engine.running, engine.kv_usage):
        assert (exported[name].kind, exported[name].labels) == ("gauge", ())


def test_a_misspelt_field_of_the_configuration_would_be_seen() -> None:
    wrong = {"name": "a", "queuedRequestsSpec": "b", "runningRequestsSpec": "c", "kvUseSpec": "d"}
    with pytest.raises(ValidationError, match="kvUseSpec"):
        _EngineConfig.model_validate(wrong)
