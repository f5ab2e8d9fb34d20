"""A few rows of a loaded model against transformers' own forward: the right function at all."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from paceline.engine.attention import NAME
from paceline.engine.padding import NONE
from paceline.engine.runner import Decoder, ModelRunner
from paceline.engine.work import Span
from paceline.errors import FailedPrecondition

ROWS = 48
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
        rows = min(ROWS, config.max_position_embeddings)
        tokens = torch.randint(
            config.vocab_size, (1, rows), generator=torch.Generator().manual_seed(0)
        )
        model.set_attn_implementation("eager")
        try:
            logits = model(input_ids=tokens.to(model.device), use_cache=False).logits[0]
        finally:
            model.set_attn_implementation(NAME)
        ids = tuple(tokens[0].tolist())
        return cls(config.model_type, model.dtype, ids, _centred(logits.cpu()))

    def check(self, decoder: Decoder, device: torch.device) -> None:
        """Raise FailedPrecondition, naming the model type, where `decoder` computes another."""
        runner = ModelRunner(decoder, device, NONE)
        span = Span(0, self.tokens, len(self.tokens))
        [found] = runner.forward([(runner.new_cache(), span)])
        off = (_centred(torch.from_numpy(found)) - self.logits).norm(dim=1)
        limit, share = LIMITS[self.dtype]
        wrong = int((~(off <= limit * self.logits.norm(dim=1))).sum())  # a NaN is wrong
        if wrong > share * len(off):
            raise FailedPrecondition(
                f"model type {self.model_type!r} is not computed right here: {wrong} of {len(off)} "
                f"rows differ from those of transformers by more than {limit:g} of their size"
            )


def _centred(logits: Tensor) -> Tensor:
    """In the precision it has or float32's, without what all logits of a row have in common."""
    exact = logits if logits.dtype == torch.float64 else logits.float()
    return exact - exact.mean(1, keepdim=True)
