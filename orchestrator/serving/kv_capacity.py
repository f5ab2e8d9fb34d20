"""Whether any target could ever hold what is asked for, be it full now or not. Pure."""

import dataclasses
from collections.abc import Sequence

from paceline.errors import InvalidArgument
from paceline.protocol.model import KVSize
from paceline.protocol.session import Opening


def fit(
    openings: Sequence[Opening], sizes: Sequence[KVSize | None], *, shorten: bool
) -> list[Opening]:
    """The openings of one request, each of which some target has KV for, and all have together.

    sizes: of the targets; None: of one that does not say. shorten: the request names no
    max_tokens, so that it is what there is room for. Raises InvalidArgument naming the limit.
    """
    known = [size for size in sizes if size is not None]
    if not known or len(known) < len(sizes):
        return list(openings)
    resumes = bool(openings[0].output_token_ids)
    most = max(size.most(resumes=resumes) for size in known)
    fitting = [_shortened(one, most) if shorten else one for one in openings]
    length, prompt = fitting[0].max_length, len(fitting[0].prompt_token_ids)
    if prompt >= most:
        limit = f"under {most} tokens, what KV has for one stream"
        raise InvalidArgument.of("prompt's length", prompt, limit)
    if length > most:
        limit = f"at most {most}, what KV has for one stream"
        raise InvalidArgument.of("tokens of prompt and max_tokens together", length, limit)
    room = sum(size.pages_for(resumes=resumes) // size.pages_of(length) for size in known)
    if len(openings) > room:
        limit = f"at most {room}, as KV has room for so many of {length} tokens"
        raise InvalidArgument.of("n", len(openings), limit)
    return fitting


def _shortened(opening: Opening, most: int) -> Opening:
    room = max(1, len(opening.output_token_ids), most - len(opening.prompt_token_ids))
    return dataclasses.replace(opening, max_tokens=min(opening.max_tokens, room))
