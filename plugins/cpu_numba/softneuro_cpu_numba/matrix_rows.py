"""What ``emit.matrix`` is given: tiles, panels of weights, tasks, and where the rows of each tile lie in the band.

Shared by products of bfloat16 and of 8-bit integers: all is counted in words of 32 bits, two or four elements of k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from softneuro_core.phases import Scatter
from softneuro_core.windows import Window
from softneuro_cpu_numba.amx import SIDE, Tiles, room_bytes, tile_config
from softneuro_cpu_numba.band_shape import BandShape
from softneuro_cpu_numba.copies import strided_copy
from softneuro_cpu_numba.native import Argument, Pitch, aligned, packed
from softneuro_cpu_numba.tiles import HEAD_BYTES, TASKS_PER_THREAD, Cut

PANEL = 2 * SIDE
"""Output channels of a panel."""
BLOCK_BYTES = 512 << 10
"""Of the band of a task: it stays in the second-level cache beside a panel of weights."""
NEAR_BYTES = 192 << 10
"""Weights of more bytes are asked for ahead (decision 0044). Weights of no more are read again for every two tiles of
1x1 layers with more outputs than inputs, so that results are written, and residuals read, a pixel behind the other: 64
to 256 at 56x56 with a residual takes 0.6 of the time, 128 to 512 at 28x28 0.8 (256 to 64: 1.05)."""
FAR_BYTES = 1 << 20
"""Weights of more are asked for in four places at a time, others in two: a core reads more streams faster."""
NOWHERE = -1


@dataclass(frozen=True, eq=False)
class MatrixRows:
    """Windows of ``words`` words a pixel, by ``outputs`` output channels. ``in_place``: x is read where it lies, pixel
    behind pixel (pointwise only, and not with ``scatter``: where the pixels of a result lie that is not dense)."""

    window: Window
    words: int
    outputs: int
    in_place: bool
    threads: int
    scatter: Scatter | None = None
    parts: int = 1
    """Numbers of bfloat16 a factor is the sum of; those of pixels lie in a band each (not in place)."""

    @cached_property
    def band(self) -> BandShape:
        return BandShape.of(self.window, self.words)

    @cached_property
    def _run(self) -> tuple[int, np.ndarray]:
        """Words of a run of k, and where each begins."""
        return (self.words, np.zeros(1, np.int64)) if self.in_place else self.band.runs()

    @cached_property
    def step(self) -> int:
        """Words of k in a step: as many as divide a run."""
        return next(n for n in range(min(SIDE, self._run[0]), 0, -1) if self._run[0] % n == 0)

    @cached_property
    def _is_linear(self) -> bool:
        """Whether tiles run on over the ends of output rows, through pixels that are no result: where that makes fewer
        tiles than beginning each row anew."""
        if self.band.step != (1, 1):
            return False
        rows, columns = self.window.out
        return -(-((rows - 1) * self.band.span + columns) // SIDE) <= rows * -(-columns // SIDE)

    @cached_property
    def tile_rows(self) -> int:
        """Rows of a tile: fewer than 16 where the last would be nearly empty otherwise."""
        count = self.window.batch * self.window.pixels if self.in_place else self.window.out[1]
        if not self.in_place and self._is_linear:
            return SIDE
        return -(-count // -(-count // SIDE))

    @property
    def tiles(self) -> Tiles:
        taps = 1 if self.in_place else math.prod(self.window.kernel)
        weight_bytes = 4 * self.parts * taps * self.words * self.outputs
        plain = Tiles(self.tile_rows, self.step, parts=self.parts)
        if weight_bytes <= NEAR_BYTES:
            return replace(plain, pixels_first=self.window.is_pointwise and self.outputs > 2 * self.words)
        pairs = -(-self._tiles_together // 2)
        if pairs == 1:
            return replace(plain, ahead=True)
        streams = 4 if weight_bytes > FAR_BYTES else 2
        return replace(plain, lines=-(-2 * self.parts * self.step // (streams * pairs)), streams=streams)

    @property
    def _tiles_together(self) -> int:
        """Of a stretch."""
        if self.in_place:
            return -(-self.cut.most_rows // self.tile_rows)
        _, counts, _, _ = self._tables
        return int(counts[-1])

    @property
    def panels(self) -> int:
        return -(-self.outputs // PANEL)

    @property
    def last(self) -> tuple[int, int]:
        """Vectors of the last panel, and channels of its last vector where that is not full, else 0."""
        rest = self.outputs - (self.panels - 1) * PANEL
        return -(-rest // SIDE), rest % SIDE

    @property
    def columns(self) -> int:
        """Output channels computed."""
        return (self.panels - 1) * PANEL + self.last[0] * SIDE

    @property
    def source(self) -> str:
        """How the band reads x (``emit.band.Band``)."""
        if self.in_place:
            return "pointwise"
        return "runs" if self.window.reads_runs else "pixels"

    @cached_property
    def cut(self) -> Cut:
        """Tasks: a pair of tiles or what rows of the output make one; panels are cut where those are too few."""
        (rows, columns), images, wanted = self.window.out, self.window.batch, TASKS_PER_THREAD * self.threads
        if self.in_place:
            rows, unit, images = self.window.batch * self.window.pixels, 2 * self.tile_rows, 1
            most = max(1, BLOCK_BYTES // (4 * self.words * unit))
        else:
            unit = min(rows, -(-2 * SIDE // columns))
            fits = (n for n in range(rows, unit, -1) if 4 * self.parts * self.band.elements(n) <= BLOCK_BYTES)
            together = next(fits, unit)
            most = together // unit
            if self.threads == 1 or images * -(-rows // unit) < wanted:
                # blocks alike: a last one of few rows reads all weights, too (512 channels at 7x7: 560 us, else 310)
                unit, most = -(-rows // -(-rows // together)), 1
        cut = Cut(rows, unit, most, self.panels, self.panels)
        if self.threads == 1 or images * cut.row_tasks >= wanted:
            return cut
        return Cut(rows, unit * min(most, cut.row_tasks), 1, self.panels, 1)

    @property
    def tasks(self) -> int:
        return (1 if self.in_place else self.window.batch) * self.cut.tasks

    @property
    def scratch(self) -> int:
        """Bytes of a thread: sums on their way, and the band with what tiles read behind it."""
        sums = HEAD_BYTES + room_bytes(self.tile_rows)
        if self.in_place:
            return sums
        return sums + 4 * self.parts * self._apart

    @property
    def _apart(self) -> int:
        """Words of a band, with what tiles read behind it."""
        words = self.band.elements(self.cut.most_rows) + self.tile_rows * self._pitch
        return -(-words // SIDE) * SIDE

    @property
    def _pitch(self) -> int:
        """Words between two rows of a tile."""
        return self.words * (1 if self.in_place else self.band.step[1])

    def config(self) -> np.ndarray:
        return aligned(tile_config(self.tile_rows, self.step))

    def words_of(self, x_image: int, pitched: bool) -> list[Argument]:
        """``emit.matrix.ARGUMENTS`` from ``row_tasks`` on; ``x_image``: elements between images; ``pitched``: whether
        the result's pixels may lie further apart."""
        run, offsets = self._run
        result = self._result
        pitch = 0 if self.in_place else self.words
        panel_words = self.parts * len(offsets) * run * PANEL
        return [
            *(*self.cut.words, self.cut.rows, result.image, result.row, result.origin, x_image, pitch, self._pitch),
            Pitch() if pitched else self.outputs,
            *(self.panels, panel_words),
            *(len(offsets), run // self.step, 0 if self.in_place else self._apart),
            *((None,) * 4 if self.in_place else map(aligned, self._tables)),
        ]

    @cached_property
    def _result(self) -> Scatter:
        rows, columns = self.window.out
        return self.scatter or Scatter(rows * columns, columns, 1, 0)

    @cached_property
    def _tables(self) -> tuple[np.ndarray, ...]:
        """Where runs begin; tiles by output rows of a stretch; where each tile begins, and the pixels of its rows."""
        most, tile = self.cut.most_rows, self.tile_rows
        columns, span = self.window.out[1], self.band.span
        if self._is_linear:
            counts = [-(-((n - 1) * span + columns) // tile) if n else 0 for n in range(most + 1)]
            position = np.arange(counts[-1] * tile, dtype=np.int64)
            firsts = position[::tile] * self.words
            y, x = np.divmod(position, span)
        else:
            across = -(-columns // tile)
            counts = [n * across for n in range(most + 1)]
            row, part = np.divmod(np.arange(most * across, dtype=np.int64), across)
            firsts = (row * self.band.step[0] * span + part * tile * self.band.step[1]) * self.words
            y = np.repeat(row, tile)
            x = (part[:, None] * tile + np.arange(tile)).reshape(-1)
        pixels = np.where(x < columns, y * self._result.row + x * self._result.column, NOWHERE)
        return self._run[1], np.array(counts, np.int64), firsts, pixels

    def pack(self, matrix: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """[taps, channels, outputs], of ``dtype`` or to be rounded to it, as [panel][step][part][vector][word][channel]
        [element of a word]; zeros where a word has more elements than there are channels, and behind the outputs. Of
        two parts the first is what rounding leaves of the second (``emit.matrix.ROUNDS``)."""
        group = 4 // dtype.itemsize
        shape = (self.parts * matrix.shape[0] * self.words * group * self.columns,)
        recipe = ("matrix", self.words, self.step, self.outputs, str(dtype), self.parts)
        return packed(recipe, matrix, shape, dtype, lambda made: self.fill(made, matrix))

    def fill(self, made: np.ndarray, matrix: np.ndarray) -> None:
        """Writes what :meth:`pack` gives."""
        taps, channels, outputs = matrix.shape
        group = 4 // made.dtype.itemsize
        steps = taps * self.words // self.step
        whole = self.columns // PANEL * PANEL
        for part in range(self.parts):
            source = np.zeros((taps, self.words * group, self.columns), made.dtype)
            own = source[:, :channels, :outputs]
            own[:] = matrix
            if part < self.parts - 1:
                own[:] = matrix - own.astype(matrix.dtype)
            split = source.reshape(steps, self.step, group, self.columns)
            at = 0
            for columns in (split[..., :whole], split[..., whole:]):
                panels, size = -(-columns.shape[-1] // PANEL), self.parts * columns.size
                if panels:
                    vectors = columns.shape[-1] // panels // SIDE
                    shape = (panels, steps, self.parts, vectors, self.step, SIDE, group)
                    view = columns.reshape(steps, self.step, group, panels, vectors, SIDE)
                    strided_copy(made[at : at + size].reshape(shape)[:, :, part], view.transpose(3, 0, 4, 1, 5, 2))
                    at += size


def padded(row: np.ndarray | None, columns: int, dtype: type) -> np.ndarray:
    """Numbers of the output channels, zeros behind them."""
    made = np.zeros(columns, dtype)
    if row is not None:
        made[: len(row)] = row
    return aligned(made)
