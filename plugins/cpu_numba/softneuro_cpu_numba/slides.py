"""What ``emit.slide`` is given: how rows, kernel columns and channels are cut. Depthwise and pooling in NHWC use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass

from softneuro_core.device import Target
from softneuro_core.windows import Window
from softneuro_cpu_numba.emit.isa import find_isa, isa_of, lanes_of
from softneuro_cpu_numba.native import Argument, In, Out

OUTPUTS = {"avx512": 7, "avx2": 7, "sse": 6, "neon": 7}
"""Outputs of a tile: enough sums to hide the latency of an FMA, and room for up to 7 weights of a kernel row beside
them in 16 registers (AVX2 with 4, 7 and 8: the last two are equal, 4 up to 1.4 times slower). Without FMA a product
needs a register of its own."""
UNROLLED_COLUMNS, TILE_KINDS = 7, 8
"""Wider kernels, or rows that cut into more different tiles, run as loops over the taps: code would grow."""
LINE_BYTES = 64
CACHED_BYTES, CACHED_VECTORS = 24 << 10, 8
"""Input rows under one output row that should stay in the first-level cache, and the most vectors of channels taken
at once for it (measured at 14x14, 576 channels: 8 vectors 26 us, 16 28 us, all 31 us)."""


@dataclass(frozen=True, slots=True)
class Tile:
    """``repeats`` tiles from output ``first`` on; ``taps[q]``: the kernel columns of output ``q`` that lie inside."""

    first: int
    repeats: int
    taps: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        return len(self.taps)


@dataclass(frozen=True, slots=True)
class Columns:
    """Geometry along a row: pixels in and out, taps, output step, dilation, padding before."""

    width: int
    out: int
    kernel: int
    step: int
    dilation: int
    left: int

    def tiles(self, most: int) -> tuple[Tile, ...]:
        """The output row cut into tiles of about equal size, ``most`` at most; equal neighbours are one entry."""
        size = -(-self.out // -(-self.out // most))
        made: list[Tile] = []
        for first in range(0, self.out, size):
            taps = tuple(self._taps(o) for o in range(first, min(first + size, self.out)))
            if made and made[-1].taps == taps:
                made[-1] = Tile(made[-1].first, made[-1].repeats + 1, taps)
            else:
                made.append(Tile(first, 1, taps))
        return tuple(made)

    def _taps(self, output: int) -> tuple[int, ...]:
        places = ((j, output * self.step - self.left + j * self.dilation) for j in range(self.kernel))
        return tuple(j for j, at in places if 0 <= at < self.width)


@dataclass(frozen=True, slots=True)
class SlidePlan:
    """Parameters of the emitted kernel, its first arguments (``emit.slide.ARGUMENTS``), its number of tasks."""

    params: Mapping[str, object]
    args: tuple[Argument, ...]
    tasks: int


def row_params(window: Window, target: Target) -> Mapping[str, object]:
    """How the emitted code cuts an output row: parameters ``columns``, ``most`` and ``unrolled`` of ``emit.slide``."""
    shape = Columns(
        *(window.size[1], window.out[1], window.kernel[1]), *(window.strides[1], window.dilations[1], window.pads[1])
    )
    most = OUTPUTS[find_isa(isa_of(target)).name]
    unrolled = window.kernel[1] <= UNROLLED_COLUMNS and len(shape.tiles(most)) <= TILE_KINDS
    return {"columns": astuple(shape), "most": most, "unrolled": unrolled}


def plan_slide(window: Window, target: Target, itemsize: int = 4) -> SlidePlan:
    """``itemsize``: bytes of an input element."""
    lanes, channels = lanes_of(target), window.channels
    vectors = -(-channels // lanes)
    block = min(vectors, _block(window, lanes * itemsize))
    blocks = -(-vectors // block)
    return SlidePlan(
        {"channels": channels, **row_params(window, target)},
        (
            *(In(0), Out(0), window.size[0], window.out[0], window.pads[0]),
            *(window.kernel[0], window.strides[0], window.dilations[0], block, blocks),
        ),
        window.batch * blocks * window.out[0],
    )


def _block(window: Window, vector_bytes: int) -> int:
    """Vectors of channels a task works on: whole cache lines that stay cached for the next row; all, where only fewer
    would stay or no row is read twice (2x2 pooling of 256 channels at 56x56: 62 us instead of 81)."""
    line = max(1, LINE_BYTES // vector_bytes)
    fitting = CACHED_BYTES // (window.kernel[0] * window.size[1] * vector_bytes) // line * line
    reused = window.kernel[0] > window.strides[0] and fitting >= 2 * line
    return min(fitting, CACHED_VECTORS) if reused else window.channels
