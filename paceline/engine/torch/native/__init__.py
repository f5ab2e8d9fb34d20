"""What a target's forward pass has in C, for CPUs: compiled at first use, or ahead in images.

Its linear layers keep bf16 weights in 12 bits: a step of one stream reads all weights for a row or
some, and takes as long as that. The upper byte of a trained weight has few values; so it is kept as
a code of 4 bits, without loss. What lies between these layers are many small operators in torch.
"""
