"""Values that are made for each verdict or token: dataclasses that cost little to make.

value(frozen=True, slots=True) is such a dataclass to type checkers, who see that nobody writes to
one; while the program runs nothing guards it, as that makes each field four times as slow to set.
"""

import dataclasses
import enum
from typing import TYPE_CHECKING, Any

__all__ = ["Name", "value"]

if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:

    def value(*, frozen: bool, slots: bool, kw_only: bool = False) -> Any:
        """A decorator."""
        return dataclasses.dataclass(unsafe_hash=frozen, slots=slots, kw_only=kw_only)


class Name(enum.Enum):
    """Names that are looked up for each token: hashed as the objects they are, in C."""

    __hash__ = object.__hash__
