"""Protobuf messages to and from the values of protocol.proposal: pure, one pair a message."""

from paceline.protocol.proposal import Drafter, Proposal
from paceline.v1 import session_pb2

_DRAFTER = {
    Drafter.MODEL: session_pb2.DRAFTER_MODEL,
    Drafter.NGRAM: session_pb2.DRAFTER_NGRAM,
}
_DRAFTER_OF = {number: drafter for drafter, number in _DRAFTER.items()}


def proposal_to_proto(proposal: Proposal) -> session_pb2.Proposal:
    """paceline.v1.Proposal."""
    return session_pb2.Proposal(
        position=proposal.position,
        base_digest=proposal.base_digest,
        token_ids=proposal.token_ids,
        confidences=proposal.confidences,
        drafter=_DRAFTER[proposal.drafter],
    )


def proposal_from_proto(message: session_pb2.Proposal) -> Proposal:
    """paceline.v1.Proposal."""
    return Proposal(
        message.position,
        message.base_digest,
        tuple(message.token_ids),
        tuple(message.confidences),
        _DRAFTER_OF.get(message.drafter, Drafter.MODEL),
    )
