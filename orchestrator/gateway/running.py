"""The calls of gateways that run, to be ended by their ids.

Ids of requests come from clients and are not unique: a client that sent another's id must not end
its stream. So Abort ends a call only where one alone has the id, and came over the connection that
Abort came over. Others end when the gateway cancels them, half a minute later.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, TypeAlias

from paceline.errors import Cancelled, Internal

Task: TypeAlias = "asyncio.Task[Any]"
Key = tuple[str, str]
"""Peer and request id."""


class RunningCalls:
    """By peer and request id."""

    def __init__(self) -> None:
        """None runs."""
        self._tasks: defaultdict[Key, set[Task]] = defaultdict(set)
        self._aborted: set[Task] = set()

    def __len__(self) -> int:
        """How many run."""
        return sum(map(len, self._tasks.values()))

    @contextlib.contextmanager
    def run(self, key: Key) -> Iterator[None]:
        """The current task is a call while the context lasts; raises Cancelled when aborted."""
        task = asyncio.current_task()
        if task is None:
            raise Internal("a call runs in no task")
        self._tasks[key].add(task)
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._aborted:
                raise
            task.uncancel()
            raise Cancelled("the gateway aborted the call") from None
        finally:
            self._aborted.discard(task)
            self._tasks[key].discard(task)
            if not self._tasks[key]:
                del self._tasks[key]

    def abort(self, key: Key) -> None:
        """End the call with that id, where there is just one."""
        tasks = self._tasks.get(key, set())
        if len(tasks) == 1:
            [task] = tasks
            self._aborted.add(task)
            task.cancel()
