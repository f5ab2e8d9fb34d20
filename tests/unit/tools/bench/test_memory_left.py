"""What a comparison needs of memory."""

import pytest

from paceline.errors import ResourceExhausted
from paceline_tools.bench import memory_left


def test_too_little_memory_ends_a_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_left, "memory_available", lambda: memory_left.LEAST)
    memory_left.check_memory_left("openvino")
    monkeypatch.setattr(memory_left, "memory_available", lambda: memory_left.LEAST - 1)
    said = (
        r"^2\.0 GiB of memory are left with openvino; it must be at least 2 GiB, or figures mean "
        r"nothing: name fewer --peers in one run$"
    )
    with pytest.raises(ResourceExhausted, match=said):
        memory_left.check_memory_left("openvino")
