"""docs/kubernetes.md: its overlays are rendered over the base, validated, and do what it says."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.manifests import Object, faults
from tests.contract.rendering import plain_name

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def rendered(folder: Path, kustomization: str, **others: str) -> list[Object]:
    shutil.copytree(ROOT / "deploy" / "kustomize" / "base", folder / "base")
    overlay = folder / "overlay"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(kustomization)
    for name, content in others.items():
        (overlay / f"{name}.yaml").write_text(content)
    kubectl = Path(sys.executable).parent / "kubectl"
    done = subprocess.run(
        [kubectl, "kustomize", overlay], check=True, capture_output=True, text=True, timeout=60
    )
    return list(yaml.safe_load_all(done.stdout))


def named(objects: list[Object], kind: str, name: str) -> Any:
    [found] = [one for one in objects if (one["kind"], plain_name(one)) == (kind, name)]
    return found


def volume(objects: list[Object], role: str) -> Any:
    pod = named(objects, "Deployment", f"paceline-{role}")["spec"]["template"]["spec"]
    return {one["name"]: one for one in pod["volumes"]}["models"]


def test_each_block_is_tested() -> None:
    assert len(BLOCKS) == 5


def test_a_second_one_calls_its_own_services_and_selects_its_own_pods(tmp_path: Path) -> None:
    objects = rendered(tmp_path, BLOCKS[1])
    assert faults(objects) == []
    services = {one["metadata"]["name"]: one for one in objects if one["kind"] == "Service"}
    [data] = [one["data"] for one in objects if "PACELINE_ORCHESTRATOR_TARGET" in str(one)]
    for role in ("target", "draft"):
        name, _, port = data[f"PACELINE_ORCHESTRATOR_{role.upper()}"].partition(":")
        assert services[name]["spec"]["ports"][0]["port"] == int(port)
        assert services[name]["spec"]["selector"]["app.kubernetes.io/component"] == role
    for one in services.values():
        assert one["spec"]["selector"]["app.kubernetes.io/instance"] == "b"
    for one in objects:
        if one["kind"] == "NetworkPolicy":
            selectors = re.findall(r"'podSelector': \{'matchLabels': (\{.*?\})", str(one))
            assert selectors
            assert all("'app.kubernetes.io/instance': 'b'" in each for each in selectors)


def test_pods_reach_a_mirror_at_a_port_of_its_own(tmp_path: Path) -> None:
    objects = rendered(tmp_path, BLOCKS[2])
    assert faults(objects) == []
    for role in ("target", "draft"):
        rules = named(objects, "NetworkPolicy", f"paceline-{role}")["spec"]["egress"]
        assert rules[-2:] == [{"ports": [{"port": 443}]}, {"ports": [{"port": 8443}]}]


def test_a_model_of_the_hub(tmp_path: Path) -> None:
    objects = rendered(tmp_path, BLOCKS[0])
    assert faults(objects) == []
    data = named(objects, "ConfigMap", "paceline-target")["data"]
    assert data["PACELINE_TARGET_MODEL"] == "Qwen/Qwen2.5-7B-Instruct@main"
    assert "PACELINE_TARGET_THREADS" in data
    assert volume(objects, "target") == {"name": "models", "emptyDir": {"sizeLimit": "20Gi"}}


def test_a_claim(tmp_path: Path) -> None:
    objects = rendered(tmp_path, BLOCKS[3], claim=BLOCKS[4])
    assert faults(objects) == []
    claim = named(objects, "PersistentVolumeClaim", "paceline-models")["metadata"]["name"]
    for role in ("target", "draft"):
        assert volume(objects, role) == {
            "name": "models",
            "persistentVolumeClaim": {"claimName": claim},
        }


@pytest.mark.parametrize("path", re.findall(r"\]\(([a-z]+\.md)\)|`(deploy/kustomize/base)`", PAGE))
def test_what_it_names_is_there(path: tuple[str, str]) -> None:
    page, folder = path
    assert (ROOT / "docs" / page if page else ROOT / folder).exists()
