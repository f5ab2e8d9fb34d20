"""A few rows of a loaded model against transformers' own forward: the right function at all."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from paceline.engine.interfaces import Logits, Span
from paceline.engine.torch.architectures import max_positions
from paceline.engine.torch.attention import NAME, noting_calls
from paceline.engine.torch.padding import NONE
from paceline.engine.torch.runner import Decoder, ModelRunner
from paceline.errors import FailedPrecondition

ROWS, PIECE = 48, 13
LIMITS = {torch.float64: (1e-5, 0.0), torch.float32: (1e-3, 0.0), torch.bfloat16: (0.3, 0.5)}
"""By how much of its size a row may be off: far above rounding (transformers' softmax is float32's
in all three), far below a wrong model. And the share of rows that may be off by more: rounding
to bfloat16 makes up to 0.4 of a row of nonsense in the 0.5B, 0.07 of most; and other experts.
"""


@dataclass(frozen=True, slots=True)
class Reference:
    """What transformers computes: logits [rows, vocabulary] of tokens, about their mean."""

    model_type: str
    dtype: torch.dtype
    tokens: tuple[int, ...]
    logits: Tensor

    @classmethod
    @torch.inference_mode()
    def of(cls, model: PreTrainedModel) -> "Reference":
        """Computed with the model's own attention, before a decoder takes its weights over."""
        config = model.config
        rows = min(ROWS, max_positions(config))
        tokens = torch.randint(
            config.vocab_size, (1, rows), generator=torch.Generator().manual_seed(0)
        )
        model.set_attn_implementation("eager")
        try:
            logits = model(input_ids=tokens.to(model.device), use_cache=False).logits[0]
        finally:
            model.set_attn_implementation(NAME)
        if not logits.isfinite().all():
            raise FailedPrecondition(
                f"model type {config.model_type!r} cannot be served: its weights give logits that "
                "are no numbers"
            )
        ids = tuple(tokens[0].tolist())
        return cls(config.model_type, model.dtype, ids, _centred(logits.cpu()))

    def check(
        self, decoder: Decoder, device: torch.device, reach: Callable[[int], int] = lambda _: 0
    ) -> None:
        """Raise FailedPrecondition, naming the model type, where `decoder` computes another."""
        found = self._run(ModelRunner(decoder, device, NONE, reach))
        off = (_centred(torch.from_numpy(found)) - self.logits).norm(dim=1)
        limit, share = LIMITS[self.dtype]
        wrong = int((~(off <= limit * self.logits.norm(dim=1))).sum())  # a NaN is wrong
        if wrong > share * len(off):
            raise FailedPrecondition(
                f"model type {self.model_type!r} is not computed right here: {wrong} of {len(off)} "
                f"rows differ from those of transformers by more than {limit:g} of their size"
            )

    def _run(self, runner: ModelRunner) -> Logits:
        """Logits of all rows, run in pieces beside another session."""
        cache, other = (runner.new_cache(len(self.tokens)) for _ in range(2))
        rows = []
        for start in range(0, len(self.tokens), PIECE):
            piece = self.tokens[start : start + PIECE]
            beside = (other, Span(start, piece[::-1], 1))
            with noting_calls() as calls:
                rows.append(runner.forward([beside, (cache, Span(start, piece, len(piece)))])[1])
            self._check_calls(calls)
        return np.concatenate(rows)

    def _check_calls(self, calls: list[int]) -> None:
        """Attention that does not come by ours has neither cache nor sessions."""
        if len(set(calls)) != len(calls) or not calls:
            times = "more than once in a layer" if calls else "by code of its own"
            raise FailedPrecondition(
                f"model type {self.model_type!r} cannot be served: it attends {times}"
            )


def _centred(logits: Tensor) -> Tensor:
    """In the precision it has or float32's, without what all logits of a row have in common."""
    exact = logits if logits.dtype == torch.float64 else logits.float()
    return exact - exact.mean(1, keepdim=True)
