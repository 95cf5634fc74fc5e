"""Winograd's minimal filtering F(m, r) by the Cook-Toom construction, in exact fractions.

Source: Winograd, Arithmetic Complexity of Computations (1980); Lavin and Gray, arXiv 1509.09308; the choice of points
follows Barabasz et al., arXiv 1803.10986. y = AT [(G g) * (BT d)] for m outputs of a filter g of r taps. A filter that
moves by ``stride`` is the sum of ``stride`` filters on every stride-th pixel, each minimal by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np

Matrix = tuple[tuple[Fraction, ...], ...]
HALF = Fraction(1, 2)
POINTS: dict[int, tuple[Fraction, ...]] = {
    n: tuple(Fraction(p) for p in points)
    for n, points in {
        0: (),
        1: (0,),
        2: (0, 1),
        3: (0, 1, -1),
        4: (0, 1, -1, 2),
        5: (0, 1, -1, HALF, -2),
        6: (0, 1, -1, HALF, -HALF, 2),
        7: (0, 1, -1, HALF, -HALF, 2, -2),
    }.items()
}
"""Interpolation points for m + r - 2 of them (the last one is infinity). Five points with 1/2 and -2 have half the
error of the usual 0, 1, -1, 2, -2 (measured for F(4, 3): rms 7.8e-7 against 1.15e-6)."""

FILTER_BLOCK = 4096
"""Filters transformed at once."""


@dataclass(frozen=True, slots=True)
class Transform:
    """The three matrices: ``at`` m x n, ``g`` n x r, ``bt`` n x pixels; for stride 1 n = pixels = m + r - 1."""

    at: Matrix
    g: Matrix
    bt: Matrix

    @property
    def size(self) -> int:
        return len(self.bt)

    @property
    def outputs(self) -> int:
        return len(self.at)

    @property
    def pixels(self) -> int:
        return len(self.bt[0])


def _product(roots: tuple[Fraction, ...]) -> list[Fraction]:
    """Coefficients, lowest first, of the polynomial with these roots."""
    made = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *made], [root * c for c in made] + [Fraction(0)]
        made = [a - b for a, b in zip(shifted, scaled, strict=True)]
    return made


def phases(taps: int, stride: int) -> list[int]:
    """How many of ``taps`` fall on each of ``stride`` interleaved inputs."""
    return [len(range(phase, taps, stride)) for phase in range(min(stride, taps))]


@cache
def transform(m: int, r: int, stride: int = 1) -> Transform:
    """F(m, r) of a filter that moves by ``stride``: the rows of its phases, one below the other."""
    pixels = (m - 1) * stride + r
    at: list[list[Fraction]] = [[] for _ in range(m)]
    g, bt = [], []
    for phase, taps in enumerate(phases(r, stride)):
        part = _minimal(m, taps)
        g += [_spread(row, r, phase, stride) for row in part.g]
        bt += [_spread(row, pixels, phase, stride) for row in part.bt]
        for row, more in zip(at, part.at, strict=True):
            row += more
    return Transform(tuple(map(tuple, at)), tuple(g), tuple(bt))


def _spread(row: tuple[Fraction, ...], length: int, first: int, step: int) -> tuple[Fraction, ...]:
    made = [Fraction(0)] * length
    made[first : first + step * len(row) : step] = row
    return tuple(made)


def _minimal(m: int, r: int) -> Transform:
    """F(m, r) of stride 1."""
    points = POINTS[m + r - 2]
    others = [tuple(p for p in points if p != point) for point in points]
    bt = [(*_product(rest), Fraction(0)) for rest in others] + [tuple(_product(points))]
    g, columns = [], []
    for point, rest in zip(points, others, strict=True):
        norm = Fraction(1)
        for other in rest:
            norm *= point - other
        g.append(tuple(point**k / norm for k in range(r)))
        columns.append([point**i for i in range(m)])
    g.append((Fraction(0),) * (r - 1) + (Fraction(1),))
    columns.append([Fraction(0)] * (m - 1) + [Fraction(1)])
    at = tuple(tuple(column[i] for column in columns) for i in range(m))
    return Transform(at, tuple(g), tuple(bt))


def small_vectors(rows: Transform, columns: Transform) -> int:
    """Vectors of scratch the transforms of one tile need."""
    results = rows.outputs * columns.outputs
    return max(rows.size * columns.pixels, results + rows.outputs * columns.size)


def filtered(rows: Transform, columns: Transform, taps: np.ndarray) -> np.ndarray:
    """Transformed filters [n_y * n_x, C, OC] of taps [r_y * r_x, C, OC], in float64, rounded once to float32."""
    both = np.kron(*(np.array([[float(x) for x in row] for row in t.g]) for t in (rows, columns)))
    flat = taps.reshape(len(taps), -1)
    made = np.empty((len(both), flat.shape[1]), np.float32)
    for first in range(0, flat.shape[1], FILTER_BLOCK):  # a block of float64 stays in the cache
        part = slice(first, first + FILTER_BLOCK)
        made[:, part] = both @ flat[:, part].astype(np.float64)
    return made.reshape(len(both), *taps.shape[1:])
