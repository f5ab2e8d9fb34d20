"""Kernels for GPUs, in Triton: batch-invariant by the way they are cut."""
