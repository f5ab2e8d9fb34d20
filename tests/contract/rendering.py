"""deploy/kustomize as kubectl renders it."""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from tests.contract.manifests import Object

KUSTOMIZE = Path(__file__).parents[2] / "deploy" / "kustomize"
BASE = KUSTOMIZE / "base"
_HASH = re.compile(r"-[a-z0-9]{10}$")
_HEAD = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"


def kustomized(folder: Path) -> list[Object]:
    """The objects of an overlay."""
    kubectl = Path(sys.executable).parent / "kubectl"
    rendered = subprocess.run(
        [kubectl, "kustomize", folder], check=True, capture_output=True, text=True, timeout=60
    )
    return list(yaml.safe_load_all(rendered.stdout))


def with_components(
    folder: Path, components: Sequence[str], on: str = "base", more: str = ""
) -> list[Object]:
    """An overlay with components, made in an empty folder. more: further lines of its file."""
    shutil.copytree(KUSTOMIZE, folder / "kustomize")
    mine = folder / "kustomize" / "mine"
    mine.mkdir()
    names = ", ".join(f"../components/{name}" for name in components)
    (mine / "kustomization.yaml").write_text(
        f"{_HEAD}resources: [../{on}]\ncomponents: [{names}]\n{more}"
    )
    return kustomized(mine)


def plain_name(item: Object) -> str:
    """Without the hash that the name of a generated ConfigMap ends with."""
    name: str = item["metadata"]["name"]
    return _HASH.sub("", name) if item["kind"] == "ConfigMap" else name


def of(objects: list[Object], kind: str) -> dict[str, Object]:
    """The objects of a kind by their names, less `paceline-` and hash."""
    return {
        plain_name(item).removeprefix("paceline-"): item for item in objects if item["kind"] == kind
    }


def container(deployment: Object) -> Object:
    """The only one that is no init container."""
    [only] = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only
