"""Shapes of targets that are made on the spot, and how much of them is their draft."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama. draft_layers: its first ones, which are the draft."""

    width: int
    mlp_width: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    draft_layers: int
    dtype: str = "bfloat16"

    @property
    def parameters(self) -> int:
        """How many the target has."""
        head = self.width // self.heads
        attention = self.width * head * (2 * self.heads + 2 * self.kv_heads)
        layer = attention + 3 * self.width * self.mlp_width
        return self.layers * layer + 2 * self.vocabulary * self.width

    @property
    def bytes(self) -> int:
        """Of its weights."""
        return self.parameters * (4 if self.dtype == "float32" else 2)


SHAPES = {
    "tiny": Shape(64, 128, 6, 4, 2, 512, 2, "float32"),
    "1.5B": Shape(1536, 8960, 28, 12, 2, 151_936, 4),
    "8B": Shape(4096, 14336, 32, 32, 8, 128_256, 4),
    "32B": Shape(5120, 27648, 64, 40, 8, 152_064, 6),
}
"""As Qwen2.5 1.5B, Llama 3 8B and Qwen2.5 32B, with an output layer of their own."""
