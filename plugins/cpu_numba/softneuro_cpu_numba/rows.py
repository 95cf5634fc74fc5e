"""What ``emit.conv.rows`` is given: panels, tasks, the band's geometry.

Shared by convolution in NHWC and by matrix products with a constant factor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from softneuro_core.device import Target
from softneuro_core.phases import Scatter
from softneuro_core.spec import NHWC, Layout
from softneuro_core.windows import Window, image_strides
from softneuro_cpu_numba.band_shape import BandShape
from softneuro_cpu_numba.emit.isa import CACHE_LINE, find_isa, isa_of, lanes_of
from softneuro_cpu_numba.epilogues import Activation
from softneuro_cpu_numba.native import Argument, In, NativeKernel, Out, Pitch, aligned, emitted_address
from softneuro_cpu_numba.panels import Panels, cut
from softneuro_cpu_numba.short_weights import pack_short
from softneuro_cpu_numba.tiles import HEAD_BYTES, TASKS_PER_THREAD, Cut

BLOCK_BYTES = 256 * 1024
"""Rows of A one task reads for every panel: they should stay in the second-level cache beside a panel."""
Tiles = Mapping[str, tuple[tuple[int, int], ...]]
"""By ISA class, (rows, vectors)."""
TILES: Tiles = {
    "avx512": ((8, 3), (6, 4), (12, 2)),
    "avx2": ((6, 2), (4, 3)),
    "sse": ((6, 2),),  # without FMA a product needs a register of its own
    "neon": ((8, 3), (12, 2)),
}
"""Tiles (rows, vectors) that keep the multipliers busy without spilling; more rows than 12 run out of pointers."""
MOST_PLANES = 4
"""Channels of an NCHW image up to which their vectors are interleaved in registers."""
NARROW_ROWS = (8, 4, 2, 1)
"""Rows of a tile one vector wide: eight sums hide the latency of an FMA."""
GEMV_VECTORS = 8
MAX_STREAMED_ROWS = 4
"""Rows up to which a constant factor is read faster than it is multiplied, so that narrower storage can pay."""
STREAMED_BYTES, MOST_ROWS_ASKING = 1 << 20, 8
"""Weights from so many bytes on come from behind the second-level cache: while the tiles of a panel are computed, the
next panel is asked for. Otherwise memory waits for all tiles but the first, and that one for memory. Times without in
times with it, Sapphire Rapids, a core that reads 8 to 13 GB/s: Winograd F(4) of 256 channels at 28x28 1.17, at 14x14
1.09, of 512 at 14x14 1.11; 1x1, 2048 to 512 at 7x7, 1.16; 1 MB of weights 1.00 to 1.07; where one tile holds all rows
0.99. A tile of more rows has no register left for the address."""
WIDE_BYTES, REREAD_BYTES, WIDE_TILES = 512 << 10, 2 << 20, 4
"""A result of so many bytes, with more channels than the input, is written (and a residual read) by all panels for so
many tiles before the next: what is touched together then lies together, and weights of no more bytes than the second
are read again from the second-level cache (decision 0044; 2 to 16 tiles alike)."""
LONG_PANEL_BYTES = 1 << 20
"""Panels of more bytes leave no room for anything else in the second-level cache: a narrower tile is taken (512 to 512
channels, 3x3, stride 2 at 14x14: 4.0 ms in tiles of 8 by 3, 4.8 in 6 by 4)."""
AHEAD_BYTES, AHEAD_K = 512 << 10, 64
"""Least input, and least length of a sum, for which the next tile's pixels are asked for while one is computed. From
memory 144 to 24 channels at 56x56 then take 252 us instead of 482, 192 to 32 at 28x28 112 instead of 165, 256 to 64 at
56x56 1,207 instead of 1,398; from the third-level cache 1 % less. Where all is near it costs up to 2 %, and 6 % at 16
channels."""


def lines_ahead(tile: tuple[int, int], lanes: int, rows: int, weight_bytes: int) -> int:
    """Cache lines of the next panel that every step of a tile asks for (``emit.tile.Coming``), so that each of the
    tiles of ``rows`` rows asks for a share of it; 0 where that gains nothing."""
    tiles = -(-rows // tile[0])
    if tiles == 1 or weight_bytes < STREAMED_BYTES or tile[0] > MOST_ROWS_ASKING:
        return 0
    return -(-tile[1] * lanes // (CACHE_LINE * tiles))


def tile_choices(target: Target, rows: int, tiles: Tiles = TILES) -> tuple[tuple[int, int], ...]:
    """Tiles worth trying for a product of so many rows, of those that fit each ISA class."""
    return ((1, GEMV_VECTORS),) if rows <= 2 else tiles[find_isa(isa_of(target)).name]


def best_tile(target: Target, rows: int, columns: int, tiles: Tiles = TILES, depth: int = 0) -> tuple[int, int]:
    """The tile that computes the fewest columns, and of equal ones has the fewest narrow panels; ``depth``: rows of a
    panel, none of which is too long if that can be helped."""
    lanes = lanes_of(target)

    def waste(tile: tuple[int, int]) -> tuple[bool, int, int]:
        panels = cut(columns, tile[1], lanes)
        return 4 * depth * tile[1] * lanes > LONG_PANEL_BYTES, panels.columns, len(panels.starts) - panels.wide

    return min(tile_choices(target, rows, tiles), key=waste)


def activation_kind(activation: Activation) -> str:
    """Key of ``emit.activation.ACTIVATIONS``: no clipping where there is none."""
    if activation.kind == "clip" and activation.p1 == np.inf:
        return "none" if activation.p0 == -np.inf else "relu" if activation.p0 == 0.0 else "clip"
    return activation.kind


def result_places(scatter: Scatter | None, rows: int, columns: int) -> tuple[Argument, ...]:
    """``y_image``, ``y_row``, ``y_origin`` and ``y_offsets`` for stretches of so many rows; none where it is dense."""
    if scatter is None:
        return 0, 0, 0, None
    y, x = np.divmod(np.arange(rows * columns, dtype=np.int64), columns)
    return scatter.image, scatter.row, scatter.origin, aligned(y * scatter.row + x * scatter.column)


@dataclass(frozen=True, slots=True)
class RowProduct:
    """y[pixel, group * N + n] = windows(x) @ matrix[group] + bias, + residual, activated; y is NHWC or a matrix.

    ``window`` None is a plain product of ``rows`` rows. ``residual`` is the number of the added input; weights are
    kept ``stored`` as float32, float16, bfloat16, int8 or int16 and widened on the way into the tile; sums of int8
    count ``factors`` each, by column. ``x`` and ``scale`` are the numbers of the input and of K factors for the rows of
    the matrix (dense pixels of one image only). ``pairs``: input and matrix are words of two bfloat16, which channels
    and K count; ``result`` is how y and the residual are stored.
    """

    matrix: np.ndarray  # (groups, K, N) or (groups, taps, channels, N), perhaps a view; K runs over (kh, kw, channel)
    bias: np.ndarray | None  # (groups * N,)
    activation: Activation
    residual: int | None
    rows: int = 0
    window: Window | None = None
    layout: Layout = NHWC
    stored: str = "float32"
    scatter: Scatter | None = None
    x: int = 0
    scale: int | None = None
    pairs: bool = False
    result: str = "float32"
    factors: np.ndarray | None = None  # (groups * N,)

    @property
    def is_flat(self) -> bool:
        if self.window is None:
            return True
        return self.window.is_pointwise and self.layout == NHWC and self.scatter is None

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Groups, K, N."""
        groups, *depth, n = self.matrix.shape
        return groups, math.prod(depth), n

    @property
    def count(self) -> int:
        """Rows of the result."""
        return self.rows if self.window is None else self.window.batch * self.window.pixels

    def kernel(self, target: Target, tile: tuple[int, int] | None = None) -> NativeKernel:
        """The prepared step; packs the weights."""
        isa, lanes = isa_of(target), lanes_of(target)
        groups, k, n = self.sizes
        tile = tile or best_tile(target, self.count, n, depth=k)
        panels, source = cut(n, tile[1], lanes), self._source()
        parts = self._cut(target, tile, len(panels.starts))
        together = parts.most_rows * (1 if self.is_flat else self._pixels()[2])
        address = emitted_address(
            *("conv", "rows", isa),
            pieces=tuple(range(tile[0], 0, -1)),
            vectors=tile[1],
            narrow_pieces=NARROW_ROWS if tile[0] > 1 else (1,),
            source=source,
            planes=self.window.channels if self.window is not None and source == "planes" else 0,
            act=activation_kind(self.activation),
            residual=self.residual is not None,
            few=n if n < lanes else 0,
            stored=self.stored,
            scattered=self.scatter is not None,
            scaled=self.scale is not None,
            pairs=self.pairs,
            result=self.result,
            lines=lines_ahead(tile, lanes, together, 4 * k * n) if self.stored == "float32" else 0,
            ask_ahead=self.is_flat and tile[0] > 1 and k >= AHEAD_K and 4 * self.count * k >= AHEAD_BYTES,
        )
        images, rows, columns = self._pixels()
        bias = np.zeros(groups * n, np.float32) if self.bias is None else self.bias
        args: list[Argument] = [
            *(In(self.x), self._pack(panels), panels.pack(bias.reshape(groups, 1, n))),
            *(None if self.residual is None else In(self.residual), Out(0)),
            *(aligned(np.array(panels.starts, np.int64)), *parts.words),
            *(rows, columns, *self._input_steps(), n, self._pitch(), panels.wide, len(panels.starts), k),
            *self._places(parts.most_rows),
            *result_places(self.scatter, parts.most_rows, columns),
            None if self.scale is None else In(self.scale),
            None if self.factors is None else panels.pack(self.factors.reshape(groups, 1, n)),
            *(self.activation.p0, self.activation.p1, *self._band()),
        ]
        return NativeKernel(address, tuple(args), images * groups * parts.tasks, self._scratch(parts.most_rows))

    def _pack(self, panels: Panels) -> np.ndarray:
        if self.stored == "int16":
            return pack_short(panels, self.matrix.reshape(self.sizes))
        return panels.pack(self.matrix, self.stored)

    def _source(self) -> str:
        if self.is_flat:
            return "pointwise"
        assert self.window is not None
        whole = len(self.matrix) == 1 and self._shape().take == (1, 1) and self.window.pads[1] >= 0
        if self.layout != NHWC:
            return "planes" if whole and self.window.channels <= MOST_PLANES else "planar"
        return "runs" if whole else "pixels"

    def _pixels(self) -> tuple[int, int, int]:
        """Images, output rows and columns as the kernel counts them."""
        if self.is_flat:
            return 1, self.count, 1
        assert self.window is not None
        return self.window.batch, *self.window.out

    def _input_steps(self) -> tuple[int, int, int, int]:
        """Floats between images, groups, channels of a group, floats between channels."""
        groups, k, _ = self.sizes
        if self.window is None:
            return 0, groups, k, 1
        shape = (self.window.batch, self.window.channels, *self.window.size)
        xn, xc, _, _ = image_strides(self.layout, shape)
        return (0 if self.is_flat else xn), groups, self.window.channels // groups, xc

    def _shape(self) -> BandShape:
        assert self.window is not None
        return BandShape.of(self.window, self.window.channels // len(self.matrix))

    def _places(self, stretch: int) -> tuple[Argument, ...]:
        """``ld_a``, pixels' places, and the runs of K."""
        if self.is_flat:
            ld = self.sizes[1] if self.window is None else self.window.channels
            return ld, None, 0, 0, None
        shape = self._shape()
        run, taps = shape.runs()
        return 0, aligned(shape.offsets(stretch)), run, len(taps), aligned(taps)

    def _pitch(self) -> Argument:
        """Floats between two pixels of the result. A residual is read as the result is written: then both are dense."""
        return self.sizes[0] * self.sizes[2] if self.window is None or self.residual is not None else Pitch()

    def _band(self) -> tuple[int, ...]:
        if self.is_flat:
            return ()
        assert self.window is not None
        shape = (self.window.batch, self.window.channels, *self.window.size)
        _, xc, xh, xw = image_strides(self.layout, shape)
        return self._shape().words((xh, xw, xc))

    def _scratch(self, stretch: int) -> int:
        return 0 if self.is_flat else HEAD_BYTES + 4 * self._shape().elements(stretch)

    def _cut(self, target: Target, tile: tuple[int, int], panels: int) -> Cut:
        """Where the threads need more tasks than the rows give, panels are cut too. Where cutting rows would have more
        weights read again than cutting panels has input, only those are."""
        images, rows, columns = self._pixels()
        groups, k, n = self.sizes
        if self.is_flat:
            unit, most = tile[0], max(1, BLOCK_BYTES // (4 * k * tile[0]))
            if n > k and 4 * n * k <= REREAD_BYTES and 4 * rows * n >= WIDE_BYTES:
                most = min(most, WIDE_TILES)
        else:
            band = self._shape()
            unit, most = 1, next((s for s in range(rows, 1, -1) if 4 * band.elements(s) <= BLOCK_BYTES), 1)
        cut = Cut(rows, unit, most, panels, panels)
        wanted = TASKS_PER_THREAD * target.threads
        if target.threads == 1 or images * groups * -(-cut.row_tasks // most) >= wanted:
            return cut
        if n * k > rows * columns * k // self._taps() and panels >= target.threads:
            return Cut(rows, unit * min(most, cut.row_tasks), 1, panels, 1)
        return cut if images * groups * cut.row_tasks >= wanted else Cut(rows, unit, 1, panels, 1)

    def _taps(self) -> int:
        return 1 if self.window is None else self.window.kernel[0] * self.window.kernel[1]
