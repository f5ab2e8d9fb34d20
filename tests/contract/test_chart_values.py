"""Values of the chart: what cannot be right ends with a message, all else gets to the objects."""

import json
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from draft_server.drafters.registry import DRAFTERS
from tests.chart_reference import CHARTS_OWN, SCHEMA, SETTINGS
from tests.contract.charts import Values, charted
from tests.contract.manifests import faults
from tests.contract.rendering import container, of

PROPERTIES: dict[str, Any] = json.loads(SCHEMA.read_text())["properties"]
CUDA: Values = {"image": "paceline-target-cuda", "settings": {"device": "cuda"}, "gpus": 1}
NEEDED = {"model": "m", "plaintext": True}


def nested(path: str, value: object) -> Values:
    """{"a": {"b": value}} of "a.b"."""
    found: Any = value
    for name in reversed(path.split(".")):
        found = {name: found}
    assert isinstance(found, dict)
    return found


def refusal(values: Values, release: str = "paceline") -> str:
    with pytest.raises(Exception, match=r"values don't meet|execution error") as refused:
        charted(values, release)
    return str(refused.value)


@pytest.mark.parametrize(
    ("path", "value", "seen"),
    [
        ("draft.settings.drain_seconds", -1, "minimum: got -1, want 0"),
        ("draft.settings.threads", -1, "minimum: got -1, want 1"),
        ("draft.settings.dtype", "float16", "'float16' does not match pattern"),
        ("draft.settings.device", "gpu", "'gpu' does not match pattern"),
        ("draft.settings.kv_tokens", 1, "minimum: got 1, want 512"),
        ("orchestrator.settings.max_draft_length", 33, "maximum: got 33, want 32"),
        ("orchestrator.settings.target", "", "minLength: got 0, want 1"),
        ("orchestrator.startupSeconds", 0, "minimum: got 0, want 1"),
        ("orchestrator.scaling.min", 0, "minimum: got 0, want 1"),
        ("target.scaling.min", 0, "minimum: got 0, want 1"),
        ("draft.scaling.max", 0, "minimum: got 0, want 1"),
        ("target.tmpSize", "4 gigabytes", "'4 gigabytes' does not match pattern"),
        ("target.shmSize", "lots", "'lots' does not match pattern"),
        ("target.models.size", "8GiB", "'8GiB' does not match pattern"),
        ("target.resources.limits.memory", "12GB", "'12GB' does not match pattern"),
        ("target.resources.limits.cpu", -1, "minimum: got -1, want 0"),
        ("target.models.claim", "My_Claim", "'My_Claim' does not match pattern"),
        ("target.priorityClassName", "High", "'High' does not match pattern"),
        ("target.env", [{"value": "1"}], "missing property 'name'"),
        ("target.labels", {"a": "b c"}, "'b c' does not match pattern"),
        ("target.image", "Image", "'Image' does not match pattern"),
        ("image.tag", "a b", "'a b' does not match pattern"),
        ("image.pullSecrets", ["A"], "'A' does not match pattern"),
        ("hubSecret", "", "'' does not match pattern"),
        ("tokens.secret", "a_b", "'a_b' does not match pattern"),
        ("network.monitoringNamespace", "a.b", "'a.b' does not match pattern"),
        ("network.hubPorts", [0], "minimum: got 0, want 1"),
        ("network.hubPorts", [], "minItems: got 0, want 1"),
        ("scaling.prometheus", "prometheus:9090", "'prometheus:9090' does not match pattern"),
        ("target.settings", None, "at '/target': missing property 'settings'"),
        ("target", None, "at '': missing property 'target'"),
        ("tls", None, "at '': missing property 'tls'"),
        ("draft.replicas", None, "at '/draft': missing property 'replicas'"),
    ],
)
def test_a_value_out_of_its_range_is_refused(path: str, value: object, seen: str) -> None:
    assert seen in refusal(nested(path, value))


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        (
            nested("tls.certManager", True),
            "tls.certManager is true and tls.enabled is false: servers would be in plaintext; set "
            "tls.enabled to true, or tls.certManager to false",
        ),
        (
            {"traces": {"enabled": True, "endpoint": "http://collector"}},
            'traces.endpoint is "http://collector"; it must be http://HOST:PORT or '
            "https://HOST:PORT, by whose port the NetworkPolicy goes",
        ),
        (
            nested("draft.scaling", {"min": 9, "max": 8}),
            "draft.scaling.min is 9; it must be at most draft.scaling.max, 8",
        ),
        (
            nested("draft.rollout.maxSurge", "0%"),
            "draft.rollout has 0 for both maxSurge and maxUnavailable; one must be more, or no pod "
            "is ever replaced",
        ),
        (
            nested("orchestrator.settings", {"objective": "cost", "draft_price": 1}),
            "orchestrator.settings.target_price is missing; objective cost needs it",
        ),
        (
            nested("orchestrator.settings.draft_price", 1),
            "orchestrator.settings.draft_price is given; it must be given with objective cost",
        ),
        (
            nested("orchestrator.settings.draft_length", 17),
            "orchestrator.settings.draft_length is 17; it must be at most max_draft_length, 16",
        ),
        (
            nested("target.settings.kv_tokens", 4096),
            "target.settings.kv_tokens is 4096; it must be more than kv_reserve_tokens, by a page "
            "of 512 at least",
        ),
        (
            nested("target.settings.tensor_parallel_size", 2),
            "target.settings.tensor_parallel_size is for engine vllm; the engine is torch",
        ),
        (
            nested("target.settings.model", None),
            "target.settings.model is missing; name the model that is served",
        ),
        (
            nested("draft.settings.model", ""),
            "draft.settings.model is missing; name the model that is served",
        ),
        (
            nested("draft.settings.plaintext", False),
            "draft.settings.plaintext is false; set tls.enabled to true, or servers would not "
            "start",
        ),
        (
            nested("target", CUDA | {"gpus": 0}),
            "target.settings.device is cuda and target.gpus is 0; it must be as many as the device "
            "needs",
        ),
        (
            nested("target", CUDA | {"settings": {}}),
            "target.gpus is 1 and target.settings.device is not cuda; it must be, or the GPUs are "
            "idle",
        ),
        (
            nested("target", CUDA | {"image": "paceline-target"}),
            "target.gpus is 1 and target.image is paceline-target, which has no CUDA; take "
            "paceline-target-cuda, or paceline-target-vllm with engine vllm",
        ),
        (
            nested("target", CUDA | {"settings": {"engine": "vllm"}}),
            "target.settings.engine is vllm and target.image is paceline-target-cuda, which has "
            "none; take paceline-target-vllm",
        ),
        (
            nested("target", CUDA | {"image": "paceline-target-vllm"}),
            "target.image is paceline-target-vllm; target.settings.engine must be vllm",
        ),
        (
            nested(
                "target",
                {
                    "image": "paceline-target-vllm",
                    "settings": {"engine": "vllm", "tensor_parallel_size": 4},
                    "gpus": 2,
                },
            ),
            "target.gpus is 2; tensor_parallel_size and pipeline_parallel_size need 4",
        ),
        (
            nested("target.resources.requests.memory", "64Gi"),
            "target: 64Gi of memory are requested; the limit must be as much at least, and is 12Gi",
        ),
        (
            nested("draft.models.resources.requests.cpu", 3),
            "draft: 3 of cpu are requested; the limit must be as much at least, and is 2",
        ),
        (
            nested("target.labels", {"app.kubernetes.io/component": "x"}),
            "target.labels has app.kubernetes.io/component, by which its pods are selected; it "
            "must not be changed",
        ),
        (
            nested("draft.env", [{"name": "PACELINE_DRAFT_THREADS", "value": "1"}]),
            "draft.env has PACELINE_DRAFT_THREADS; it must be among draft.settings, as threads",
        ),
        (
            nested("draft.env", [{"name": "HOME", "value": "/"}]),
            "draft.env has HOME; it must be /tmp, as all else is read-only",
        ),
    ],
)
def test_values_that_do_not_fit_each_other_are_refused(values: Values, seen: str) -> None:
    assert refusal(values).endswith(f": {seen}")


