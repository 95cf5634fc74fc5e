"""What ``emit.matrix`` is given: integer products for processors with a matrix unit of 8-bit integers."""

from __future__ import annotations

import numpy as np
from softneuro_cpu_numba.amx import has_matrix_unit
from softneuro_cpu_numba.emit.isa import isa_of
from softneuro_cpu_numba.matrix_rows import MatrixRows, padded
from softneuro_cpu_numba.native import Argument, NativeKernel, Out, emitted_address
from softneuro_cpu_numba.probe import works

from softneuro_core.device import Target
from softneuro_core.graph import Value
from softneuro_qint8.residual import added_words
from softneuro_qint8.rows import IntegerRows

UNIT = {"unit": "amx"}
"""The parameter of offers that use it."""


def suits(target: Target, weights: Value, channels: int, behind: bool = False) -> bool:
    """Whether the unit computes this: weights that are bytes with a sign, and words of four channels. Fewer than four
    are made words where pixels are read one ``behind`` the other."""
    numbers = weights.qparams
    assert numbers is not None
    signed = np.asarray(numbers.zero_point).dtype == np.int8 and not np.any(numbers.zero_point)
    whole = channels % 4 == 0 or (behind and channels < 4)
    return whole and signed and has_integer_unit(target)


def has_integer_unit(target: Target) -> bool:
    """Whether there is a matrix unit of bytes that does what it should."""
    return has_matrix_unit(target, "AMX_INT8") and works("softneuro_qint8.probes:matrix_unit", target)


def matrix_kernel(product: IntegerRows, target: Target) -> NativeKernel:
    """The prepared step of one group whose zero point is known; packs the weights."""
    window, finish, weights = product.window, product.finish, product.weights[0]
    assert finish is not None and isinstance(product.zero, np.ndarray)
    words, outputs, few = -(-window.channels // 4), weights.shape[2], window.channels % 4
    in_place = window.is_pointwise and product.scatter is None and not few
    rows = MatrixRows(window, words, outputs, in_place, target.threads, product.scatter)
    address = emitted_address(
        *("softneuro_qint8.emit.matrix", "rows", isa_of(target)),
        tiles=rows.tiles,
        last=rows.last,
        source=rows.source,
        signed=product.signed,
        rounding=finish.target.finish,
        residual=None if product.residual is None else product.residual.grid.is_signed,
        few=few,
    )
    height, width = window.size
    pixel = few or words
    start = -int(product.zero[0]) * weights.sum((0, 1), dtype=np.int32)
    added, *added_numbers = added_words(product.residual, finish)
    border = int.from_bytes(product.zero.tobytes() * 4, "little")
    args: list[Argument] = [
        *(product.x, rows.pack(weights, np.dtype(np.int8)), padded(start, rows.columns, np.int32)),
        *(added, Out(0)),
        *(rows.config(), *rows.words_of(pixel * width * height, product.pitched)),
        *(padded(finish.factors, rows.columns, np.float32), padded(finish.shifts, rows.columns, np.float32), border),
        *finish.target.words,
        *added_numbers,
        *(() if rows.in_place else rows.band.words((pixel * width, pixel, 1))),
    ]
    return NativeKernel(address, tuple(args), rows.tasks, rows.scratch)
