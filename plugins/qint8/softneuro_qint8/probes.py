"""Small products of integers, a small table: what ``softneuro_cpu_numba.probe`` tries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from softneuro_cpu_numba.copies import Block
from softneuro_cpu_numba.native import NativeKernel
from softneuro_cpu_numba.probe import product_of
from softneuro_cpu_numba.strides import Axis
from softneuro_cpu_numba.windows import as_window

from softneuro_core.device import Target
from softneuro_core.spec import INT8, UINT8, DType
from softneuro_qint8.matrix import matrix_kernel
from softneuro_qint8.numbers import Grid, Requantise, bounded
from softneuro_qint8.rows import QUADS, IntegerRows
from softneuro_qint8.tables import as_table, lookup_kernel

ROWS, DEPTH, COLUMNS = 37, 48, 40


def matrix_unit(target: Target) -> bool:
    """AMX_INT8: bytes with and without a sign."""
    return _is_right(lambda rows: matrix_kernel(rows, target))


def quads(target: Target) -> bool:
    """AVX512VNNI, AVX_VNNI."""
    return _is_right(lambda rows: rows.kernel(target, QUADS))


def byte_tables(target: Target) -> bool:
    """AVX512_VBMI: every byte through a table without an order, and some behind the last whole register."""
    rng, size = np.random.default_rng(1), 300
    x, table = rng.integers(0, 256, (size,)).astype(np.uint8), rng.permutation(256).astype(np.uint8)
    block = Block((Axis(size, (1, 1)),), 0)
    kernel = lookup_kernel([block], [as_table(table)], target, permutes=True)
    return bool(np.array_equal(product_of(kernel, x, np.zeros(size, np.uint8)), table[x]))


def _is_right(made: Callable[[IntegerRows], NativeKernel]) -> bool:
    return all(_matches(made, dtype) for dtype in (INT8, UINT8))


def _matches(made: Callable[[IntegerRows], NativeKernel], dtype: DType) -> bool:
    """Whether sums of random bytes come out as numpy's; one step of the result is 64 of the sum, without a rest."""
    rng, info = np.random.default_rng(1), np.iinfo(dtype.numpy)
    x = rng.integers(info.min, info.max + 1, (ROWS, DEPTH)).astype(dtype.numpy)
    w = rng.integers(-128, 128, (DEPTH, COLUMNS)).astype(np.int16)
    grid, result = Grid(1.0, int(x[0, 0]), dtype), Grid(64.0, 3, INT8)
    target = bounded(result, None)
    assert target is not None
    finish = Requantise.of(np.ones(COLUMNS, np.float32), grid, target)
    sums = (x.astype(np.int64) - grid.zero) @ w
    wanted = np.clip(np.rint(sums / 64) + result.zero, -128, 127)
    rows = IntegerRows(as_window(ROWS, DEPTH), w[None, None], finish, grid.stored_zero, grid.is_signed)
    return bool(np.array_equal(product_of(made(rows), x, np.zeros((ROWS, COLUMNS), np.int8)), wanted))
