"""Which register tile a matrix product uses, and how work is split into tasks."""

from __future__ import annotations

from dataclasses import dataclass

from softneuro_core.device import Target
from softneuro_cpu_numba.emit.isa import lanes_of

TASKS_PER_THREAD = 4
HEAD_BYTES = 64
"""Of a thread's scratch where a kernel notes what it made last (``emit.tasks.once``)."""
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


@dataclass(frozen=True, slots=True)
class Cut:
    """A product's rows and panels of columns as tasks (``emit.tasks``): ``unit`` rows and ``panel_unit`` panels each;
    ``together`` row tasks that are neighbours may be done at once, as long as all panels are one task."""

    rows: int
    unit: int
    together: int
    panels: int = 1
    panel_unit: int = 1

    @property
    def row_tasks(self) -> int:
        return -(-self.rows // self.unit)

    @property
    def panel_tasks(self) -> int:
        return -(-self.panels // self.panel_unit)

    @property
    def tasks(self) -> int:
        return self.row_tasks * self.panel_tasks

    @property
    def most_rows(self) -> int:
        """That are done at once."""
        return min(self.together, self.row_tasks) * self.unit

    @property
    def words(self) -> tuple[int, ...]:
        """As the kernels read it: :attr:`row_words`, panel tasks, panels of each."""
        return (*self.row_words, self.panel_tasks, self.panel_unit)

    @property
    def row_words(self) -> tuple[int, int, int]:
        """Row tasks, rows of each, tasks done together."""
        return self.row_tasks, self.unit, min(self.together, self.row_tasks)


def split(count: int, unit: int, most: int, others: int, threads: int) -> int:
    """A block size, a multiple of ``unit`` and at most ``most``, so that ``others * blocks`` keeps all threads busy."""
    block = max(unit, min(most, -(-count // unit) * unit) // unit * unit)
    if threads > 1:
        wanted = -(-TASKS_PER_THREAD * threads // max(1, others))
        block = max(unit, min(block, -(-count // wanted + unit - 1) // unit * unit))
    return block
