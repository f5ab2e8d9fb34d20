"""Pages of KV are promised, and sessions take turns."""

import pytest

from paceline.engine.core.admission import Admission
from paceline.engine.session import EngineSession
from paceline.errors import InvalidArgument, ResourceExhausted
from paceline.protocol.model import KVSize


def session(pages: int, priority: int = 0) -> EngineSession:
    return EngineSession(None, None, pages, None, None, priority, lambda: True)  # type: ignore[arg-type]


def test_pages_are_promised_and_can_be_had_again() -> None:
    admission: Admission[EngineSession] = Admission(KVSize(16, 4, 1))
    assert admission.pages_for(48, resumes=False) == 3
    admission.add(first := session(3))
    with pytest.raises(ResourceExhausted, match="1 pages needed, 0 free"):
        admission.pages_for(16, resumes=False)
    assert admission.pages_for(16, resumes=True) == 1
    with pytest.raises(InvalidArgument, match="at most 48"):
        admission.check_length(49, resumes=False)
    first.closed = True
    assert admission.remove_closed() == [first]
    assert (admission.pages_used, admission.free_pages, admission.sessions) == (0, 4, [])


def test_priority_goes_first_and_equals_take_turns() -> None:
    admission: Admission[EngineSession] = Admission(KVSize(16, 64))
    low, first, second = session(1, -1), session(1), session(1)
    for one in (low, first, second):
        admission.add(one)
    assert admission.by_precedence() == [first, second, low]
    admission.served([first])
    assert admission.by_precedence() == [second, first, low]
