"""Ctrl-C while a process still loads its code: it ends at once, with 130 and without a traceback.

A server's __main__ imports this first. Who begins to work puts a handler of its own in its place.
"""

import os
import signal
import sys
from typing import NoReturn

STATUS = 128 + signal.SIGINT
_SERVERS = ("draft_server.__main__", "orchestrator.__main__", "target_server.__main__")


def _end(number: int, frame: object) -> NoReturn:
    os._exit(STATUS)


def end_at_once() -> None:
    """Have Ctrl-C end the process, unless it is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_again() -> None:
    """Have Ctrl-C raise KeyboardInterrupt, as Python does."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", "") in _SERVERS:
    end_at_once()
