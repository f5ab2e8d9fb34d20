"""A server of `paceline up` that dies while the rest serves is named once, at any log level."""

import signal

import pytest

from tests.faults.test_up import QUICK, SLOW, port, says_of_itself, up

__all__ = ["port"]
KILLED = "was killed by SIGKILL, perhaps as memory ran out"
GOES_ON = "the rest goes on, and nothing starts it again"


@pytest.mark.parametrize("module", ["draft_server", "target_server"])
async def test_one_that_dies_is_named_and_the_rest_goes_on(port: int, module: str) -> None:
    flags = (f"--target=a={SLOW}", f"--target=b={SLOW}", f"--draft={QUICK}", f"--port={port}")
    async with up(*flags, "--log-level=warning", "--log-format=json") as started:
        await started.says(lambda event: event["event"].startswith("ready at"))
        await started.says(lambda event: event["event"] == "the draft is used")
        started.child(module).send_signal(signal.SIGKILL)
        found = await started.says(lambda event: event["event"].endswith(GOES_ON))
        names = ["draft"] if module == "draft_server" else ["target a", "target b"]
        assert found["event"] in [f"the {name} {KILLED}; {GOES_ON}" for name in names]
        assert (found["level"], found["server"]) == ("warning", "up")
    said = [event for event in started.events() if says_of_itself(event)]
    assert sum(KILLED in event["event"] for event in said) == 1
