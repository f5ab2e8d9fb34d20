"""What waits for one reader."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """Items in order, for one task that reads them: half of what asyncio.Queue costs."""

    def __init__(self) -> None:
        """Begin with none."""
        self._items: deque[Item] = deque()
        self._reader: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        """How many wait."""
        return len(self._items)

    def put(self, item: Item) -> None:
        """Add one; wakes the reader."""
        self._items.append(item)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def take_all(self) -> list[Item]:
        """Take what waits, which may be nothing."""
        items = list(self._items)
        self._items.clear()
        return items

    async def get(self) -> Item:
        """Take the first one, waited for."""
        while not self._items:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._items.popleft()
