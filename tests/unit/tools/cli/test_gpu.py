"""What a GPU needs is told where there is one that cannot be used."""

import pytest

from paceline_tools.cli import gpu as module
from paceline_tools.cli.findings import Level
from paceline_tools.cli.gpu import NEEDS, gpu

CASES = {
    "nothing": (
        (False, None, False),
        "none can be used here: no driver of a GPU, no torch, no Triton",
        "",
    ),
    "another torch": (
        (True, "2.13.0+cpu", True),
        "none can be used here: torch 2.13.0+cpu is built without one",
        NEEDS,
    ),
    "all": ((True, "2.13.0", True), "a driver, torch 2.13.0 and Triton are here", ""),
}


@pytest.mark.parametrize("case", CASES)
def test_what_there_is_and_what_is_needed(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (driver, torch, triton), what, advice = CASES[case]
    monkeypatch.setattr(module, "has_driver", lambda: driver)
    monkeypatch.setattr(module, "_torch", lambda: torch)
    monkeypatch.setattr(module, "find_spec", lambda _: object() if triton else None)
    found = gpu()
    assert (found.level, found.subject, found.what, found.advice) == (
        Level.OK,
        "GPU",
        what,
        advice,
    )
    assert NEEDS == (
        "--device cuda needs a GPU's driver, torch built for it with its Triton, and on the GPU "
        "memory for the weights and for the KV of --kv-tokens"
    )
