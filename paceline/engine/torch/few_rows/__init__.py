"""Linear layers of few rows on a CPU: compiled at first use, with the bits of oneDNN.

One stream's step reads all weights for a row or some. oneDNN reads them at a part of the memory's
speed with so few rows. product.c reads its very layout, so that there is no second copy.
"""
