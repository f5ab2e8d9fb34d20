"""What images install is locked, and the locks are what the project asks for."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from draft_server.settings import DraftSettings
from orchestrator.settings import OrchestratorSettings
from paceline.engine.compiling import AHEAD
from paceline.health import ROLES
from paceline.settings import ServerSettings
from target_server.settings import TargetSettings

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
STAGES = {
    name: (base, text)
    for base, name, text in re.findall(
        r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM|\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL
    )
}
LOCKS = {path.stem: path.read_text() for path in (ROOT / "deploy" / "locks").glob("*.txt")}
EXTRAS = {
    "orchestrator": ["traces"],
    "cpu": ["traces", "engine"],
    "cuda": ["traces", "engine"],
    "vllm": ["traces", "vllm"],
}
IMAGES = {
    "orchestrator": "orchestrator",
    "draft": "cpu",
    "target": "cpu",
    "draft-cuda": "cuda",
    "target-cuda": "cuda",
    "target-vllm": "vllm",
}
SETTINGS: dict[str, type[ServerSettings]] = {
    "orchestrator": OrchestratorSettings,
    "target": TargetSettings,
    "draft": DraftSettings,
}


def locked(name: str) -> dict[str, str]:
    """Versions by package."""
    found = re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", LOCKS[name], re.MULTILINE)
    return {canonicalize_name(package): version for package, version in found}


def wanted(name: str) -> list[Requirement]:
    if name == "build":
        return [Requirement(one) for one in PYPROJECT["build-system"]["requires"]]
    project = PYPROJECT["project"]
    extras = (project["optional-dependencies"][extra] for extra in EXTRAS[name])
    return [Requirement(one) for one in sum(extras, project["dependencies"])]


def test_each_lock_is_some_images() -> None:
    assert LOCKS.keys() == {*IMAGES.values(), "build"}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_what_the_project_asks_for(name: str) -> None:
    found = locked(name)
    for requirement in wanted(name):
        package = canonicalize_name(requirement.name)
        assert package in found, f"{package}: make locks"
        assert requirement.specifier.contains(found[package]), f"{package}: make locks"


@pytest.mark.parametrize("name", LOCKS)
def test_all_that_is_locked_has_hashes(name: str) -> None:
    lines = LOCKS[name].replace("\\\n", " ").splitlines()
    packages = [line for line in lines if line and not line.lstrip().startswith("#")]
    assert packages
    for line in packages:
        assert re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line


def test_the_orchestrator_has_no_torch_and_cpus_none_of_cuda() -> None:
    assert not {"torch", "transformers", "safetensors"} & locked("orchestrator").keys()
    assert locked("cpu")["torch"].endswith("+cpu")
    assert not [package for package in locked("cpu") if package.startswith(("nvidia", "triton"))]
    assert any(package.startswith("nvidia") for package in locked("cuda"))


def test_what_serves_has_the_same_torch_on_cpus_and_gpus() -> None:
    assert locked("cpu")["torch"].partition("+")[0] == locked("cuda")["torch"]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_installs_its_lock_and_says_what_it_is(image: str) -> None:
    base, text = STAGES[image]
    packages, install = STAGES[base]
    assert f"--requirement /locks/{IMAGES[image]}.txt" in STAGES[packages][1]
    assert "/wheels/paceline-*.whl" in install
    assert f'image.title="paceline-{image}"' in text
    role = image.partition("-")[0]
    assert "HEALTHCHECK --interval=10s" in text
    assert f'CMD ["python", "-m", "paceline.health", "{role}"]' in text
    ports = [
        SETTINGS[role].model_fields[f"{one}port"].default for one in ("", "health_", "metrics_")
    ]
    assert f"EXPOSE {' '.join(map(str, ports))}\n" in text
    assert text.count("ENTRYPOINT") == 1
    assert (install + text).rpartition("USER ")[2].startswith("10001\n")


def test_nothing_is_installed_but_from_locks_and_the_wheel() -> None:
    installs = re.findall(r"pip install (.*?)(?: \\\n    &&|\n(?! )|\Z)", DOCKERFILE, re.DOTALL)
    # A set of packages is installed once, and the wheel above it: draft and target share both.
    # The wheel is also where our C is compiled.
    assert len(installs) == len(set(IMAGES.values())) + len(LOCKS) + 1
    for one in installs:
        assert "--require-hashes" in one or one.endswith("--no-deps /wheels/paceline-*.whl"), one


@pytest.mark.parametrize("image", ["draft", "target"])
def test_images_for_cpus_have_our_c_compiled_and_no_compiler(image: str) -> None:
    install = STAGES[STAGES[image][0]][1]
    assert f"COPY --from=libraries {AHEAD} {AHEAD}\n" in install
    base, made = STAGES["libraries"]
    assert "install --yes --no-install-recommends gcc libc6-dev " in made
    assert "&& python -m paceline.engine.compile_ahead\n" in made
    packages = STAGES[STAGES[image][0]][0]
    assert packages == base  # the same Python and C library
    assert "install --yes --no-install-recommends libgomp1 " in STAGES[packages][1]
    assert " gcc " not in install + STAGES[packages][1]


def test_images_have_the_version_of_the_project() -> None:
    version = PYPROJECT["project"]["version"]
    assert f"ARG VERSION={version}\n" in DOCKERFILE
    assert f"paceline-orchestrator:{version} ." in DOCKERFILE


def test_all_that_is_copied_is_sent_to_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    sent = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    for source in " ".join(copied).split():
        assert any(source == one or source.startswith(f"{one}/") for one in sent), source


@pytest.mark.parametrize("role", SETTINGS)
def test_health_is_asked_where_settings_have_it(role: str) -> None:
    assert ROLES[role][1] == SETTINGS[role].model_fields["health_port"].default
    assert SETTINGS[role].model_config["env_prefix"] == f"PACELINE_{role.upper()}_"
