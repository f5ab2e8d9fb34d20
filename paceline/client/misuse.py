"""What a client is used as and is not: said in words, in place of Python's TypeError."""

from typing import TYPE_CHECKING, NoReturn

from paceline.client.result import Result
from paceline.errors import FailedPrecondition

_ASYNC = "a Client is for async code: write {}, or use SyncClient"
_SYNC = "a SyncClient is for code without async: write {}, or use Client"
_OF_RESULT = {name for name in dir(Result) if not name.startswith("_")}


class NotInGeneration(FailedPrecondition, AttributeError):
    """What only the whole output has; an AttributeError too, so that hasattr says no."""


class NotPickled:
    """What is of its process: connections, a thread."""

    def __reduce__(self) -> NoReturn:
        raise FailedPrecondition(
            "neither a client nor its generation can be pickled or copied: "
            "make a client in each process, from its address"
        )


class AsyncOnly(NotPickled):
    """A client that is entered by async with."""

    def __enter__(self) -> NoReturn:
        raise FailedPrecondition(_ASYNC.format("async with"))

    def __exit__(self, *_: object) -> None:
        """Nothing was entered."""


class SyncOnly(NotPickled):
    """A client that is entered by with."""

    async def __aenter__(self) -> NoReturn:
        raise FailedPrecondition(_SYNC.format("with"))

    async def __aexit__(self, *_: object) -> None:
        """Nothing was entered."""


class ReadByAsyncFor(AsyncOnly):
    """A generation that is read by async for."""

    def __iter__(self) -> NoReturn:
        raise FailedPrecondition(_ASYNC.format("async for"))

    def __await__(self) -> NoReturn:
        raise FailedPrecondition("a generation is not awaited itself: write await ....result()")

    def __next__(self) -> NoReturn:
        raise FailedPrecondition(_ASYNC.format("anext(aiter(generation))"))

    def __anext__(self) -> NoReturn:
        raise FailedPrecondition("a generation is no iterator itself: write aiter(generation)")

    if not TYPE_CHECKING:  # mypy then knows what there is

        def __getattr__(self, name: str) -> NoReturn:
            _refuse(self, name, "await ....result()")


class ReadByFor(SyncOnly):
    """A generation that is read by for."""

    def __aiter__(self) -> NoReturn:
        raise FailedPrecondition(_SYNC.format("for"))

    def __await__(self) -> NoReturn:
        raise FailedPrecondition(_SYNC.format("....result() without await"))

    def __anext__(self) -> NoReturn:
        raise FailedPrecondition(_SYNC.format("next(iter(generation))"))

    def __next__(self) -> NoReturn:
        raise FailedPrecondition("a generation is no iterator itself: write iter(generation)")

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            _refuse(self, name, "....result()")


def _refuse(generation: object, name: str, write: str) -> NoReturn:
    if name in _OF_RESULT:
        raise NotInGeneration(f"{name} is of the whole output: write {write}.{name}")
    raise AttributeError(
        f"{type(generation).__name__!r} object has no attribute {name!r}",
        name=name,
        obj=generation,
    )
