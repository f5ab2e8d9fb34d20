"""What the target decides, as plain values."""

from dataclasses import dataclass, field, replace

from paceline.protocol.proposal import Proposal
from paceline.protocol.session import CostModel, Load
from paceline.values import Name, value


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token that could have been there. text: taken alone, for clients only."""

    token_id: int
    logprob: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log-softmax of the target's raw logits at one position: the token there, and the best."""

    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptLogprobs:
    """Logprobs of the prompt's tokens from `position` on; position 0 has none."""

    position: int
    tokens: tuple[TokenLogprobs, ...]


@value(frozen=True, slots=True)
class Verify:
    """One step asked of the target, then `continue_steps` ordinary ones.

    branches: verified in the same step, each for the case that the target rejects the draft token
    at its position.
    """

    proposal: Proposal | None = None
    continue_steps: int = 0
    branches: tuple[Proposal, ...] = ()


@value(frozen=True, slots=True)
class Verdict:
    """The outcome of one step: accepted tokens, those accepted of a branch, then the target's own.

    branch_verified: draft tokens of branches, which are not in verified; branch_accepted: of the
    branch that the target took. The target's own token is absent only when an accepted token ended
    the output. logprobs: of
    each token, when asked for. cached_tokens: of the prompt, that needed no prefill; on the first
    verdict only. waited_seconds: for KV, since the verdict before.
    """

    position: int
    token_ids: tuple[int, ...]
    verified: int = 0
    accepted: int = 0
    step_seconds: float = 0.0
    load: Load = field(default_factory=Load)
    cost_model: CostModel | None = None
    logprobs: tuple[TokenLogprobs, ...] = ()
    cached_tokens: int = 0
    sampling_seconds: float = 0.0
    queue_seconds: float = 0.0
    waited_seconds: float = 0.0
    branch_verified: int = 0
    branch_accepted: int = 0

    def head(self, count: int) -> "Verdict":
        """As if it had decided only the first `count` of its tokens: those behind do not count."""
        if count == len(self.token_ids):
            return self
        return replace(
            self,
            token_ids=self.token_ids[:count],
            verified=min(self.verified, count),
            accepted=min(self.accepted, count),
            branch_accepted=max(0, min(self.branch_accepted, count - self.accepted)),
            logprobs=self.logprobs[:count],
        )

    def origins(self) -> "tuple[Origin, ...]":
        """Where each of token_ids came from."""
        drafted = self.accepted + self.branch_accepted
        own = len(self.token_ids) - drafted
        return (Origin.ACCEPTED,) * drafted + (self._own_origin,) * own

    @property
    def _own_origin(self) -> "Origin":
        if not self.verified:
            return Origin.TARGET_ONLY
        return Origin.BONUS if self.accepted == self.verified else Origin.RECOVERED


@value(frozen=True, slots=True)
class TimedVerdict:
    """A verdict, and the times that only its receiver knows.

    arrived_seconds: when it came. asked_seconds: when its step was asked for, on the same clock.
    codec_seconds: what the messages took to encode and decode.
    """

    verdict: Verdict
    arrived_seconds: float = 0.0
    asked_seconds: float = 0.0
    codec_seconds: float = 0.0

    @property
    def answer_seconds(self) -> float:
        """From the request to the arrival."""
        return self.arrived_seconds - self.asked_seconds

    def head(self, count: int) -> "TimedVerdict":
        """See Verdict."""
        if count == len(self.verdict.token_ids):
            return self
        return replace(self, verdict=self.verdict.head(count))


class Origin(Name):
    """Where a token came from."""

    ACCEPTED = "accepted"
    RECOVERED = "recovered"
    BONUS = "bonus"
    TARGET_ONLY = "target-only"
