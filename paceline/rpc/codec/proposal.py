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
    message = session_pb2.Proposal()
    fill_proposal(message, proposal)
    return message


def fill_proposal(message: session_pb2.Proposal, proposal: Proposal) -> None:
    """In its place in another message: made by itself it would be copied there."""
    message.SetInParent()
    message.position = proposal.position
    message.base_digest = proposal.base_digest
    message.token_ids.extend(proposal.token_ids)
    message.confidences.extend(proposal.confidences)
    message.drafter = _DRAFTER[proposal.drafter]
    message.second_token_ids.extend(proposal.second_token_ids)


def proposal_from_proto(message: session_pb2.Proposal) -> Proposal:
    """paceline.v1.Proposal."""
    return Proposal(
        message.position,
        message.base_digest,
        tuple(message.token_ids),
        tuple(message.confidences),
        _DRAFTER_OF.get(message.drafter, Drafter.MODEL),
        tuple(message.second_token_ids),
    )
