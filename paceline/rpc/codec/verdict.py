"""Protobuf messages to and from the values of protocol.verdict: pure, one pair a message."""

from paceline.protocol.limits import check_branches, check_token_ids
from paceline.protocol.session import CostModel
from paceline.protocol.verdict import PromptLogprobs, TokenLogprob, TokenLogprobs, Verdict, Verify
from paceline.rpc.codec.proposal import fill_proposal, proposal_from_proto
from paceline.rpc.codec.session import load_from_proto, load_to_proto
from paceline.v1 import session_pb2, target_pb2


def logprobs_to_proto(logprobs: TokenLogprobs) -> session_pb2.TokenLogprobs:
    """paceline.v1.TokenLogprobs."""
    return session_pb2.TokenLogprobs(
        logprob=logprobs.logprob,
        top=[
            session_pb2.TokenLogprob(token_id=one.token_id, logprob=one.logprob, text=one.text)
            for one in logprobs.top
        ],
    )


def logprobs_from_proto(message: session_pb2.TokenLogprobs) -> TokenLogprobs:
    """paceline.v1.TokenLogprobs."""
    top = (TokenLogprob(one.token_id, one.logprob, one.text) for one in message.top)
    return TokenLogprobs(message.logprob, tuple(top))


def prompt_logprobs_to_proto(piece: PromptLogprobs) -> session_pb2.PromptLogprobs:
    """paceline.v1.PromptLogprobs."""
    tokens = [logprobs_to_proto(token) for token in piece.tokens]
    return session_pb2.PromptLogprobs(position=piece.position, tokens=tokens)


def prompt_logprobs_from_proto(message: session_pb2.PromptLogprobs) -> PromptLogprobs:
    """paceline.v1.PromptLogprobs."""
    tokens = tuple(logprobs_from_proto(token) for token in message.tokens)
    return PromptLogprobs(message.position, tokens)


def verify_to_proto(verify: Verify) -> target_pb2.Verify:
    """paceline.v1.Verify."""
    message = target_pb2.Verify()
    fill_verify(message, verify)
    return message


def fill_verify(message: target_pb2.Verify, verify: Verify) -> None:
    """In its place in another message: see fill_proposal."""
    message.SetInParent()
    message.continue_steps = verify.continue_steps
    if verify.proposal is not None:
        fill_proposal(message.proposal, verify.proposal)
    for branch in verify.branches:
        fill_proposal(message.branches.add(), branch)


def verify_from_proto(message: target_pb2.Verify, vocabulary_size: int) -> Verify:
    """Checked: InvalidArgument for an id outside the vocabulary, or too many branches."""
    if not message.HasField("proposal"):
        return Verify(None, message.continue_steps)
    proposal = proposal_from_proto(message.proposal)
    check_token_ids("verify.proposal", proposal.token_ids, vocabulary_size)
    check_branches("verify.branches", len(message.branches))
    branches = tuple(proposal_from_proto(branch) for branch in message.branches)
    for branch in branches:
        check_token_ids("verify.branches", branch.token_ids, vocabulary_size)
    return Verify(proposal, message.continue_steps, branches)


def verdict_to_proto(verdict: Verdict) -> target_pb2.Verdict:
    """paceline.v1.Verdict."""
    return target_pb2.Verdict(
        position=verdict.position,
        verified=verdict.verified,
        accepted=verdict.accepted,
        token_ids=verdict.token_ids,
        step_seconds=verdict.step_seconds,
        load=load_to_proto(verdict.load),
        cost_model=_cost_to_proto(verdict.cost_model) if verdict.cost_model else None,
        logprobs=[logprobs_to_proto(token) for token in verdict.logprobs],
        cached_tokens=verdict.cached_tokens,
        sampling_seconds=verdict.sampling_seconds,
        queue_seconds=verdict.queue_seconds,
        waited_seconds=verdict.waited_seconds,
        branch_verified=verdict.branch_verified,
        branch_accepted=verdict.branch_accepted,
    )


def _cost_to_proto(cost: CostModel) -> session_pb2.CostModel:
    return session_pb2.CostModel(
        step_seconds=cost.step_seconds,
        token_seconds=cost.token_seconds,
        branch_seconds=cost.branch_seconds,
    )


def _cost_from_proto(message: session_pb2.CostModel) -> CostModel:
    return CostModel(message.step_seconds, message.token_seconds, message.branch_seconds)


def verdict_from_proto(message: target_pb2.Verdict) -> Verdict:
    """paceline.v1.Verdict."""
    return Verdict(
        position=message.position,
        token_ids=tuple(message.token_ids),
        verified=message.verified,
        accepted=message.accepted,
        step_seconds=message.step_seconds,
        load=load_from_proto(message.load),
        cost_model=_cost_from_proto(message.cost_model) if message.HasField("cost_model") else None,
        logprobs=tuple(map(logprobs_from_proto, message.logprobs)),
        cached_tokens=message.cached_tokens,
        sampling_seconds=message.sampling_seconds,
        queue_seconds=message.queue_seconds,
        waited_seconds=message.waited_seconds,
        branch_verified=message.branch_verified,
        branch_accepted=message.branch_accepted,
    )
