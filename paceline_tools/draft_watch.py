"""Which drafts of a deployment just started are used, and why others are not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from paceline.protocol.status import DraftPoolStatus, PoolState, Role, Status

_NOT_FITTING = {PoolState.UNREACHABLE, PoolState.WRONG_VOCABULARY}
ADVICE = "take a draft with the target's tokenizer, of the same model family"


@dataclass(frozen=True, slots=True)
class DraftNews:
    """Whether a pool is used, and a line that says so, and why not."""

    pool: str
    used: bool
    text: str


class DraftWatch:
    """Learns of each pool once whether it is used. pools: names of its servers, by pool."""

    def __init__(self, pools: Mapping[str, Iterable[str]]) -> None:
        """Know of none yet."""
        self._pools = {pool: set(servers) for pool, servers in pools.items()}
        self._told: set[str] = set()
        self._ended: set[str] = set()

    @property
    def done(self) -> bool:
        """Whether all is known."""
        return self._told == self._pools.keys()

    def tells_end_of(self, server: str) -> bool:
        """Whether `look` says that a server ended, or has: that of a draft nothing was said of."""
        untold = [servers for name, servers in self._pools.items() if name not in self._told]
        return server in self._ended.union(*untold)

    def look(self, status: Status, drafts: int, ended: Mapping[str, str]) -> list[DraftNews]:
        """What is new. drafts: that fit a model. ended: how servers ended, by name."""
        pools = {pool.name: pool for pool in status.draft_pools}
        ready = [pool for pool in pools.values() if pool.state not in _NOT_FITTING]
        compared = drafts >= sum(pool.replicas_ready for pool in ready)
        news = []
        for name, servers in self._pools.items():
            if name in self._told:
                continue
            found = _ended(name, servers, ended)
            if found is not None:
                self._ended |= servers
            else:
                found = _settled(pools.get(name), status, compared)
            if found is not None:
                self._told.add(name)
                news.append(found)
        return news


def _ended(pool: str, servers: set[str], ended: Mapping[str, str]) -> DraftNews | None:
    if not servers <= ended.keys():
        return None
    how = ended[max(servers)].removeprefix("the ")
    return _unused(pool, how)


def _settled(pool: DraftPoolStatus | None, status: Status, compared: bool) -> DraftNews | None:
    """compared: whether all drafts that are ready fit a target."""
    if pool is None or pool.state is PoolState.UNREACHABLE:
        return None
    if pool.state is PoolState.WRONG_VOCABULARY:
        return _unused(pool.name, f"{pool.reason}; {ADVICE}")
    if pool.state is PoolState.BENCHED:
        return _unused(pool.name, pool.reason)
    if not compared:
        return None
    notes = {one.vocabulary for one in status.of(Role.DRAFT) if one.pool == pool.name} - {""}
    text = f"{_named(pool.name)} is used"
    if notes:
        text += f"; of the target's vocabulary: {min(notes)}; others are never drafted"
    return DraftNews(pool.name, used=True, text=text)


def _named(pool: str) -> str:
    return "the draft" if pool == "draft" else f"the draft {pool}"


def _unused(pool: str, why: str) -> DraftNews:
    text = f"{_named(pool)} is not used, the target works without it: {why}"
    return DraftNews(pool, used=False, text=text)
