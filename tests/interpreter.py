"""Triton's interpreter, with arithmetic whose rows do not depend on each other, as on a GPU.

The interpreter computes with numpy. There the last rows of a product, and the last numbers of an
exp, get other bits than the first. A GPU's tensor cores compute all alike.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.conftest import DEVICE


@pytest.fixture(autouse=True, scope="module")
def rows_by_themselves() -> Iterator[None]:
    """Products and exp in float64, number by number, then rounded."""
    if DEVICE != "cpu":
        yield
        return
    interpreter = pytest.importorskip("triton.runtime.interpreter")
    handle, builder = interpreter.TensorHandle, interpreter.InterpreterBuilder

    def dot(_: Any, a: Any, b: Any, d: Any, *__: Any) -> Any:
        a_data, b_data = (_wide(interpreter, one) for one in (a, b))
        product = np.einsum("ik,kj->ij", a_data, b_data).astype(d.data.dtype)
        return handle(product + d.data, d.dtype.scalar)

    def exp(_: Any, x: Any) -> Any:
        return handle(np.exp(x.data.astype(np.float64)).astype(x.data.dtype), x.dtype.scalar)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "create_dot", dot)
        patch.setattr(builder, "create_exp", exp)
        # Asked of each sum of indices, and a fifth of the time.
        shared = interpreter.interpreter_builder
        unchecked = dataclasses.replace(shared.options, sanitize_overflow=False)
        patch.setattr(shared, "options", unchecked)
        with _language_is_interpreted(interpreter, patch):
            yield


@contextmanager
def _language_is_interpreted(interpreter: Any, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Once: the interpreter replaces it in each launch, and again in each call within one."""
    language = interpreter.tl
    of_kernels = SimpleNamespace(__globals__={"tl": language, "core": language.core})
    scope = interpreter._patch_lang(of_kernels)
    patch.setattr(interpreter, "_patch_lang", lambda _: interpreter._LangPatchScope())
    yield
    scope.restore()


def _wide(interpreter: Any, operand: Any) -> Any:
    """Of bfloat16, which numpy lacks, the interpreter keeps the bits."""
    data = operand.data
    if data.dtype == np.uint16:
        data = (data.astype(np.uint32) << 16).view(np.float32)
    return data.astype(np.float64)
