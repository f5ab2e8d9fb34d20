"""How weights in 4 bits lie."""

GROUP = 64
"""Inputs that share a scale and a zero."""
