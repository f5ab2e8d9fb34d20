"""How many of a model's weights transformers has read, by its own progress bar."""

import contextlib
from collections.abc import Callable, Iterator, Sized
from typing import Any

from transformers.utils import logging

from paceline.engine.load_progress import counted


class _Bar:
    """What transformers takes for tqdm: counts what is updated, or iterated over."""

    def __init__(self, items: Any = None, total: int | None = None, **_: Any) -> None:
        self._items = items
        total = len(items) if total is None and isinstance(items, Sized) else total
        self._advance = counted("reading weights", total, "parts") if total else None

    def update(self, count: float | None = 1) -> None:
        """So many more."""
        if self._advance is not None:
            self._advance(int(count or 0))

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            yield item
            self.update()

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is drawn."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_, **__: None


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Log it, instead of drawing a bar."""

    def bar(_: Callable[..., Any], arguments: tuple[Any, ...], more: dict[str, Any]) -> _Bar:
        return _Bar(*arguments[:1], **more)

    before = logging.set_tqdm_hook(bar)
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)
