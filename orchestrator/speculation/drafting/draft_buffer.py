"""Draft tokens that came and that the target has not verified yet. Pure."""

from itertools import islice

from orchestrator.speculation.pacing.plan import KnownBranch
from paceline.protocol.draft_path import DraftPath
from paceline.protocol.hashing import mix
from paceline.protocol.proposal import DraftToken, End, Proposal, continued, end_of
from paceline.values import value

MAX_BRANCH_TOKENS = 96
"""Most that are kept beside the draft tokens: twice what a draft makes, some of it late."""

REMEMBERED_TOKENS = 1024
"""Draft tokens that are recognised when they come again: far more than come between a branch and
the news that the target took it."""


@value(frozen=True, slots=True)
class Offer:
    """What a round verifies: a proposal, which may be empty, and branches of it."""

    proposal: Proposal
    branches: tuple[Proposal, ...] = ()


class ReceivedTokens:
    """Draft tokens that came, each by the digest of the path that ends with it.

    A draft sends a branch again as draft tokens once the target has picked it, for a buffer that
    had no room for it.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._digests: dict[int, None] = {}  # the oldest first

    def knows(self, digest: int) -> bool:
        """Whether the path with this digest is one that came."""
        return digest in self._digests

    def add(self, proposal: Proposal) -> int:
        """Take all of `proposal`; returns how many of its tokens had not come before."""
        before, digest = len(self._digests), proposal.base_digest
        for token in proposal.token_ids:
            digest = mix(digest, token)
            self._digests.setdefault(digest)
        new = len(self._digests) - before
        if (too_many := before + new - REMEMBERED_TOKENS) > 0:
            for oldest in list(islice(self._digests, too_many)):
                del self._digests[oldest]
        return new


class Branches:
    """Runs of draft tokens that begin on a path, among its draft tokens, and leave it."""

    def __init__(self) -> None:
        """Begin with none."""
        self._runs: dict[End, Proposal] = {}  # by their ends, in the order they came
        self._tokens = 0

    def add(self, proposal: Proposal, path: DraftPath) -> None:
        """Keep one that leaves the path, or continues one that does; there is a bound."""
        size = self._tokens + len(proposal.token_ids)
        if not proposal.token_ids or size > MAX_BRANCH_TOKENS:
            return
        begin = (proposal.position, proposal.base_digest, proposal.drafter)
        run = self._runs.pop(begin, None)
        if run is not None:
            self._runs[end_of(proposal)] = continued(run, proposal)
        elif path.committed <= proposal.position < len(path) and path.leads_to(proposal):
            self._runs[end_of(proposal)] = proposal
        else:
            return
        self._tokens = sum(len(run.token_ids) for run in self._runs.values())

    def at(self, position: int) -> tuple[DraftToken, ...]:
        """The first one kept that begins at `position`; empty where none does."""
        found = (run for run in self._runs.values() if run.position == position)
        run = next(found, None)
        return () if run is None else _draft_tokens(run)

    def forget(self, position: int) -> None:
        """Drop what begins before `position`: something else was decided there."""
        self._runs = {end: run for end, run in self._runs.items() if run.position >= position}
        self._tokens = sum(len(run.token_ids) for run in self._runs.values())

    def take_all(self) -> list[Proposal]:
        """All of them, which are no longer kept."""
        runs, self._runs, self._tokens = list(self._runs.values()), {}, 0
        return runs


class ProposalBuffer:
    """Draft tokens that lie on the committed tokens, in order, ready to be verified."""

    def __init__(self, committed: tuple[int, ...], vocabulary_size: int) -> None:
        """Begin at the end of `committed`; ids of vocabulary_size and over are never kept."""
        self._path = DraftPath(committed)
        self._vocabulary_size = vocabulary_size
        self._draft_tokens: list[DraftToken] = []
        self._branches = Branches()
        self.taken = 0

    def __len__(self) -> int:
        """Tokens that are ready."""
        return len(self._draft_tokens)

    @property
    def end(self) -> int:
        """The position behind the last token that is ready."""
        return len(self._path.tokens)

    @property
    def draft_tokens(self) -> list[DraftToken]:
        """The tokens that are ready."""
        return self._draft_tokens

    @property
    def last(self) -> int | None:
        """The last token that is ready."""
        return self._draft_tokens[-1].id if self._draft_tokens else None

    def add(self, proposal: Proposal) -> int:
        """Take what of `proposal` continues the draft tokens; returns how many tokens that is.

        A proposal off the path, made before the draft knew of a rejection, adds nothing.
        """
        if max(proposal.token_ids, default=-1) >= self._vocabulary_size:
            return 0
        tokens = self._path.remainder(proposal)
        if not tokens:
            self._branches.add(proposal, self._path)
            return 0
        self._path.extend(tokens)
        self._draft_tokens += _draft_tokens(proposal)[-len(tokens) :]
        return len(tokens)

    def has(self, proposal: Proposal) -> bool:
        """Whether all of `proposal` is here or decided already."""
        position, tokens = proposal.position, list(proposal.token_ids)
        here = self._path.tokens[position : position + len(tokens)] == tokens
        return here and self._path.digest_before(position) == proposal.base_digest

    def leads_to(self, proposal: Proposal) -> bool:
        """Whether `proposal` begins on the path."""
        return self._path.leads_to(proposal)

    def ends_at(self, proposal: Proposal) -> bool:
        """Whether `proposal` begins just behind what is here."""
        return proposal.position == len(self._path) and proposal.base_digest == self._path.digest

    def commit(self, tokens: tuple[int, ...]) -> bool:
        """Commit tokens the target decided; draft tokens that differ go, with all behind them.

        What was a branch to them until now may follow the path, and is ready then.
        Returns whether none differed.
        """
        length = len(self._path)
        stayed = self._path.commit(tokens) == length
        ready = len(self._path) - self._path.committed
        self._draft_tokens = self._draft_tokens[-ready:] if ready else []
        if stayed:
            self._branches.forget(self._path.committed)
        else:
            self.taken += sum(self.add(one) > 0 for one in self._branches.take_all())
        return stayed

    def branches(self, length: int) -> list[KnownBranch]:
        """What is known to come in place of each of the first `length` draft tokens.

        What the draft has gone on with, else its second-best token alone.
        """
        found: list[KnownBranch] = []
        for index, token in enumerate(self._draft_tokens[:length]):
            tokens = self._branches.at(self._path.committed + index) or _second_best(token)
            if tokens and tokens[0].id < self._vocabulary_size:
                found.append(KnownBranch(index, tokens))
        return found

    def branch_proposal(self, branch: KnownBranch) -> Proposal:
        """To be verified beside the draft tokens."""
        position = self._path.committed + branch.draft_position
        tokens = tuple(token.id for token in branch.tokens)
        return Proposal(position, self._path.digest_before(position), tokens)

    def offer(self, at_most: int) -> Proposal:
        """The first `at_most` tokens as a proposal, which may be empty. They stay in the buffer."""
        start = self._path.committed
        return Proposal(
            position=start,
            base_digest=self._path.digest_before(start),
            token_ids=tuple(self._path.tokens[start : start + at_most]),
            confidences=tuple([one.confidence for one in self._draft_tokens[:at_most]]),
        )


def _draft_tokens(proposal: Proposal) -> tuple[DraftToken, ...]:
    """What is said of each of its tokens."""
    tokens, drafter = proposal.token_ids, proposal.drafter
    missing = len(tokens) - len(proposal.confidences)
    confidences = proposal.confidences + (0.0,) * missing
    if not proposal.second_token_ids:
        pairs = zip(tokens, confidences, strict=True)
        return tuple([DraftToken(token, confidence, drafter) for token, confidence in pairs])
    seconds = zip(tokens, confidences, proposal.second_token_ids, strict=True)
    return tuple(
        [
            DraftToken(token, confidence, drafter, None if second == token else second)
            for token, confidence, second in seconds
        ]
    )


def _second_best(token: DraftToken) -> tuple[DraftToken, ...]:
    """As a branch of one token."""
    return () if token.second is None else (DraftToken(token.second),)
