"""Which register tile a matrix product uses, and how work is split into tasks."""

from __future__ import annotations

from dataclasses import dataclass

from softneuro_core.device import Target
from softneuro_cpu_numba.emit.isa import lanes_of

TASKS_PER_THREAD = 4
ROWS_TOGETHER = (4, 3, 2, 1)
"""Rows of a softmax or normalisation computed side by side: one alone waits for its own sums."""


@dataclass(frozen=True, slots=True)
class Tile:
    """``rows`` x ``vectors * lanes`` accumulators."""

    rows: int
    vectors: int
    lanes: int

    @property
    def columns(self) -> int:
        return self.vectors * self.lanes

    @property
    def bytes(self) -> int:
        return self.rows * self.columns * 4

    def params(self) -> dict[str, int]:
        return {"mr": self.rows, "vectors": self.vectors, "lanes": self.lanes}


def _candidates(target: Target) -> tuple[tuple[Tile, float], ...]:
    """Tiles that fit the registers, with their speed relative to the best (AVX2: 86, 88, 60 GFLOP/s on Zen 4)."""
    lanes = lanes_of(target)
    if lanes == 16:
        return ((Tile(12, 2, 16), 1.0), (Tile(8, 3, 16), 1.0), (Tile(8, 1, 16), 0.7))
    return ((Tile(6, 2, lanes), 1.0), (Tile(4, 3, lanes), 1.0), (Tile(8, 1, lanes), 0.65))


def tile_for_rows(target: Target, rows: int, columns: int) -> Tile:
    """The tile that wastes least when ``columns`` are packed in its width; a flat one for one or two rows."""
    if rows <= 2:
        lanes = lanes_of(target)
        return Tile(1, 8 if columns > 4 * lanes else 4, lanes)
    return min(_candidates(target), key=lambda t: -(-columns // t[0].columns) * t[0].columns / t[1])[0]


def split(count: int, unit: int, most: int, others: int, threads: int) -> int:
    """A block size, a multiple of ``unit`` and at most ``most``, so that ``others * blocks`` keeps all threads busy."""
    block = max(unit, min(most, -(-count // unit) * unit) // unit * unit)
    if threads > 1:
        wanted = -(-TASKS_PER_THREAD * threads // max(1, others))
        block = max(unit, min(block, -(-count // wanted + unit - 1) // unit * unit))
    return block
