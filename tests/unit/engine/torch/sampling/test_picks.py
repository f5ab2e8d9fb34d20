"""Picks on the device are those of numpy, token for token, for every parameter.

They run on DEVICE, which the command for a day with a GPU sets; elsewhere that is the CPU.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from paceline.engine.sampling.history import History
from paceline.engine.sampling.logprobs import token_logprobs
from paceline.engine.sampling.matcher import Mask
from paceline.engine.sampling.requests import Pick, PickRequest
from paceline.engine.sampling.sampler import LARGE, pick_with_second
from paceline.engine.torch.sampling.picks import pick_rows
from paceline.protocol.sampling import MAX_TEMPERATURE, SamplingParams
from paceline.protocol.verdict import TokenLogprobs
from tests.conftest import DEVICE
from tests.unit.engine.sampling.test_sampler_edges import Case, anything, cases, usual

Rng = np.random.Generator


class RandomMasks:
    """A matcher that allows other ids after every token; now and then the output has left it."""

    def __init__(self, vocabulary: int, seed: int) -> None:
        self._vocabulary, self._seed, self._length = vocabulary, seed, 0

    def append(self, token: int) -> None:
        """One more."""
        self._length += 1

    def truncate(self, count: int) -> None:
        """Keep `count`."""
        self._length = count

    def expect(self, draft_tokens: tuple[int, ...]) -> None:
        """Nothing is looked ahead for."""

    def mask(self) -> Mask | None:
        """Another one for each length, sometimes shorter than the vocabulary."""
        rng = np.random.default_rng((self._seed, self._length))
        if rng.random() < 0.1:
            return None
        return rng.random(max(1, self._vocabulary - int(rng.integers(3)))) < 0.5


def some(rng: Rng, *values: float) -> float:
    return float(rng.choice(values))


def random_params(rng: Rng, vocabulary: int) -> SamplingParams:
    """Every parameter, each neutral half of the time."""

    def ids(most: int) -> tuple[int, ...]:
        return tuple(rng.integers(0, vocabulary, rng.integers(1, most + 1)).tolist())

    half = rng.random(8) < 0.5
    return SamplingParams(
        temperature=some(rng, 0.0, 0.0, 0.3, 0.7, 1.0, 1.7, 100.0),
        top_k=int(some(rng, 1, 2, 5, 50, 2**31)) if half[0] else 0,
        top_p=some(rng, 0.01, 0.5, 0.9, 0.95, 0.999) if half[1] else 1.0,
        min_p=some(rng, 0.001, 0.05, 0.5, 1.0) if half[2] else 0.0,
        repetition_penalty=some(rng, 0.8, 1.1, 1.3, 1e-7, 1e7) if half[3] else 1.0,
        presence_penalty=some(rng, -1.0, 0.1, 1.5) if half[4] else 0.0,
        frequency_penalty=some(rng, -0.5, 0.3, 0.7) if half[4] else 0.0,
        logit_bias=dict(zip(ids(4), rng.normal(0, 3, 4).tolist(), strict=False)) if half[5] else {},
        min_tokens=int(some(rng, 0, 0, 3)),
        allowed_token_ids=ids(vocabulary) if half[6] and rng.random() < 0.5 else (),
        bad_words_token_ids=tuple(ids(3) for _ in range(3)) if half[7] else (),
    )


def random_rows(rng: Rng, rows: int, vocabulary: int) -> NDArray[np.float32]:
    """Logits with ties, or that are no numbers, among ordinary ones."""
    logits = rng.normal(0, 4, (rows, vocabulary))
    kind = rng.integers(8)
    if kind == 0:
        logits = logits.round()
    elif kind == 1:
        logits[rng.random(logits.shape) < 0.5] = -np.inf
    elif kind == 2:
        logits[rng.random(logits.shape) < 0.2] = rng.choice([np.nan, np.inf, -np.inf, 1e30])
    elif kind == 3:
        logits[:] = rng.choice([0.0, 1e12, -np.inf, np.nan])
    return logits.astype(np.float32)


def by_numpy(
    logits: NDArray[np.floating], request: PickRequest, history: History, drafts: Sequence[int]
) -> list[Pick]:
    """What the sampler on the CPU gives of a stream's rows; `history` is left as it was."""
    length, picks = len(history), []
    for index, row in enumerate(logits):
        token, margin, second = pick_with_second(
            row, request.params, request.seed, history, request.stop
        )
        wanted = request.logprobs
        logprobs = None if wanted is None else token_logprobs(row, token, wanted)
        picks.append(Pick(token, margin, second, bool(row[token] > -np.inf), logprobs))
        history.append(drafts[index] if index < len(drafts) else 0)
    history.truncate(length)
    return picks


