"""What is wrong with rendered Kubernetes objects, as far as that shows without a cluster."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import kubernetes_validate

from tests.contract.custom_resources import faults_of_custom, is_custom

KUBERNETES = "1.34"
UNITS = {"m": 1e-3, "": 1.0, "k": 1e3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
Object = dict[str, Any]
_VOLUMES = frozenset(
    ("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim")
) | {"projected", "secret"}
"""Kinds of volumes in the restricted pod security standard."""


def faults(objects: list[Object]) -> list[str]:
    """A line for each fault; the checks after the schema are those that no schema can make."""
    workloads = [item for item in objects if item["kind"] == "Deployment"]
    selecting = {"NetworkPolicy": "podSelector", "PodDisruptionBudget": "selector"}
    return [
        *(fault for item in objects for fault in _schema(item)),
        *_twice("object", [(item["kind"], item["metadata"]["name"]) for item in objects]),
        *(fault for item in workloads for fault in _workload(item, objects)),
        *(
            fault
            for item in objects
            if item["kind"] == "Service"
            for fault in _service(item, workloads)
        ),
        *(
            f"{item['kind']} {item['metadata']['name']} selects no Deployment"
            for item in objects
            if item["kind"] in selecting
            if not any(
                _selects(item["spec"][selecting[item["kind"]]]["matchLabels"], one)
                for one in workloads
            )
        ),
    ]


def quantity(text: str | int) -> float:
    """Cores or bytes: "500m" is 0.5, "1Gi" is 2**30."""
    number = str(text).rstrip("".join(UNITS))
    return float(number) * UNITS[str(text)[len(number) :]]


def containers(workload: Object) -> list[Object]:
    """Init containers, then the others."""
    pod = workload["spec"]["template"]["spec"]
    return [*pod.get("initContainers", ()), *pod["containers"]]


def _schema(item: Object) -> Iterator[str]:
    if is_custom(item):
        yield from faults_of_custom(item)
        return
    try:
        kubernetes_validate.validate(item, KUBERNETES, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        yield f"{item['kind']} is no kind of Kubernetes {KUBERNETES}"
    except kubernetes_validate.ValidationError as error:
        yield f"{item['kind']} {error}"


def _workload(workload: Object, objects: list[Object]) -> Iterator[str]:
    template = workload["spec"]["template"]
    if not _selects(workload["spec"]["selector"]["matchLabels"], workload):
        yield "a Deployment does not select its own pods"
    if template["spec"].get("enableServiceLinks", True):
        yield "links to services are set into the environment"
    maps = {item["metadata"]["name"] for item in objects if item["kind"] == "ConfigMap"}
    volumes = {volume["name"]: volume for volume in template["spec"].get("volumes", ())}
    mounted_maps = {one["configMap"]["name"] for one in volumes.values() if "configMap" in one}
    yield from (f"no ConfigMap {name}" for name in sorted(mounted_maps - maps))
    accounts = {item["metadata"]["name"] for item in objects if item["kind"] == "ServiceAccount"}
    account = template["spec"].get("serviceAccountName", "default")
    if account not in accounts:
        yield f"no ServiceAccount {account}"
    yield from _not_restricted(template["spec"])
    for found in containers(workload):
        mounted = {mount["name"] for mount in found.get("volumeMounts", ())}
        yield from (f"no ConfigMap {name}" for name in sorted(_maps(found) - maps))
        yield from (f"no volume {name}" for name in sorted(mounted - volumes.keys()))
        yield from (f"no variable {name}" for name in sorted(_named(found) - _set(found, objects)))
        yield from _over_limit(found["resources"])
    ports = [port for found in containers(workload) for port in found.get("ports", ())]
    yield from _twice("port", [port["containerPort"] for port in ports])
    yield from _twice("port", [port["name"] for port in ports])


def _not_restricted(pod: Object) -> Iterator[str]:
    """What the restricted pod security standard would refuse, of the fields that we set."""
    whole = pod.get("securityContext", {})
    if not whole.get("runAsNonRoot"):
        yield "a pod may run as root"
    if whole.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "a pod has no seccomp profile"
    for volume in pod.get("volumes", ()):
        yield from (f"a volume is of {kind}" for kind in volume.keys() - {"name"} - _VOLUMES)
    for found in (*pod.get("initContainers", ()), *pod["containers"]):
        context = found.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{found['name']} may gain privileges"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{found['name']} keeps capabilities"
        if any(port.get("hostPort") for port in found.get("ports", ())):
            yield f"{found['name']} takes a port of its node"
    shared = pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
    yield from (f"a pod has {name}" for name in sorted(shared))


def _named(container: Object) -> set[str]:
    """The variables that a command names as $(NAME); one that is not set would stay as it is."""
    words = (*container.get("command", ()), *container.get("args", ()))
    return set(re.findall(r"\$\((\w+)\)", " ".join(words)))


def _set(container: Object, objects: list[Object]) -> set[str]:
    """The variables that a container is given, but for those of Secrets."""
    data = {item["metadata"]["name"]: item["data"] for item in objects if "data" in item}
    own = {one["name"] for one in container.get("env", ())}
    return own.union(*(data.get(name, ()) for name in _maps(container)))


def _maps(container: Object) -> set[str]:
    """The ConfigMaps whose entries a container is given."""
    sources = container.get("envFrom", ())
    return {one["configMapRef"]["name"] for one in sources if "configMapRef" in one}


def _over_limit(resources: Object) -> Iterator[str]:
    for name, requested in resources["requests"].items():
        if name not in resources["limits"]:
            yield f"{name} has no limit"
        elif quantity(requested) > quantity(resources["limits"][name]):
            yield f"more {name} is requested than allowed"


def _service(service: Object, workloads: list[Object]) -> Iterator[str]:
    selected = [item for item in workloads if _selects(service["spec"]["selector"], item)]
    if len(selected) != 1:
        yield f"a Service selects {len(selected)} Deployments"
    yield from _twice("port", [port["port"] for port in service["spec"]["ports"]])
    for workload in selected:
        ports = [port for found in containers(workload) for port in found.get("ports", ())]
        known = {port["name"] for port in ports} | {port["containerPort"] for port in ports}
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in known:
                yield f"a Service leads to a port {port['targetPort']} that no container has"


def _selects(selector: dict[str, str], workload: Object) -> bool:
    labels: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return selector.items() <= labels.items()


def _twice(what: str, values: Iterable[object]) -> Iterator[str]:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            yield f"{what} {value} is there twice"
        seen.add(value)
