"""An engine at work, and what its model is."""

from dataclasses import dataclass

from paceline.engine.engine import Engine
from paceline.session import ModelInfo, TokenizerFiles


@dataclass(frozen=True, slots=True)
class StartedEngine:
    """What a server is made of. tokenizer: None where the model has none.

    threads: of the forward pass; 0 where there is none.
    """

    engine: Engine
    model: ModelInfo
    tokenizer: TokenizerFiles | None
    threads: int = 0
