"""What every registered drafter promises, on a table model. One passes by being registered."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from draft_server.drafters.base import DraftContext, StreamDrafter
from draft_server.drafters.registry import DRAFTERS
from draft_server.prompt_lookup import RecentOutputs
from paceline.errors import PacelineError, Unavailable
from paceline.protocol.advance import Advance
from paceline.protocol.proposal import Drafter, Proposal
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Opening
from paceline.protocol.token_path import TokenPath
from tests.strategies import sampling_params
from tests.table_model import TableRunner
from tests.unit.draft_server.stepped_engine import SteppedEngine, context

VOCABULARY = 3
MOST_STEPS = 200
"""More than all branches and draft tokens take that are granted at a time."""
Path = tuple[int, ...]

tokens = st.lists(st.integers(0, VOCABULARY - 1), max_size=3).map(tuple)
prompts = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=12).map(tuple)
grants = st.builds(
    Advance,
    st.just(0),
    st.just(()),
    lookahead=st.integers(0, 6),
    ngram_lookahead=st.integers(0, 9),
    awaited=st.integers(0, 3),
    branches=st.integers(0, 3),
)


class Receiver:
    """What the other end knows of a stream; it checks each proposal as it comes."""

    def __init__(self, opening: Opening) -> None:
        self.opening = opening
        self.committed: Path = opening.prompt_token_ids + opening.output_token_ids
        self.path = self.committed  # with the draft tokens
        self.branches: set[Path] = set()
        self.granted = Advance(len(self.committed), (), 0)
        self.before_step = self.granted  # a step that was begun is completed
        self.said_nothing_comes = False
        self.error: PacelineError | None = None

    def advance(self, decided: Path, granted: Advance) -> Advance:
        advance = replace(granted, position=len(self.committed), token_ids=decided)
        self.committed += decided
        if self.path[: len(self.committed)] != self.committed:
            self.path = self.committed
        self.branches = {one for one in self.branches if begins_with(one, self.committed)}
        self.granted, self.said_nothing_comes = advance, False
        return advance

    def deliver(self, item: Proposal | PacelineError) -> None:
        assert self.error is None, "an error is the last thing"
        if isinstance(item, PacelineError):
            self.error = item
            return
        assert not self.said_nothing_comes, "nothing was to come before the next Advance"
        assert len(item.confidences) == len(item.token_ids)
        if not item.token_ids:
            assert self.is_at_the_end(item)
            self.said_nothing_comes = True
            return
        base = self.path if self.is_at_the_end(item) else self.base_of_branch(item)
        self.check_ends(base, item.token_ids)
        whole = base + item.token_ids
        if base != self.path:
            self.branches.add(whole)
            return
        self.path = whole
        if whole not in self.branches:  # what is known already may be sent again
            allowed = max(lookahead(one, item.drafter) for one in (self.before_step, self.granted))
            assert len(whole) - len(self.committed) <= allowed

    def is_at_the_end(self, proposal: Proposal) -> bool:
        return leads_to(self.path, proposal) and proposal.position == len(self.path)

    def base_of_branch(self, proposal: Proposal) -> Path:
        """What a branch begins behind: draft tokens that it differs from, or its known tokens."""
        assert self.before_step.branches
        continued = [one for one in self.branches if len(one) == proposal.position]
        for base in continued:
            if leads_to(base, proposal):
                return base
        assert len(self.committed) <= proposal.position < len(self.path)
        assert leads_to(self.path, proposal)
        assert proposal.token_ids[0] != self.path[proposal.position]
        return self.path[: proposal.position]

    def check_ends(self, base: Path, drafted: Path) -> None:
        has_output = len(base) > len(self.opening.prompt_token_ids)
        followed = (*base[-has_output:], *drafted[:-1]) if has_output else drafted[:-1]
        assert not set(followed) & self.opening.stop_token_ids, "nothing follows a stop token"
        assert len(base) + len(drafted) < self.opening.max_length, "the last token is the target's"

    @property
    def has_all(self) -> bool:
        """Whether all came that was granted: up to the lookahead, a stop token or the end."""
        stopped = (
            len(self.path) > len(self.opening.prompt_token_ids)
            and self.path[-1] in self.opening.stop_token_ids
        )
        room = self.opening.max_length - 1 - len(self.committed)
        drafted = len(self.path) - len(self.committed)
        return stopped or drafted >= min(room, self.granted.lookahead)


def lookahead(granted: Advance, drafter: Drafter) -> int:
    of_lookup = max(granted.lookahead, granted.ngram_lookahead)
    return of_lookup if drafter is Drafter.NGRAM else granted.lookahead


def begins_with(path: Path, start: Path) -> bool:
    return len(path) > len(start) and path[: len(start)] == start


def leads_to(path: Path, proposal: Proposal) -> bool:
    return TokenPath(path[: proposal.position]).digest == proposal.base_digest


class DrafterMachine(RuleBasedStateMachine):
    """A target that takes draft tokens, branches or neither, between steps and while they run."""

    make: Callable[[DraftContext], StreamDrafter]

    @initialize(
        prompt=prompts,
        output=tokens,
        sampling=sampling_params(VOCABULARY),
        max_tokens=st.integers(1, 30),
        stop=st.sampled_from([frozenset[int](), frozenset({0})]),
        recent=st.lists(prompts, max_size=2),
    )
    def open(
        self,
        prompt: Path,
        output: Path,
        sampling: SamplingParams,
        max_tokens: int,
        stop: frozenset[int],
        recent: list[Path],
    ) -> None:
        begun = () if stop & {*output} else output[: max_tokens - 1]
        opening = Opening("test", prompt, sampling, 7, max_tokens, begun, stop)
        outputs = RecentOutputs()
        for one in recent:
            outputs.add("", one)
        self.engine = SteppedEngine(TableRunner(VOCABULARY, order=2))
        self.receiver = Receiver(opening)
        made_from = context(opening, self.receiver.deliver, self.engine, outputs)
        self.drafter = type(self).make(made_from)
        self.session = self.engine.open(self.drafter)

    def send(self, decided: Path, granted: Advance) -> None:
        room = self.receiver.opening.max_length - 1 - len(self.receiver.committed)
        self.drafter.advance(self.receiver.advance(decided[: max(room, 0)], granted))

    @rule(count=st.integers(0, 4), granted=grants)
    def take_draft_tokens(self, count: int, granted: Advance) -> None:
        receiver = self.receiver
        self.send(receiver.path[len(receiver.committed) :][:count], granted)

    @rule(decided=tokens, granted=grants)
    def take_anything(self, decided: Path, granted: Advance) -> None:
        self.send(decided, granted)

    @precondition(lambda self: self.receiver.branches)
    @rule(count=st.integers(1, 4), granted=grants, data=st.data())
    def take_a_branch(self, count: int, granted: Advance, data: st.DataObject) -> None:
        branch = data.draw(st.sampled_from(sorted(self.receiver.branches)))
        forks = common(branch, self.receiver.path)
        self.send(branch[len(self.receiver.committed) : forks + count], granted)

    @rule(longest=st.sampled_from([1, 3, 1000]), turned=st.booleans())
    def step(self, longest: int, turned: bool) -> None:
        self.receiver.before_step = self.receiver.granted
        self.engine.step(longest, turned=turned)
        self.check_kept()

    @rule(decided=tokens, granted=grants)
    def step_while_committing(self, decided: Path, granted: Advance) -> None:
        self.receiver.before_step = self.receiver.granted
        self.engine.step(meanwhile=lambda: self.send(decided, granted))

    @rule()
    def have_all(self) -> None:
        """Step until nobody wants to: what was granted is there, or it was said that it is not."""
        self.receiver.before_step = self.receiver.granted
        for _ in range(MOST_STEPS):
            if not self.engine.step():
                break
        else:
            raise AssertionError("it goes on without an end")
        assert self.receiver.has_all or self.receiver.said_nothing_comes
        ahead = self.drafter.ahead
        assert tuple(ahead.tokens) == self.receiver.path
        assert tuple(ahead.committed) == self.receiver.committed

    def check_kept(self) -> None:
        """What others may share of KV is what KV has."""
        for session in self.engine.sessions:
            cached = session.cache.tokens
            kept = list(session.decoder.kept(len(cached)))
            assert kept == cached[: len(kept)]

    def teardown(self) -> None:
        """The engine fails its session: that is said once, and nothing comes later or is left."""
        if not hasattr(self, "drafter"):
            return
        error = Unavailable("the engine has stopped")
        self.drafter.fail(error)
        assert self.receiver.error is error
        self.send((), replace(self.receiver.granted, lookahead=4))
        self.drafter.close()
        assert self.engine.sessions == [self.session]


def common(one: Path, other: Path) -> int:
    """How many leading tokens are the same."""
    pairs = zip(one, other, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


@pytest.mark.parametrize("name", DRAFTERS)
def test_a_drafter_keeps_its_promises(name: str) -> None:
    class Machine(DrafterMachine):
        make = staticmethod(DRAFTERS[name].load())

    run_state_machine_as_test(Machine)
