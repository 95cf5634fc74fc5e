"""Small products of bfloat16 whose sums float32 holds exactly: what :mod:`softneuro_cpu_numba.probe` tries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from softneuro_core.device import Target
from softneuro_core.spec import BFLOAT16, FLOAT32
from softneuro_core.windows import as_window
from softneuro_cpu_numba.bfloat_rows import BfloatRows
from softneuro_cpu_numba.epilogues import IDENTITY
from softneuro_cpu_numba.native import NativeKernel
from softneuro_cpu_numba.probe import outcome

ROWS, DEPTH, COLUMNS = 37, 48, 40


def matrix_unit(target: Target) -> bool:
    """AMX_BF16."""
    return _is_right(lambda rows: rows.on_matrix_unit(target))


def pairs(target: Target) -> bool:
    """AVX512BF16."""
    return _is_right(lambda rows: rows.on_vectors(target))


def _is_right(made: Callable[[BfloatRows], NativeKernel]) -> bool:
    rng = np.random.default_rng(1)
    x, w = (rng.integers(-9, 10, shape).astype(np.float32) for shape in ((ROWS, DEPTH), (DEPTH, COLUMNS)))
    rows = BfloatRows(as_window(ROWS, DEPTH), w[None], None, IDENTITY, None, FLOAT32)
    stored = x.astype(BFLOAT16.numpy)
    return bool(np.array_equal(outcome(made(rows), [stored], np.zeros((ROWS, COLUMNS), np.float32)), x @ w))
