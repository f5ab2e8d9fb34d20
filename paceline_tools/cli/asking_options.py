"""Who is asked, and for how long."""

from pydantic import Field

from paceline.rpc.deadline import DEFAULT_SECONDS
from paceline_tools.cli.access import AccessOptions
from paceline_tools.cli.flags import Finite


class AskingOptions(AccessOptions):
    """Flags of who is asked, and for how long."""

    timeout: Finite = Field(
        DEFAULT_SECONDS, gt=0, description="Seconds for the whole output, tries again included."
    )
