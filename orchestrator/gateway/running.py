"""The calls of gateways that run, to be ended by their ids.

Ids of requests come from clients and are not unique: a client that sent another's id must not end
its stream. So Abort ends a call only where one alone has the id, and came over the connection that
Abort came over. Others end when the gateway cancels them, half a minute later.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from typing import TypeAlias

from orchestrator.serving.event_buffer import EventBuffer
from paceline.errors import Cancelled

Key: TypeAlias = tuple[str, str]
"""Peer and request id."""


class RunningCalls:
    """Their event buffers, by peer and request id."""

    def __init__(self) -> None:
        """None runs."""
        self._calls: defaultdict[Key, set[EventBuffer]] = defaultdict(set)

    def __len__(self) -> int:
        """How many run."""
        return sum(map(len, self._calls.values()))

    @contextlib.contextmanager
    def run(self, key: Key, event_buffer: EventBuffer) -> Iterator[None]:
        """A call runs while the context lasts."""
        self._calls[key].add(event_buffer)
        try:
            yield
        finally:
            self._calls[key].discard(event_buffer)
            if not self._calls[key]:
                del self._calls[key]

    def abort(self, key: Key) -> None:
        """End the call with that id, where there is just one."""
        calls = self._calls.get(key, set())
        if len(calls) == 1:
            [event_buffer] = calls
            event_buffer.abort(Cancelled("the gateway aborted the call"))
