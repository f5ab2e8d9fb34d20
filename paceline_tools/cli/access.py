"""Which orchestrator commands ask, and what they show to it."""

import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from paceline.client.access import access
from paceline.errors import InvalidArgument
from paceline_tools.cli.flags import ORCHESTRATOR, OrchestratorAddress, Text

VARIABLES = {
    "token": "PACELINE_TOKEN",
    "ca": "PACELINE_CA",
    "certificate": "PACELINE_CERTIFICATE",
    "key": "PACELINE_KEY",
}
"""By what Client calls them."""


class AccessOptions(BaseModel):
    """Flags of all commands that ask an orchestrator. The environment has what none of them has."""

    address: OrchestratorAddress = ORCHESTRATOR
    ca: Path | None = Field(
        None,
        description="PEM file of certificates that sign an orchestrator's, behind grpcs://. Unless "
        "given: that of PACELINE_CA, else the system's.",
    )
    certificate: Path | None = Field(
        None,
        description="PEM file of the certificate to show, where one is asked for (mTLS). Unless "
        "given: that of PACELINE_CERTIFICATE, else none.",
    )
    key: Path | None = Field(
        None, description="PEM file of its key. Unless given: that of PACELINE_KEY, else none."
    )
    token: Text | None = Field(
        None,
        repr=False,
        description="Token to show. Others of this machine can see flags in its list of processes, "
        "and no variables. Unless given: PACELINE_TOKEN, else none.",
    )

    def access(self) -> dict[str, Any]:
        """What Client takes; InvalidArgument names the flag or variable that cannot be used."""
        given = {name: getattr(self, name) for name in VARIABLES}
        found = {name: given[name] or _in_environment(name) for name in VARIABLES}
        try:
            access(found["ca"], found["certificate"], found["key"], found["token"])
        except InvalidArgument as error:
            raise InvalidArgument(_as_given(str(error), given)) from error
        return found


def _in_environment(name: str) -> str | None:
    return os.environ.get(VARIABLES[name]) or None


def _as_given(said: str, given: dict[str, Any]) -> str:
    """What is said of `ca`, say, of --ca or of PACELINE_CA."""
    name, blank, rest = said.partition(" ")
    if rest.startswith("and key "):  # given both or not at all
        flags = "--certificate (PACELINE_CERTIFICATE) and --key (PACELINE_KEY)"
        return f"{flags} {rest.removeprefix('and key ')}"
    return f"{f'--{name}' if given[name] else VARIABLES[name]}{blank}{rest}"
