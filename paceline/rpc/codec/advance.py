"""Protobuf messages to and from the values of protocol.advance: pure, one pair a message."""

from paceline.protocol.advance import Advance
from paceline.protocol.limits import check_due_seconds, check_token_ids
from paceline.v1 import draft_pb2


def advance_to_proto(advance: Advance) -> draft_pb2.Advance:
    """paceline.v1.Advance."""
    message = draft_pb2.Advance()
    fill_advance(message, advance)
    return message


def fill_advance(message: draft_pb2.Advance, advance: Advance) -> None:
    """In its place in another message: see fill_proposal."""
    message.SetInParent()
    message.position = advance.position
    message.token_ids.extend(advance.token_ids)
    message.lookahead = advance.lookahead
    message.ngram_lookahead = advance.ngram_lookahead
    message.due_seconds.extend(advance.due_seconds)
    message.awaited = advance.awaited
    message.branches = advance.branches


def advance_from_proto(message: draft_pb2.Advance, vocabulary_size: int) -> Advance:
    """Checked: InvalidArgument for an id outside the vocabulary, or for moments out of bounds."""
    check_token_ids("advance.token_ids", message.token_ids, vocabulary_size)
    check_due_seconds(message.due_seconds)
    return Advance(
        message.position,
        tuple(message.token_ids),
        message.lookahead,
        message.ngram_lookahead,
        tuple(message.due_seconds),
        message.awaited,
        message.branches,
    )
