"""Linear layers on a CPU with bf16 weights in 12 bits: compiled at first use, oneDNN's bits.

One stream's step reads all weights for a row or some, and takes as long as that. The upper byte of
a trained weight has few values; so it is kept as a code of 4 bits, without loss.
"""
