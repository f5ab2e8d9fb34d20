"""Clients and fork: made before, used after. gRPC goes on in no child that was forked while open.

So connections that nobody uses are closed before a fork, and dialed again where they are needed:
in the parent and in the child. Where one is in use at the fork the parent's stays, and the child
says that it cannot go on, in place of hanging; now and then gRPC's threads that are gone with
their locks held end the child before it can say anything.
"""

import gc
import os
import weakref
from typing import Protocol

import grpc

from paceline.errors import FailedPrecondition


class _Watched(Protocol):
    """What holds connections, or a thread."""

    def before_fork(self) -> None:
        """Let go of what is not in use."""

    def after_fork(self) -> list[object]:
        """In the child: begin anew. Returns what must be kept untouched."""


_watched: "weakref.WeakSet[_Watched]" = weakref.WeakSet()
_open: "weakref.WeakSet[grpc.aio.Channel]" = weakref.WeakSet()
_lost: list[object] = []
"""In a child: channels of the parent that were open. To free them would call into gRPC."""


def watch(one: _Watched) -> None:
    """Have it told of forks, as long as it lives."""
    _watched.add(one)


def opened(channel: grpc.aio.Channel) -> None:
    """Know a channel as long as it is open."""
    _open.add(channel)


def check() -> None:
    """FailedPrecondition where gRPC cannot work in this process."""
    if _lost:
        raise FailedPrecondition(
            "this process was forked while a stream of its parent was running, and gRPC cannot go "
            "on in it; fork when none runs, or start processes with spawn"
        )


def _before() -> None:
    for one in list(_watched):
        one.before_fork()
    if any(_alive()):
        gc.collect()  # an error that somebody keeps may hold the last call, and that its channel


def _in_child() -> None:
    _lost.extend(_alive())
    kept = [part for one in list(_watched) for part in one.after_fork()]
    _lost.extend(kept if _lost else ())


def _alive() -> list[grpc.aio.Channel]:
    return list(_open)


os.register_at_fork(before=_before, after_in_child=_in_child)
