"""What is said before servers are started for a measurement."""

from pathlib import Path

import pytest

from paceline.errors import FailedPrecondition, InvalidArgument
from paceline_tools.cli import checks


def test_models_are_named_with_their_flag() -> None:
    checks.check_models({"--target": "simulated:step_ms=1"})
    with pytest.raises(InvalidArgument) as told:
        checks.check_models({"--target": "simulated:", "--draft": "/nowhere/x"})
    assert str(told.value).startswith("--draft: '/nowhere/x' does not exist: there is no folder")
    with pytest.raises(
        InvalidArgument, match=r"^--target: simulated:fast is no parameter; there are "
    ):
        checks.check_models({"--target": "simulated:fast=1"})


def test_pictures_need_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda _: None)
    checks.check_matplotlib({"--plot": None, "--page": None})
    with pytest.raises(FailedPrecondition) as told:
        checks.check_matplotlib({"--plot": Path("x"), "--page": Path("y")})
    assert str(told.value) == "--plot and --page need matplotlib; run: pip install matplotlib"
