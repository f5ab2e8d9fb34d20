"""A server's process tells libgomp how long to spin, before torch loads it."""

import os
import subprocess
import sys

import pytest

from paceline.engine_server.process import SPIN_COUNT, spin_shortly

VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


def test_workers_spin_shortly() -> None:
    spin_shortly()
    assert os.environ["GOMP_SPINCOUNT"] == SPIN_COUNT


@pytest.mark.parametrize(("name", "said"), [("GOMP_SPINCOUNT", "7"), ("OMP_WAIT_POLICY", "active")])
def test_what_an_operator_says_goes_first(
    name: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, said)
    spin_shortly()
    assert {one: os.environ.get(one) for one in VARIABLES if one in os.environ} == {name: said}


def test_servers_load_no_torch_before_it_is_said() -> None:
    code = (
        "import sys, target_server.__main__, draft_server.__main__; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
