"""Small products of integers, a small table: what ``softneuro_cpu_numba.probe`` tries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from softneuro_cpu_numba.attention import Operand
from softneuro_cpu_numba.copies import Block
from softneuro_cpu_numba.native import NativeKernel
from softneuro_cpu_numba.probe import outcome

from softneuro_core.device import Target
from softneuro_core.graph import Value
from softneuro_core.spec import FLOAT32, INT8, UINT8, DType
from softneuro_core.strides import Axis
from softneuro_core.windows import as_window
from softneuro_qint8.matrix import matrix_kernel
from softneuro_qint8.numbers import Bounded, Grid, Requantise
from softneuro_qint8.products import IntegerFactors, on_matrix_unit
from softneuro_qint8.rows import QUADS, IntegerRows
from softneuro_qint8.tables import as_table, lookup_kernel

ROWS, DEPTH, COLUMNS = 37, 48, 40
RESULT = Bounded(Grid(512.0, 3, INT8), -128, 127)
"""One step of a result is 512 of a sum: most sums are within its range."""


def matrix_unit(target: Target) -> bool:
    """AMX_INT8: bytes with and without a sign, as pixels by weights and as products of two computed factors."""
    both = all(_multiplies(factors, target) for factors in product((INT8, UINT8), repeat=2))
    return both and _is_right(lambda rows: matrix_kernel(rows, target))


def quads(target: Target) -> bool:
    """AVX512VNNI, AVX_VNNI."""
    return _is_right(lambda rows: rows.kernel(target, QUADS))


def byte_tables(target: Target) -> bool:
    """AVX512_VBMI: every byte through a table without an order, and some behind the last whole register."""
    rng, size = np.random.default_rng(1), 300
    x, table = rng.integers(0, 256, (size,)).astype(np.uint8), rng.permutation(256).astype(np.uint8)
    block = Block((Axis(size, (1, 1)),), 0)
    kernel = lookup_kernel([block], [as_table(table)], target, permutes=True)
    return bool(np.array_equal(outcome(kernel, [x], np.zeros(size, np.uint8)), table[x]))


def _is_right(made: Callable[[IntegerRows], NativeKernel]) -> bool:
    return all(_matches(made, dtype) for dtype in (INT8, UINT8))


def _matches(made: Callable[[IntegerRows], NativeKernel], dtype: DType) -> bool:
    """Whether sums of random bytes by weights come out as numpy's."""
    (x, grid), (w, _) = _random((ROWS, DEPTH), dtype), _random((DEPTH, COLUMNS), INT8)
    weights = w.astype(np.int16)[None, None]
    finish = Requantise.of(np.ones(COLUMNS, np.float32), grid, RESULT)
    rows = IntegerRows(as_window(ROWS, DEPTH), weights, finish, grid.stored_zero, grid.is_signed)
    return _is_product(made(rows), [x], _differences(x, grid) @ w)


def _multiplies(dtypes: tuple[DType, DType], target: Target) -> bool:
    """Whether sums of random bytes by random bytes come out as numpy's."""
    (a, of_a), (b, of_b) = _random((ROWS, DEPTH), dtypes[0]), _random((DEPTH, COLUMNS), dtypes[1])
    lying = [Operand(Value("", FLOAT32, s), (), s, (s[1], 1)) for s in (a.shape, b.shape, (ROWS, COLUMNS))]
    factors = IntegerFactors((lying[0], lying[1]), (0, 1), (of_a, of_b), lying[2], 1.0, RESULT)
    return _is_product(on_matrix_unit(factors, target), [a, b], _differences(a, of_a) @ _differences(b, of_b))


def _random(shape: tuple[int, int], dtype: DType) -> tuple[np.ndarray, Grid]:
    """All bytes, and a grid whose zero point is one of them."""
    info = np.iinfo(dtype.numpy)
    x = np.random.default_rng(1).integers(info.min, info.max + 1, shape).astype(dtype.numpy)
    return x, Grid(1.0, int(x[0, 0]), dtype)


def _differences(x: np.ndarray, grid: Grid) -> np.ndarray:
    return x.astype(np.int64) - grid.zero


def _is_product(kernel: NativeKernel, inputs: Sequence[np.ndarray], sums: np.ndarray) -> bool:
    wanted = np.clip(np.rint(sums / RESULT.grid.scale) + RESULT.grid.zero, *RESULT.grid.range)
    return bool(np.array_equal(outcome(kernel, inputs, np.zeros(sums.shape, np.int8)), wanted))
