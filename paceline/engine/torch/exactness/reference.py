"""Compares a few rows of a loaded model with transformers' own forward pass."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from paceline.engine.interfaces import Logits, Span
from paceline.engine.torch.architectures import max_positions
from paceline.engine.torch.attention import NAME, noting_calls
from paceline.engine.torch.padding import NO_PADDING
from paceline.engine.torch.runner import ForwardPass, ModelRunner
from paceline.engine.torch.text_part import text_config
from paceline.errors import FailedPrecondition

ROWS, PIECE = 48, 13
LIMITS = {torch.float64: (1e-5, 0.0), torch.float32: (1e-3, 0.0), torch.bfloat16: (0.3, 0.5)}
"""How far a row may be off, relative to its norm, and the share of rows that may be off by more.

The first is far above rounding (transformers computes softmax in float32 for all three) and far
below the difference of a wrong model. Rounding to bfloat16 moves most rows by 0.07, some of the
0.5B on meaningless tokens by 0.4, and it can choose other experts.
"""


@dataclass(frozen=True, slots=True)
class Reference:
    """What transformers computes of tokens: logits [rows, vocabulary], less each row's mean."""

    model_type: str
    dtype: torch.dtype
    tokens: tuple[int, ...]
    logits: Tensor

    @classmethod
    @torch.inference_mode()
    def of(cls, model: PreTrainedModel) -> "Reference":
        """Computed with the model's own attention, before our forward pass takes its weights."""
        config = text_config(model.config)
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
                f"model type {model.config.model_type!r} cannot be served: its weights give logits "
                "that are no numbers"
            )
        ids = tuple(tokens[0].tolist())
        return cls(model.config.model_type, model.dtype, ids, _centred(logits.cpu()))

    def check(
        self,
        forward: ForwardPass,
        device: torch.device,
        rope_length: Callable[[int], int] = lambda _: 0,
    ) -> None:
        """Raise FailedPrecondition, naming the model type, where `forward` computes another."""
        found = self._run(ModelRunner(forward, device, NO_PADDING, rope_length))
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
        """Refuse a model that does not call our attention once a layer: it has no KV cache."""
        if len(set(calls)) != len(calls) or not calls:
            times = "more than once in a layer" if calls else "by code of its own"
            raise FailedPrecondition(
                f"model type {self.model_type!r} cannot be served: it attends {times}"
            )


def _centred(logits: Tensor) -> Tensor:
    """Less the mean of each row, in float64 or float32."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return wide - wide.mean(1, keepdim=True)
