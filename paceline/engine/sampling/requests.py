"""What a device is asked to pick from the rows of a span, and what it answers. Pure.

A row's tokens before it are those of the stream and the draft tokens before it in the span: what
they mean for its logits is known before these are computed. So all rows are picked at once.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paceline.engine.sampling.history import History
from paceline.engine.sampling.matcher import Mask
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.verdict import TokenLogprobs

Ids = NDArray[np.int64]
_NO_IDS: Ids = np.array([], np.int64)


@dataclass(frozen=True, slots=True)
class RowHistory:
    """What the tokens before a row mean for its logits.

    position: of the token to pick. seen: ids in prompt or output, where a repetition penalty asks
    for them. output_ids and output_counts: of the output, where a penalty asks for them. too_short:
    whether min_tokens forbids the stop tokens. bad: ids that would complete a bad word.
    """

    position: int
    seen: Ids
    output_ids: Ids
    output_counts: Ids
    mask: Mask | None
    too_short: bool
    bad: tuple[int, ...]

    @classmethod
    def of(cls, history: History, params: SamplingParams) -> "RowHistory":
        """As `history` stands."""
        ids, counts = _NO_IDS, _NO_IDS
        if params.presence_penalty or params.frequency_penalty:
            ids, counts = history.output_counts()
        return cls(
            position=len(history),
            seen=history.seen_ids() if params.repetition_penalty != 1.0 else _NO_IDS,
            output_ids=ids,
            output_counts=counts,
            mask=history.mask,
            too_short=history.output_tokens < params.min_tokens,
            bad=tuple(params.bad_after(history.output)),
        )


@dataclass(frozen=True, slots=True)
class PickRequest:
    """One stream's rows in a step, each with what stands before it.

    stop: ids that min_tokens forbids. logprobs: how many of the best ids, or None, as in Opening.
    """

    params: SamplingParams
    seed: int
    stop: tuple[int, ...]
    rows: tuple[RowHistory, ...]
    logprobs: int | None = None

    @classmethod
    def of(
        cls,
        params: SamplingParams,
        seed: int,
        stop: Collection[int],
        history: History,
        draft_tokens: Sequence[int] = (),
        logprobs: int | None = None,
        branches: Sequence[tuple[int, Sequence[int]]] = (),
    ) -> "PickRequest":
        """For the position behind `history`, each of the draft tokens, and each of the branches'.

        branches: the position of the first token, and the tokens; before it stand draft tokens.
        `history` is left as it was.
        """
        length, rows = len(history), [RowHistory.of(history, params)]
        rows += _rows_behind(draft_tokens, history, params)
        for position, tokens in branches:
            for token in draft_tokens[: position - length]:
                history.append(token)
            rows += _rows_behind(tokens, history, params)
            history.truncate(length)
        return cls(params, seed, tuple(stop), tuple(rows), logprobs)


def _rows_behind(
    tokens: Sequence[int], history: History, params: SamplingParams
) -> list[RowHistory]:
    """Of the position behind each of them, which come behind `history`; that is left as it was."""
    length, rows = len(history), []
    for token in tokens:
        history.append(token)
        rows.append(RowHistory.of(history, params))
    history.truncate(length)
    return rows


@dataclass(frozen=True, slots=True)
class Pick:
    """What a row gave: the sampler's token, and as of sampler.pick_with_second.

    is_number: whether its raw logit is one. logprobs: of `token`, where they were asked for.
    """

    token: int
    margin: float
    second: int | None
    is_number: bool
    logprobs: TokenLogprobs | None = None
