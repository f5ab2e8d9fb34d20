"""How far long work is: bars on a terminal, elsewhere a line now and then."""

from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

LINE_SECONDS = 10.0
"""Between lines."""


def progress(console: Console, *more: ProgressColumn) -> Progress:
    """Progress of several tasks. more: columns of the bars, the elapsed time unless given."""
    if not console.is_terminal:
        return Lines(console=console)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, *(more or (TimeElapsedColumn(),)), console=console)


class Lines(Progress):
    """A line when a task begins, one now and then, and one when it is done."""

    def __init__(self, **more: Any) -> None:
        """See Progress."""
        super().__init__(disable=True, auto_refresh=False, **more)
        self._told = 0.0
        self._done: set[TaskID] = set()

    def add_task(self, description: str, *args: Any, **more: Any) -> TaskID:
        """See Progress."""
        task = super().add_task(description, *args, **more)
        self._tell(task)
        return task

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """See Progress."""
        super().advance(task_id, advance)
        self._tell_now_and_then(task_id)

    def update(self, task_id: TaskID, **more: Any) -> None:
        """See Progress."""
        super().update(task_id, **more)
        self._tell_now_and_then(task_id)

    def _tell_now_and_then(self, task_id: TaskID) -> None:
        is_due = self.get_time() >= self._told + LINE_SECONDS
        if is_due or (self._tasks[task_id].finished and task_id not in self._done):
            self._tell(task_id)

    def _tell(self, task_id: TaskID) -> None:
        task = self._tasks[task_id]
        if task.finished:
            self._done.add(task_id)
        self._told = self.get_time()
        count = "" if task.total is None else f" {task.completed:.0f}/{task.total:.0f}"
        self.console.print(
            f"{task.description}{count}", markup=False, highlight=False, soft_wrap=True
        )