@pytest.mark.parametrize(
    ("release", "name", "seen"),
    [
        ("a" * 42, "", f"gives objects a name which is {'a' * 42 + '-paceline'!r}, of 51"),
        ("a.b", "", "the name of the release, a.b, gives objects a name which is 'a.b-paceline'"),
        ("7b", "", "gives objects a name which is '7b-paceline', of 11 characters"),
        ("paceline", "a" * 51, f"name is {'a' * 51!r}, of 51 characters; it must be at most 50"),
        ("paceline", "Big", "name is 'Big', of 3 characters; it must be at most 50 of a-z, 0-9"),
    ],
)
def test_a_name_that_objects_cannot_have_is_refused(release: str, name: str, seen: str) -> None:
    assert seen.replace("'", '"') in refusal({"name": name}, release)


@pytest.mark.parametrize("release", ["a" * 41, "on", "paceline"])
def test_the_longest_name_and_words_of_yaml_are_names(release: str) -> None:
    found = charted({"tls": {"enabled": True, "certManager": True}}, release)
    assert faults(found) == []
    longest = max(len(one["metadata"]["name"]) for one in found if one["kind"] == "Service")
    assert longest <= 63
    for one in of(found, "Deployment").values():
        labels = one["spec"]["template"]["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == release


def edges(field: dict[str, Any]) -> list[float]:
    """Numbers at the ends of a range, and just beyond them."""
    step = 1 if field["type"] == "integer" else 0.5
    ends = [field[name] for name in ("minimum", "exclusiveMinimum", "maximum") if name in field]
    return [end + by for end in ends for by in (-step, 0, step)]


@pytest.mark.parametrize("role", SETTINGS)
def test_ranges_of_settings_are_those_of_the_servers(role: str) -> None:
    """By trying: at each end of each range, and each wrong word, both say the same."""
    fields = PROPERTIES[role]["properties"]["settings"]["properties"]
    tried = 0
    for name, field in fields.items():
        values: list[object] = []
        if field.get("type") in {"integer", "number"}:
            values = list(edges(field))
            assert len(values) >= 6, f"{role} {name} has no range"
        if "enum" in field or "pattern" in field:
            values = ["nonsense", *field.get("enum", ())]
        for value in values:
            tried += 1
            assert accepts(field, value) == serves(role, name, value), f"{role} {name} {value}"
    assert tried > 30


def accepts(field: dict[str, Any], value: object) -> bool:
    return bool(jsonschema.Draft202012Validator(field).is_valid(value))


def serves(role: str, name: str, value: object) -> bool:
    """Whether the setting itself is taken; that it does not fit others is none of its own."""
    kind = SETTINGS[role]
    needed = {one: text for one, text in NEEDED.items() if one in kind.model_fields}
    try:
        kind(**{**needed, name: value})  # type: ignore[arg-type]
    except ValidationError as error:
        wrong = {one["type"] for one in error.errors() if one["loc"] == (name,)}
        return wrong <= {"kv_tokens"}
    return True


@pytest.mark.parametrize("role", SETTINGS)
def test_every_setting_but_the_charts_own_may_be_given(role: str) -> None:
    known = PROPERTIES[role]["properties"]["settings"]["properties"].keys()
    assert known | CHARTS_OWN | {"tokens"} >= SETTINGS[role].model_fields.keys()


@pytest.mark.parametrize("drafter", DRAFTERS)
def test_a_model_is_asked_for_where_the_drafter_needs_one(drafter: str) -> None:
    values = nested("draft.settings", {"drafter": drafter, "model": None})
    if DRAFTERS[drafter].needs_model:
        assert "draft.settings.model is missing" in refusal(values)
        return
    chart = charted(values)
    assert faults(chart) == []
    assert "initContainers" not in of(chart, "Deployment")["draft"]["spec"]["template"]["spec"]


def test_what_is_false_empty_or_0_is_kept() -> None:
    values: Values = {
        "tls": {"enabled": True},
        "monitoring": {"enabled": True, "labels": {"release": "", "helm.sh/chart": "mine"}},
        "orchestrator": {"settings": {"draft_length": 0, "tls_server_ca": "", "plaintext": False}},
        "target": {"settings": {"drain_seconds": 0, "plaintext": True}},
    }
    chart = charted(values)
    assert faults(chart) == []
    maps = {name: one["data"] for name, one in of(chart, "ConfigMap").items()}
    assert maps["orchestrator"]["PACELINE_ORCHESTRATOR_DRAFT_LENGTH"] == "0"
    assert maps["orchestrator"]["PACELINE_ORCHESTRATOR_TLS_SERVER_CA"] == ""
    assert maps["orchestrator"]["PACELINE_ORCHESTRATOR_PLAINTEXT"] == "false"
    assert maps["target"]["PACELINE_TARGET_PLAINTEXT"] == "true"
    assert maps["target"]["PACELINE_TARGET_DRAIN_SECONDS"] == "0"
    pod = of(chart, "Deployment")["target"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 20
    [monitor] = of(chart, "PodMonitor").values()
    assert monitor["metadata"]["labels"]["release"] == ""
    assert monitor["metadata"]["labels"]["helm.sh/chart"] == "mine"


def test_a_setting_that_is_taken_back_is_the_servers_own() -> None:
    chart = charted(nested("target.settings", {"threads": None, "drain_seconds": None}))
    data = of(chart, "ConfigMap")["target"]["data"]
    assert not {"PACELINE_TARGET_THREADS", "PACELINE_TARGET_DRAIN_SECONDS"} & data.keys()
    pod = of(chart, "Deployment")["target"]["spec"]["template"]["spec"]
    own = SETTINGS["target"].model_fields["drain_seconds"].default
    assert pod["terminationGracePeriodSeconds"] == own + 20


@pytest.mark.parametrize(
    ("values", "rollout"),
    [
        ({}, (1, 0)),
        (CUDA, (0, 1)),
        (CUDA | {"rollout": {"maxSurge": 1, "maxUnavailable": 0}}, (1, 0)),
        ({"rollout": {"maxSurge": 0, "maxUnavailable": "25%"}}, (0, "25%")),
    ],
)
def test_an_old_pod_goes_first_where_pods_have_gpus(
    values: Values, rollout: tuple[object, object]
) -> None:
    deployment = of(charted({"target": values}), "Deployment")["target"]
    found = deployment["spec"]["strategy"]["rollingUpdate"]
    assert (found["maxSurge"], found["maxUnavailable"]) == rollout


@pytest.mark.parametrize("role", SETTINGS)
def test_what_else_a_platform_gives_gets_to_the_pods(role: str) -> None:
    spread: Values = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    values: Values = {
        "affinity": spread,
        "priorityClassName": "high",
        "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "envFrom": [{"secretRef": {"name": "more"}}],
        "labels": {"team": "text"},
        "annotations": {"note": "", "prometheus.io/scrape": "false"},
    }
    chart = charted({role: values})
    assert faults(chart) == []
    template = of(chart, "Deployment")[role]["spec"]["template"]
    assert template["metadata"]["labels"]["team"] == "text"
    assert template["metadata"]["annotations"]["note"] == ""
    assert template["metadata"]["annotations"]["prometheus.io/scrape"] == "false"
    pod = template["spec"]
    assert (pod["affinity"], pod["priorityClassName"]) == (spread, "high")
    for found in (*pod.get("initContainers", ()), *pod["containers"]):
        assert found["env"][-1] == values["env"][0]
        assert found["envFrom"][-1] == values["envFrom"][0]
    other = "draft" if role != "draft" else "target"
    assert "affinity" not in of(chart, "Deployment")[other]["spec"]["template"]["spec"]


def test_pods_may_reach_a_mirror_at_its_own_port() -> None:
    chart = charted(nested("network.hubPorts", [443, 8443]))
    for role in ("target", "draft"):
        found = of(chart, "NetworkPolicy")[role]["spec"]["egress"][-1]
        assert found == {"ports": [{"port": 443}, {"port": 8443}]}


def test_gpus_are_a_whole_number() -> None:
    deployment = of(charted({"target": CUDA}), "Deployment")["target"]
    assert container(deployment)["resources"]["requests"]["nvidia.com/gpu"] == "1"
