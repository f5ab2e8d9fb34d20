"""What vLLM raises is told in a line that names the reason."""

import json
from pathlib import Path

import pytest
from pydantic import BaseModel, model_validator

from paceline.engine.vllm import refusals
from paceline.engine.vllm.refusals import check_arguments, refusing
from paceline.errors import FailedPrecondition, InvalidArgument, Unavailable


class Config(BaseModel):
    streams: int = 1
    method: str = "awq"

    @model_validator(mode="after")
    def _is_known(self) -> "Config":
        if self.method != "awq":
            raise ValueError(f"unknown method {self.method}")
        return self


def told(error: Exception) -> str:
    with pytest.raises(FailedPrecondition) as found, refusing(Path("model"), {}):
        raise error
    return str(found.value)


def test_an_error_is_told_with_its_kind() -> None:
    assert told(ValueError("a\nb")) == "vLLM cannot serve model: ValueError: a b"


def test_a_kernel_that_the_build_leaves_out_is_named() -> None:
    error = RuntimeError(
        "_C::static_scaled_fp8_quant() expected at most 0 argument(s) but received 4 argument(s). "
        "Declaration: _C::static_scaled_fp8_quant() -> ()"
    )
    assert told(error) == (
        "vLLM cannot serve model: this build of vLLM leaves out the kernel "
        "static_scaled_fp8_quant; take the model in another format, or a build for another device"
    )


def test_a_kernel_that_takes_other_arguments_is_told_in_torchs_words() -> None:
    said = "_C::mul() expected at most 1 argument(s). Declaration: _C::mul(Tensor a) -> Tensor"
    assert told(RuntimeError(said)) == f"vLLM cannot serve model: RuntimeError: {said}"


INSPECTED = "Model architectures ['Qwen2VLForConditionalGeneration'] failed to be inspected."


NO_OPERATOR = RuntimeError("operator torchvision::nms does not exist")


@pytest.mark.parametrize(
    ("error", "missing"),
    [
        (ModuleNotFoundError("No module named 'torchvision'"), "is not installed"),
        (NO_OPERATOR, f"does not load (RuntimeError: {NO_OPERATOR})"),
    ],
    ids=["not installed", "of another torch"],
)
def test_a_model_that_sees_is_refused_with_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, error: Exception, missing: str
) -> None:
    def fails(name: str) -> None:
        assert name == "torchvision"
        raise error

    monkeypatch.setattr(refusals, "import_module", fails)
    assert told(ValueError(INSPECTED)) == (
        "vLLM cannot serve model: its code cannot be imported, as the log says; torchvision "
        f"{missing}, which most models that see need: install the one built with the "
        "installed torch"
    )


def test_a_model_whose_code_needs_something_else_is_refused_in_vllms_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refusals, "import_module", lambda _: object())
    assert told(ValueError(INSPECTED)) == f"vLLM cannot serve model: ValueError: {INSPECTED}"


def test_what_does_not_fit_its_config_is_told_without_the_config() -> None:
    with pytest.raises(ValueError, match="unknown method") as found:
        Config(method="exl9")
    assert told(found.value) == "vLLM cannot serve model: unknown method exl9"


def test_a_field_is_named() -> None:
    with pytest.raises(ValueError, match="streams") as found:
        Config.model_validate({"streams": "many"})
    assert told(found.value).startswith("vLLM cannot serve model: streams: Input should be a valid")


def test_arguments_that_may_be_the_reason_are_told_by_their_flag() -> None:
    given = {"quantization": "awq", "hf_token": "hf_secret"}
    with pytest.raises(FailedPrecondition) as found, refusing(Path("model"), given):
        raise ValueError("Cannot find the config file for awq")
    assert str(found.value) == (
        "vLLM cannot serve model: ValueError: Cannot find the config file for awq; "
        '--vllm-arguments is \'{"quantization": "awq", "hf_token": "..."}\''
    )


@pytest.mark.parametrize(
    "name",
    ["hf_token", "hf-token", "api_key", "--api-key", "API_KEYS", "client_secret", "password"],
)
def test_secrets_among_arguments_are_not_told_wherever_they_stand(name: str) -> None:
    given = {
        "max_num_batched_tokens": 3,
        name: "hidden",
        "extra": [{name: ["hidden"], "path": "shown"}],
    }
    with pytest.raises(FailedPrecondition) as found, refusing(Path("model"), given):
        raise ValueError("no")
    told = json.dumps(
        {"max_num_batched_tokens": 3, name: "...", "extra": [{name: "...", "path": "shown"}]}
    )
    assert str(found.value).endswith(f"--vllm-arguments is '{told}'")


def test_our_own_errors_pass() -> None:
    with pytest.raises(Unavailable, match="down"), refusing(Path("model"), {}):
        raise Unavailable("down")


def test_an_argument_that_vllm_has_not_is_named_with_the_nearest() -> None:
    known = ["max_model_len", "seed"]
    check_arguments(known, known)
    with pytest.raises(InvalidArgument) as found:
        check_arguments(["seed", "max_model"], known)
    assert str(found.value) == (
        "a name in --vllm-arguments is 'max_model'; it must be an argument of vLLM's EngineArgs; "
        "did you mean max_model_len?"
    )
