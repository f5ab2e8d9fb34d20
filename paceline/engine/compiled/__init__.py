"""Drafts as one compiled step: weights in 4 bits, rows in 8, small operators within the products.

A step of one session reads all weights once, and does little else. step.c is compiled at first
use, for CPUs with AVX-512, VNNI and bfloat16, and in another form for those with AVX2; rows of a
draft need not have the bits of any other engine, or form.
"""
