"""python -m paceline_tools.cli, and the paceline command."""

import os

from paceline import interrupts

QUIET = ("GRPC_VERBOSITY", "NONE")
"""gRPC writes lines of its own to standard error, in between those of the command, which tells
itself what failed. It is read when gRPC is loaded."""


def main() -> None:
    """Run the command."""
    interrupts.end_at_once()
    os.environ.setdefault(*QUIET)
    from paceline_tools.cli import app  # takes a while, and can be interrupted

    interrupts.raise_again()
    app.main()


if __name__ == "__main__":
    main()
