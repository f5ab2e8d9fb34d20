"""Who is asked, and for how long."""

from pathlib import Path

from pydantic import BaseModel, Field

from paceline.rpc.deadline import DEFAULT_SECONDS
from paceline_tools.cli.flags import ORCHESTRATOR, Finite, OrchestratorAddress


class AskingOptions(BaseModel):
    """Flags of who is asked, and for how long."""

    address: OrchestratorAddress = ORCHESTRATOR
    timeout: Finite = Field(
        DEFAULT_SECONDS, gt=0, description="Seconds for the whole output, tries again included."
    )
    ca: Path | None = Field(
        None,
        description="PEM file of certificates that sign an orchestrator's, behind grpcs://. Unless "
        "given: the system's.",
    )
