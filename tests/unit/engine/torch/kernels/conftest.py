"""Kernels run here as on a GPU, row by row."""

from tests.interpreter import rows_by_themselves

__all__ = ["rows_by_themselves"]
