"""The generic forward pass, as transformers has it: correct for all models, fast for none."""

from torch import Tensor
from transformers import PreTrainedModel

from paceline.engine.torch.attention import Spans, attending


class GenericModel:
    """A model of transformers that attends with paceline.engine.torch.attention."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Take it unchanged."""
        self._model = model

    def __call__(self, tokens: Tensor, positions: Tensor, spans: Spans, wanted: Tensor) -> Tensor:
        """As FusedModel."""
        with attending(spans):
            output = self._model(
                input_ids=tokens[None],
                position_ids=positions[None],
                logits_to_keep=wanted,
                use_cache=False,
            )
        logits: Tensor = output.logits[0]
        return logits
