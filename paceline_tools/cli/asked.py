"""Who is asked: an orchestrator, or what answers in its place."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from paceline.client import Client
from paceline.client.addresses import orchestrators
from paceline.client.diagnosis import RUNNING
from paceline.errors import FailedPrecondition, PacelineError, Unavailable, Unimplemented
from paceline.settings import ORCHESTRATOR_PORT
from paceline_tools.listener import http_at, orchestrator_near, role_at

_ROLES = {
    "orchestrator": "is the health port of an orchestrator",
    "target server": "is a target server",
    "draft server": "is a draft server",
}
START = "paceline up, or python -m orchestrator"
"""How an orchestrator is run."""
_ASKED = f"; the orchestrator is asked, usually at port {ORCHESTRATOR_PORT}"


@contextlib.asynccontextmanager
async def asking(address: str, **how: Any) -> AsyncIterator[Client]:
    """A client of the orchestrator; FailedPrecondition where something else answers there.

    how: what else Client takes, as AccessOptions.access has it.
    """
    async with Client(address, **how) as client:
        try:
            yield client
        except (Unimplemented, Unavailable) as error:
            if instead := await answers_instead(address, error):
                raise FailedPrecondition(instead) from error
            if str(error).endswith(RUNNING):
                raise Unavailable(f"{error} {START}") from error
            raise


async def answers_instead(address: str, error: PacelineError) -> str | None:
    """What answers at an address that is no orchestrator's; None where that is not why it fails."""
    where = orchestrators(address)
    if where.tls or len(where.targets) > 1:
        other = isinstance(error, Unimplemented)
        return f"{address} is another gRPC server{_ASKED}" if other else None
    [target] = where.targets
    if isinstance(error, Unimplemented):
        http = await http_at(target)
        there = f"speaks {http}, and no gRPC" if http else "is another gRPC server"
        what = _ROLES.get(await role_at(target), there)
    elif http := await http_at(target):
        what = f"speaks {http}, and no gRPC"
    else:
        return None
    near = await orchestrator_near(target)
    return f"{address} {what}{f'; the orchestrator is at {near}' if near else _ASKED}"
