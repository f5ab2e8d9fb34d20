"""What quantized.h and attention.h say too."""

GROUP = 32
"""Inputs that share a scale and a low; a model made of a Q4_1 file has them in such groups."""
WIDTH = 64
"""Outputs that lie together."""
LINE = 64
"""Bytes that memory gives at once: no vector of a weight lies in two."""
MOST_HEAD = 256
"""Numbers of a head."""