def assert_same(found: Pick, wanted: Pick) -> None:
    """Tokens to the number; margins and logprobs to the last digits of a logarithm."""
    assert replace(found, margin=0.0, logprobs=None) == replace(wanted, margin=0.0, logprobs=None)
    assert found.margin == pytest.approx(wanted.margin, rel=1e-9, abs=1e-9)
    assert (found.logprobs is None) == (wanted.logprobs is None)
    if found.logprobs is not None and wanted.logprobs is not None:
        assert_same_logprobs(found.logprobs, wanted.logprobs)


def assert_same_logprobs(found: TokenLogprobs, wanted: TokenLogprobs) -> None:
    assert found.logprob == pytest.approx(wanted.logprob, rel=2e-7)
    assert [one.token_id for one in found.top] == [one.token_id for one in wanted.top]
    values = [one.logprob for one in found.top]
    assert values == pytest.approx([one.logprob for one in wanted.top], rel=2e-7, abs=1e-7)


class Stream:
    """A random stream with its rows in a step."""

    def __init__(self, rng: Rng, vocabulary: int, dtype: torch.dtype) -> None:
        params = random_params(rng, vocabulary)
        output = rng.integers(0, vocabulary, rng.integers(0, 8)).tolist()
        masked = rng.random() < 0.25
        matcher = RandomMasks(vocabulary, int(rng.integers(2**31))) if masked else None
        self.history = History(rng.integers(0, vocabulary, 5).tolist(), output, matcher)
        self.drafts = rng.integers(0, vocabulary, rng.integers(0, 6)).tolist()
        stop = rng.permutation(vocabulary)[: rng.integers(0, 3)].tolist()
        logprobs = None if rng.random() < 0.7 else int(rng.integers(0, 6))
        seed = int(rng.integers(0, 2**64, dtype=np.uint64))
        self.request = PickRequest.of(params, seed, stop, self.history, self.drafts, logprobs)
        rows = random_rows(rng, 1 + len(self.drafts), vocabulary)
        self.logits = torch.from_numpy(rows).to(dtype)

    def check(self, found: list[Pick]) -> None:
        """Compare with numpy."""
        logits = self.logits
        array = (logits if logits.dtype == torch.float64 else logits.float()).numpy()
        wanted = by_numpy(array, self.request, self.history, self.drafts)
        for one, other in zip(found, wanted, strict=True):
            assert_same(one, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_ten_thousand_random_rows_are_picked_as_numpy_picks_them(dtype: torch.dtype) -> None:
    rng, rows = np.random.default_rng(19), 0
    while rows < 10_000:
        vocabulary = int(rng.choice([1, 2, 7, 60, 500, 3000]))
        streams = [Stream(rng, vocabulary, dtype) for _ in range(40)]
        logits = torch.cat([stream.logits for stream in streams]).to(DEVICE)
        before = logits.clone()
        for stream, found in zip(
            streams, pick_rows(logits, [stream.request for stream in streams]), strict=True
        ):
            stream.check(found)
        assert torch.equal(logits.nan_to_num(), before.nan_to_num())
        rows += len(logits)


@pytest.mark.parametrize("top_p", [1.0, 0.95])
def test_a_large_vocabulary(top_p: float) -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(0, 3, (70, 151_936)).astype(np.float32))
    history, params = History((1, 2)), SamplingParams(temperature=1.3, top_p=top_p)
    requests = [PickRequest.of(params, seed, (), history) for seed in range(70)]
    for row, request, (found,) in zip(
        logits.numpy(), requests, pick_rows(logits.to(DEVICE), requests), strict=True
    ):
        assert_same(found, by_numpy(row[None], request, history, ())[0])


def test_rows_that_were_not_asked_for_are_a_bug() -> None:
    request = PickRequest.of(SamplingParams(), 0, (), History((1,)))
    with pytest.raises(ValueError, match="2 rows of logits for 1 that were asked for"):
        pick_rows(torch.zeros(2, 3), [request])


@given(cases(usual | anything))
@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow], deadline=None)
def test_parameters_at_their_limits(case: Case) -> None:
    row, params, seed, prompt, output, stop = case
    history = History(prompt, output)
    request = PickRequest.of(params, seed, tuple(stop), history)
    logits = torch.from_numpy(np.array(row)[None]).to(DEVICE)
    ((found,),) = pick_rows(logits, [request])
    with np.errstate(all="ignore"):
        token, _, _ = pick_with_second(row, params, seed, history, stop)
    assert found.token == token
    assert sys.float_info.max > found.margin >= 0


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
TEMPERATURES = st.floats(0.0, MAX_TEMPERATURE, exclude_min=True)


@given(FLOATS, TEMPERATURES)
def test_logits_of_float32_have_the_order_of_their_scores(logit: float, temperature: float) -> None:
    """As neighbours have it: divided in float64, or less the best where no noise is lost so."""
    one = np.float32(logit)
    above = np.nextafter(one, np.float32(np.inf))
    scores = np.array([one, above], np.float64)
    with np.errstate(over="ignore"):
        large = abs(scores[1]) > LARGE * temperature
        below, best = (scores - scores[1] if large else scores) / temperature
    assert below < best or np.isinf(above)
