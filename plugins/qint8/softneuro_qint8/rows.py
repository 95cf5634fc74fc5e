"""What ``emit.rows`` is given: panels of weights, tasks, the band's geometry. Conv, Gemm and MatMul share it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from softneuro_cpu_numba.band_shape import BandShape
from softneuro_cpu_numba.emit.isa import dot_isa_of, isa_of, lanes_of
from softneuro_cpu_numba.native import Argument, In, NativeKernel, Out, Pitch, aligned, emitted_address
from softneuro_cpu_numba.panels import Panels, cut
from softneuro_cpu_numba.probe import works
from softneuro_cpu_numba.rows import NARROW_ROWS, Tiles, best_tile, result_places
from softneuro_cpu_numba.tiles import HEAD_BYTES, TASKS_PER_THREAD, Cut

from softneuro_core.device import Target
from softneuro_core.phases import Scatter
from softneuro_core.windows import Window
from softneuro_qint8.numbers import Requantise
from softneuro_qint8.residual import FIRST, Residual, added_words

BLOCK_BYTES = 128 << 10
"""Copied rows of a task: they stay in the second-level cache beside a panel of weights."""
STREAMED_PIXELS = 2
"""Most pixels for which weights are kept in 8 bits and widened whenever they are read: one instruction a vector."""
MOST_SPREAD = 8
"""Channels up to which several pixels are made whole words at once, where a vector then holds whole pixels."""
QUADS = "quads"
PACKED = {"int16": (2, "int16", "int32"), "int8": (2, "int8", "int16"), QUADS: (4, "int8", "int32")}
"""Elements of a word of weights, their type, and the word as one integer, by ``emit.words.WORDS``."""
TILES: Tiles = {
    "avx512": ((8, 3), (12, 2)),
    "avx2": ((6, 2),),  # 4 by 3 spills
    "sse": ((4, 2),),  # without broadcasting loads a pair needs a register of its own
    "neon": ((4, 3), (4, 2)),
}
"""Tiles (pixels, vectors of output channels) that keep sums and factors in registers."""


def quads_isa(target: Target) -> str | None:
    """What to compile products of words of four bytes for; None where the processor has none that work."""
    isa = dot_isa_of(target)
    return isa if isa and works("softneuro_qint8.probes:quads", target) else None


@dataclass(frozen=True, slots=True, eq=False)
class IntegerRows:
    """y[pixel, group * N + n] = requantise(windows(x - zero) @ weights[group]), NHWC or a matrix."""

    window: Window
    weights: np.ndarray  # int16 or int8 (groups, taps, channels of a group, N), perhaps a view
    finish: Requantise | None
    zero: np.ndarray | In
    """The input's zero point (one element of its type), or which input holds it."""
    signed: bool
    result: str = "rounded"
    x: In = FIRST
    residual: Residual | None = None
    pitched: bool = False
    """As the offer says of the result."""
    scatter: Scatter | None = None
    """Where the result's pixels lie, if they are not dense."""

    def kernel(self, target: Target, stored: str | None = None) -> NativeKernel:
        """The prepared step; packs the weights, ``stored`` as a key of :data:`PACKED` (the best, unless given)."""
        lanes, window = lanes_of(target), self.window
        groups, taps, channels, n = self.weights.shape
        stored = stored or self._stored(target)
        isa = dot_isa_of(target) if stored == QUADS else isa_of(target)
        word = PACKED[stored][0]
        element = 4 // word
        tile = best_tile(target, window.batch * window.pixels, n, TILES)
        panels, band = cut(n, tile[1], lanes), BandShape.of(window, -(-channels // word) * word)
        parts = self._cut(band, element, target, tile[0], len(panels.starts))
        together, rest = groups == 1 and band.take == (1, 1), channels % word
        spreads = rest and together and band.channels in range(word, MOST_SPREAD + 1, word) and 8 % band.channels == 0
        address = emitted_address(
            *("softneuro_qint8.emit.rows", "rows", isa),
            pieces=tuple(range(tile[0], 0, -1)),
            vectors=tile[1],
            narrow_pieces=NARROW_ROWS if tile[0] > 1 else (1,),
            source="runs" if spreads or (together and not rest) else "pixels",
            few=(channels, band.channels) if spreads else None,
            signed=self.signed,
            result=self.result,
            masked=n < lanes,
            stored=stored,
            rounding=(True, False) if self.finish is None else self.finish.target.finish,
            residual=None if self.residual is None else self.residual.grid.is_signed,
            scattered=self.scatter is not None,
        )
        run, run_offsets = band.runs()
        sums = self.weights.sum((1, 2), dtype=np.int32) if stored == QUADS else None
        factors, shifts = (None, None) if self.finish is None else (self.finish.factors, self.finish.shifts)
        args: list[Argument] = [
            *(self.x, self.zero if isinstance(self.zero, In) else aligned(self.zero.reshape(1))),
            *(_packed(self.weights, stored, band.channels, panels), _by_panel(panels, groups, sums, "int32")),
            *(_by_panel(panels, groups, factors), _by_panel(panels, groups, shifts)),
            *(Out(0), aligned(np.array(panels.starts, np.int64))),
            *(*parts.words, *window.out),
            *(window.channels * window.size[0] * window.size[1], groups, channels, band.channels, n),
            Pitch() if self.pitched else groups * n,
            *(panels.wide, len(panels.starts), taps * band.channels // word, run // word, len(run_offsets)),
            *(aligned(run_offsets), aligned(band.offsets(parts.most_rows))),
            *((0, 0, 0) if self.finish is None else self.finish.target.words),
            *added_words(self.residual, self.finish),
            *result_places(self.scatter, parts.most_rows, window.out[1]),
            *band.words((window.channels * window.size[1], window.channels, 1)),
        ]
        scratch = HEAD_BYTES + element * band.elements(parts.most_rows)
        return NativeKernel(address, tuple(args), window.batch * groups * parts.tasks, scratch)

    def _stored(self, target: Target) -> str:
        """How weights are stored: as few bytes as the processor multiplies, or widens while it waits for them."""
        least, most = self.weights.min(initial=0), self.weights.max(initial=0)
        are_bytes = least >= -128 and most <= 127
        if are_bytes and quads_isa(target):
            return QUADS
        return "int8" if self._is_streamed and are_bytes else "int16"

    @property
    def _is_streamed(self) -> bool:
        """Whether reading the weights is the work: they are used for a few pixels only."""
        return self.window.batch * self.window.pixels <= STREAMED_PIXELS

    def _cut(self, band: BandShape, element: int, target: Target, pixels: int, panels: int) -> Cut:
        """By output rows, at least a tile of ``pixels``; by panels, too, where they are too few for the threads."""
        (rows, columns), others = self.window.out, self.window.batch * len(self.weights)
        most = next((n for n in range(rows, 1, -1) if element * band.elements(n) <= BLOCK_BYTES), 1)
        unit = min(most, -(-pixels // columns))
        cut = Cut(rows, unit, max(1, most // unit), panels, panels)
        if target.threads == 1 or others * cut.row_tasks >= TASKS_PER_THREAD * target.threads:
            return cut
        return Cut(rows, unit, 1, panels, 1)


def _packed(weights: np.ndarray, stored: str, whole: int, panels: Panels) -> np.ndarray:
    """[group][panel][word][column][element], zeros where there are no channels; a word is one integer."""
    groups, taps, channels, n = weights.shape
    count, element, word = PACKED[stored]
    words = np.zeros((groups, taps, whole // count, n, count), element)
    for c in range(count):
        words[:, :, : len(range(c, channels, count)), :, c] = weights[:, :, c::count]
    return panels.pack(words.view(word)[..., 0], word)


def _by_panel(panels: Panels, groups: int, numbers: np.ndarray | None, dtype: str = "float32") -> np.ndarray | None:
    return None if numbers is None else panels.pack(numbers.reshape(groups, 1, -1), dtype)
