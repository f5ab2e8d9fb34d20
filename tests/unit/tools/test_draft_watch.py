"""Of each draft it is said once whether it is used, and why not."""

from typing import Any

from paceline.machine import describe_machine
from paceline.protocol.model import ModelInfo
from paceline.protocol.session import Load
from paceline.protocol.status import DraftPoolStatus, PoolState, Role, Server, Status
from paceline_tools.draft_watch import DraftWatch

MODEL = ModelInfo("m", "f", "v", 8, 8, (), 1, True, "host")


def server(role: Role, **more: Any) -> Server:
    return Server(role, "a:1", True, "", MODEL, Load(), False, None, 0.0, 0.0, **more)


def status(*pools: DraftPoolStatus, servers: tuple[Server, ...] = ()) -> Status:
    return Status(describe_machine(), (server(Role.TARGET), *servers), draft_pools=pools)


def pool(name: str, state: PoolState, reason: str = "", ready: int = 1) -> DraftPoolStatus:
    return DraftPoolStatus(name, replicas=1, replicas_ready=ready, state=state, reason=reason)


LOADING = pool("draft", PoolState.UNREACHABLE, "none of 1 servers is ready", ready=0)


def test_one_that_loads_is_waited_for_and_then_used() -> None:
    watch = DraftWatch({"draft": ["draft"]})
    assert watch.look(status(LOADING), 0, {}) == []
    used = pool("draft", PoolState.STANDBY)
    assert watch.look(status(used), 0, {}) == []  # not compared yet
    [news] = watch.look(status(used), 1, {})
    assert (news.used, news.text) == (True, "the draft is used")
    assert watch.done
    assert watch.look(status(used), 1, {}) == []


def test_one_that_stopped_is_told_once_with_its_reason() -> None:
    watch = DraftWatch({"draft": ["draft"]})
    ended = {"draft": "the draft stopped: ./nope does not exist"}
    [news] = watch.look(status(LOADING), 0, ended)
    assert not news.used
    assert news.text == (
        "the draft is not used, the target works without it: draft stopped: ./nope does not exist"
    )
    assert watch.look(status(LOADING), 0, ended) == []


def test_of_a_pool_one_server_that_loads_is_enough() -> None:
    watch = DraftWatch({"small": ["draft small-1", "draft small-2"]})
    small = pool("small", PoolState.STANDBY)
    [news] = watch.look(status(small), 1, {"draft small-1": "the draft small-1 stopped: x"})
    assert (news.used, news.text) == (True, "the draft small is used")


def test_a_vocabulary_of_its_own_is_named_with_what_to_do() -> None:
    watch = DraftWatch({"a": ["draft a"], "b": ["draft b"]})
    wrong = pool("a", PoolState.WRONG_VOCABULARY, "its vocabulary is not the target's: 3 of 9")
    [a, b] = watch.look(status(wrong, pool("b", PoolState.IN_USE)), 1, {})
    assert a.text == (
        "the draft a is not used, the target works without it: its vocabulary is not the "
        "target's: 3 of 9; take a draft with the target's tokenizer, of the same model family"
    )
    assert (b.used, b.text) == (True, "the draft b is used")


def test_what_it_lacks_of_a_vocabulary_is_said() -> None:
    watch = DraftWatch({"draft": ["draft"]})
    drafts = (server(Role.DRAFT, pool="draft", vocabulary="8 of 9 tokens"),)
    [news] = watch.look(status(pool("draft", PoolState.IN_USE), servers=drafts), 1, {})
    assert news.text == (
        "the draft is used; of the target's vocabulary: 8 of 9 tokens; others are never drafted"
    )


def test_one_that_broke_the_contract_is_not_used() -> None:
    watch = DraftWatch({"draft": ["draft"]})
    [news] = watch.look(status(pool("draft", PoolState.BENCHED, "it broke the contract")), 1, {})
    assert news.text == (
        "the draft is not used, the target works without it: it broke the contract"
    )
