"""Scales and zero points of a graph's values and layers, as the routines of this plugin read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from softneuro_cpu_numba.native import packed

from softneuro_core.epilogue import read_activation
from softneuro_core.graph import Layer, Value
from softneuro_core.spec import FLOAT32, DType

INTEGERS = ("int8", "uint8")
MOST_TERMS = 2**31 // (255 * 255)
"""Products of two 9-bit numbers that 32 bits surely hold."""
ONE_STEP = 1.0
"""Integer sums are exact, but a float32 reference may round a tie the other way."""


@dataclass(frozen=True, slots=True)
class Grid:
    """real = (stored - zero) * scale, for a whole tensor; ``dtype`` is how it is stored."""

    scale: float
    zero: int
    dtype: DType

    @property
    def range(self) -> tuple[int, int]:
        """Least and most that can be stored."""
        info = np.iinfo(self.dtype.numpy)
        return int(info.min), int(info.max)

    @property
    def is_signed(self) -> bool:
        return self.dtype.name == "int8"

    @property
    def stored_zero(self) -> np.ndarray:
        """The zero point as kernels read it: one element of the type."""
        return np.array([self.zero], self.dtype.numpy)


def grid_of(value: Value | None) -> Grid | None:
    """The grid a real value lies on, or may be put on, or an integer value means, if it is one for the whole tensor."""
    if value is None or value.qparams is None or np.size(value.qparams.scale) != 1:
        return None
    zero = np.asarray(value.qparams.zero_point)
    if zero.dtype.name not in INTEGERS:
        return None
    if not value.dtype.is_float and value.dtype.name != zero.dtype.name:
        return None
    scale = float(np.asarray(value.qparams.scale, np.float32).reshape(-1)[0])
    if not 0 < scale < np.inf:
        return None
    return Grid(scale, int(zero.reshape(-1)[0]), DType.parse(zero.dtype.name))


@dataclass(frozen=True, slots=True)
class Bounded:
    """A grid a result goes onto, and the least and most of it that may be stored."""

    grid: Grid
    low: int
    high: int

    @property
    def finish(self) -> tuple[bool, bool]:
        """What ``emit.finish.Rounded`` is told when a kernel is written."""
        return self.grid.is_signed, (self.low, self.high) != self.grid.range

    @property
    def words(self) -> tuple[int, int, int]:
        """What it reads when a kernel runs."""
        return self.grid.zero, self.low, self.high


def bounded(grid: Grid, activation: Layer | None) -> Bounded | None:
    """The grid behind an activation that only bounds; None for any other.

    Rounding is monotone, so bounding before it and behind it is the same.
    """
    low, high = grid.range
    if activation is None:
        return Bounded(grid, low, high)
    found = read_activation(activation)
    if found is None or found.kind not in ("Relu", "Clip"):
        return None
    least, most = (0.0, np.inf) if found.kind == "Relu" else (found.alpha, found.beta)
    if not least <= most:
        return None
    steps = [np.rint(np.float32(v) / np.float32(grid.scale)) + grid.zero for v in (least, most)]
    return Bounded(grid, *(int(max(low, min(high, step))) for step in steps))


PIECE = 1 << 20
"""Weights rounded at once."""


def weight_scales(weights: Value | None, axis: int) -> np.ndarray | None:
    """The scale of each output channel (``axis`` counts them) of constant float32 weights that lie on an 8-bit grid,
    or may be rounded to it."""
    if weights is None or weights.qparams is None or weights.data is None or weights.dtype is not FLOAT32:
        return None
    numbers, rank = weights.qparams, len(weights.static_shape)
    scale = np.asarray(numbers.scale, np.float32).reshape(-1)
    zero = np.asarray(numbers.zero_point)
    if zero.dtype.name not in INTEGERS or not np.all(scale > 0) or (not numbers.on_grid and zero.any()):
        return None
    channels = weights.static_shape[axis]
    if scale.size > 1 and (scale.size != channels or numbers.axis is None or numbers.axis % rank != axis % rank):
        return None
    return np.broadcast_to(scale, (channels,))


def integers_of(weights: Value, axis: int) -> np.ndarray:
    """Weights that :func:`weight_scales` accepts as stored - zero: int8 where the zero point is 0, else int16. It reads
    them all, so only ``prepare`` may ask; large ones are kept with the packed weights and mapped the next time."""
    scales = weight_scales(weights, axis)
    assert scales is not None and weights.data is not None and weights.qparams is not None
    zero = np.asarray(weights.qparams.zero_point)
    dtype = np.dtype(np.int8 if zero.dtype == np.int8 and not zero.any() else np.int16)
    recipe = ("integers", axis % weights.data.ndim, scales.tobytes())
    return packed(recipe, weights.data, weights.static_shape, dtype, lambda made: _round(made, weights, scales, axis))


def _round(made: np.ndarray, weights: Value, scales: np.ndarray, axis: int) -> None:
    """A piece at a time: twice a large array of floats would be most of the memory a network takes."""
    data, limits = weights.data, np.iinfo(made.dtype)
    assert data is not None
    along = np.broadcast_to(scales.reshape([-1 if a == axis % data.ndim else 1 for a in range(data.ndim)]), data.shape)
    rows = max(1, PIECE * len(data) // max(1, data.size))
    for first in range(0, len(data), rows):
        piece = slice(first, first + rows)
        steps = data[piece] / along[piece]
        made[piece] = np.clip(np.rint(steps, out=steps), limits.min, limits.max, out=steps)


@dataclass(frozen=True, slots=True, eq=False)
class Requantise:
    """What becomes of a sum: stored = saturate(round half to even(sum * factor + shift) + zero), by channel; then the
    bounds."""

    factors: np.ndarray  # float32 (channels,)
    shifts: np.ndarray  # float32 (channels,): the bias, in steps of the result
    target: Bounded

    @staticmethod
    def of(scales: np.ndarray, source: Grid, target: Bounded, bias: np.ndarray | None = None) -> Requantise:
        """Of sums of a grid's numbers with weights of these scales, one for each channel."""
        factors = scales.astype(np.float64) * source.scale / target.grid.scale
        counted = np.zeros(1) if bias is None else bias.astype(np.float64).reshape(-1) / target.grid.scale
        shifts = np.broadcast_to(counted, factors.shape)
        return Requantise(factors.astype(np.float32), shifts.astype(np.float32), target)

    def fits(self, terms: int) -> bool:
        """Whether sums of so many products stay within 32 bits, counted in steps of the result, too."""
        most = np.abs(self.factors.astype(np.float64)) * (255 * 255 * terms) + np.abs(self.shifts)
        return terms <= MOST_TERMS and bool(np.all(most < 2**31 - 2**8))
