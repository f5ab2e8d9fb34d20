"""Every query of the dashboard has an answer of a live Prometheus, while real servers have work."""

import os
import re
import shutil
from pathlib import Path

import pytest

from benchmarks.dashboard import collect, draw
from benchmarks.panels import PANELS

pytestmark = pytest.mark.e2e
SECONDS = 40.0


async def test_every_query_has_an_answer_under_traffic(tmp_path: Path) -> None:
    if shutil.which("prometheus") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("prometheus is missing: install the package of that name")
        pytest.skip("prometheus is missing: install the package of that name")
    found = await collect(SECONDS)
    for panel in PANELS:
        for legend in panel.queries:
            pattern = re.sub(r"\\{\\{\w+\\}\\}", "[^ ,]+", re.escape(legend))
            named = [one for one in found[panel.title] if re.fullmatch(pattern, one)]
            assert named, f"{panel.title}: {legend} of {list(found[panel.title])}"
    losses = found["Streams that changed servers"]["simulated lost a target"]
    assert max(value for _, value in losses) > 0
    draw(found, tmp_path / "dashboard.png")
