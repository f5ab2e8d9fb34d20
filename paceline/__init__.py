"""Speculative decoding across processes: the target's exact tokens, only sooner."""

__version__ = "0.1.0"
