"""The arguments with which servers are started on this machine."""

from collections.abc import Sequence
from pathlib import Path

from draft_server.drafters.registry import DRAFTERS

THROWN_AWAY = ("--host=127.0.0.1", "--drain-seconds=0", "--health-port=0")
UNWATCHED = (*THROWN_AWAY, "--metrics-port=0")
"""Flags of servers that a measurement starts for itself, and throws away."""


def target_command(model: str, socket: Path, flags: Sequence[str]) -> list[str]:
    """Arguments, for Python, of a target server that listens on a socket."""
    return ["-m", "target_server", f"--model={model}", f"--socket={socket}", *flags]


def draft_command(model: str, drafter: str, socket: Path, flags: Sequence[str]) -> list[str]:
    """Arguments, for Python, of a draft server that listens on a socket."""
    named = [f"--model={model}"] if DRAFTERS[drafter].needs_model else []
    return ["-m", "draft_server", *named, f"--drafter={drafter}", f"--socket={socket}", *flags]


def orchestrator_command(
    port: int, target: Path, draft: Path | None, draft_length: int, flags: Sequence[str]
) -> list[str]:
    """Arguments, for Python, of an orchestrator between servers on sockets."""
    drafts = [f"unix:{draft}"] if draft else []
    lengths = (f"--draft-length={draft_length}", *flags)
    return orchestrator_of(port, [f"unix:{target}"], drafts, lengths)


def orchestrator_of(
    port: int, targets: Sequence[str], drafts: Sequence[str], flags: Sequence[str]
) -> list[str]:
    """Arguments, for Python, of an orchestrator. drafts: ADDRESS, or POOL=ADDRESS."""
    return [
        *("-m", "orchestrator", f"--port={port}", f"--target={','.join(targets)}"),
        *(f"--draft={','.join(drafts)}", *flags),
    ]
