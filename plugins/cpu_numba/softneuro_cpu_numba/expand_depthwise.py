"""A pointwise Conv and the depthwise Conv behind it as one step: inverted bottlenecks, separable blocks.

The tensor between them, up to six times the size of either end, is computed a panel of channels at a time and read
from the core's own cache. The kernel is ``emit.bottleneck``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass

import numpy as np

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import SUMS, Kernel, Offer, Routine
from softneuro_core.windows import NHWC_F32, Window
from softneuro_cpu_numba.conv_direct import Convolution, convolution_of
from softneuro_cpu_numba.depthwise import by_vector
from softneuro_cpu_numba.emit.isa import isa_of, lanes_of
from softneuro_cpu_numba.native import In, NativeKernel, Out, aligned, emitted_address
from softneuro_cpu_numba.panels import Panels, cut
from softneuro_cpu_numba.rows import NARROW_ROWS, activation_kind, best_tile, tile_choices
from softneuro_cpu_numba.slides import LINE_BYTES, Columns, row_params

BAND_BYTES = 1024 * 1024
"""Input rows of a band. Every panel reads them, at a few bytes a cycle, so they may come from the third-level cache;
rows between two bands cost more than that (16 to 96 at 112x112, step 2: 548 us in four bands, 525 in one)."""
STEP_BYTES = 256 * 1024
"""Rows of a panel that exist at a time: they stay in the second-level cache. As few as the first level holds make
tiles uneven and are copied on too often (24 to 144 at 56x56: 357 us in 24 KB, 343 in 256 KB)."""

SHARED_LINES = 1.1
"""How much longer threads take for panels that are no whole cache lines (40 to 240 at 28x28, step 2, two threads: ten
panels of 24 channels 112 us, fifteen of 16 100 us, though the thread with most to do has more)."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The region's two halves; ``slide`` works on as many channels as ``expand`` makes."""

    expand: Convolution
    slide: Convolution

    @property
    def window(self) -> Window:
        return self.slide.window

    @property
    def down(self) -> Columns:
        """Geometry of the windows along a column of the image."""
        w = self.window
        return Columns(w.size[0], w.out[0], w.kernel[0], w.strides[0], w.dilations[0], w.pads[0])

    @property
    def expand_work(self) -> int:
        """Products a row of the expanded image takes, for each channel."""
        return self.expand.k * self.window.size[1]

    @property
    def slide_work(self) -> int:
        """The same for a row of the result."""
        return self.window.kernel[0] * self.window.kernel[1] * self.window.out[1]

    def fewest_bands(self) -> int:
        """As few as keep the input rows of a band in :data:`BAND_BYTES`."""
        out, row = self.window.out[0], 4 * self.window.size[1] * self.expand.k
        most = next((b for b in range(out, 1, -1) if row * self.rows_under(b) <= BAND_BYTES), 1)
        return -(-out // most)

    def rows_under(self, band: int) -> int:
        """Rows of the expanded image a band of output rows reads, at most."""
        return min(self.window.size[0], self.window.rows_under(band))


def find_pair(region: Region) -> Pair | None:
    """The region as Conv 1x1 [+ Add] [+ activation], depthwise Conv [+ Add] [+ activation], float32; or None."""
    places = [i for i, layer in enumerate(region.layers) if layer.op == "Conv"]
    if len(places) != 2 or places[0] != 0:
        return None
    halves = region.layers[: places[1]], region.layers[places[1] :]
    expand, slide = (convolution_of(Region(region.graph, layers)) for layers in halves)
    if expand is None or slide is None or halves[1][0].inputs[0] is not halves[0][-1].outputs[0]:
        return None
    if expand.groups != 1 or not expand.window.is_pointwise or expand.epilogue.residual is not None:
        return None
    if not slide.is_depthwise or slide.out_channels != slide.groups or slide.epilogue.residual is not None:
        return None
    return Pair(expand, slide)


class ExpandDepthwise(Routine):
    """Conv 1x1 [+ constant] [+ activation] and depthwise Conv [+ constant] [+ activation], float32, NHWC."""

    name = "cpu/expand_depthwise"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        for tail in epilogue_regions(graph, exit, ("Conv",)):
            source = tail[0].inputs[0]
            maker = None if source is None else graph.producers.get(source)
            if maker is None or int(tail[0].attrs.get("group", 1)) < 2:
                continue
            for head in epilogue_regions(graph, maker, ("Conv",)):
                layers = (*head, *tail)
                if int(head[0].attrs.get("group", 1)) == 1 and Region(graph, layers).is_legal():
                    yield layers

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        pair = find_pair(region)
        if pair is None:
            return
        cuts = _cuts(pair, target)
        again = max(1.0, cuts.bands * pair.rows_under(cuts.band) / pair.window.size[0])
        flops = pair.expand.flops * again + pair.slide.flops
        yield Offer((NHWC_F32,), (NHWC_F32,), accuracy=SUMS, flops=flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        pair = find_pair(region)
        assert pair is not None
        return _kernel(pair, target)


@dataclass(frozen=True, slots=True)
class Cuts:
    """Panels of the expanded channels, and how many make a task; bands of an image, output rows of a band, and how
    many of them are computed in one step."""

    tile: tuple[int, int]
    panels: Panels
    per_task: int
    bands: int
    band: int
    step: int

    @property
    def panel_tasks(self) -> int:
        return -(-len(self.panels.starts) // self.per_task)


def _cuts(pair: Pair, target: Target) -> Cuts:
    """Bands are as few as the cache wants, because the rows between two are computed twice; panels are what threads
    share, and where these do not come out even, narrower ones or more bands."""
    channels, pixels = pair.slide.groups, max(3, pair.expand.window.pixels)
    fewest = pair.fewest_bands()
    if target.threads == 1:
        return _cut_by(pair, target, best_tile(target, pixels, channels), fewest)
    most = min(pair.window.out[0], fewest + 2 * target.threads)
    tried = (
        _cut_by(pair, target, tile, bands) for tile in tile_choices(target, pixels) for bands in range(fewest, most + 1)
    )
    return min(tried, key=lambda cuts: _longest(pair, cuts, target))


def _cut_by(pair: Pair, target: Target, tile: tuple[int, int], bands: int) -> Cuts:
    window, lanes = pair.window, lanes_of(target)
    panels = cut(pair.slide.groups, tile[1], lanes)
    count, out = len(panels.starts), window.out[0]
    per_task = count if target.threads == 1 else 1
    band = -(-out // bands)
    row = 4 * window.size[1] * tile[1] * lanes
    step = next((b for b in range(band, 1, -1) if row * pair.rows_under(b) <= STEP_BYTES), 1)
    return Cuts(tile, panels, per_task, -(-out // band), band, -(-band // -(-band // step)))


def _longest(pair: Pair, cuts: Cuts, target: Target) -> float:
    """Work of the thread that has most to do, in products."""
    turns = -(-pair.window.batch * cuts.bands * cuts.panel_tasks // target.threads)
    width = max(cuts.panels.widths())
    columns = cuts.per_task * width * (SHARED_LINES if 4 * width % LINE_BYTES else 1)
    return turns * columns * (pair.expand_work * pair.rows_under(cuts.band) + pair.slide_work * cuts.band)


def _kernel(pair: Pair, target: Target) -> NativeKernel:
    lanes, window, channels, k = lanes_of(target), pair.window, pair.slide.groups, pair.expand.k
    cuts = _cuts(pair, target)
    panels, rows, wide = cuts.panels, cuts.tile[0], cuts.tile[1]
    vectors = [s + v for s, width in zip(panels.starts, panels.widths(), strict=True) for v in range(0, width, lanes)]
    acts = [half.epilogue.activation for half in (pair.expand, pair.slide)]
    biases = [np.zeros(channels) if half.bias is None else half.bias for half in (pair.expand, pair.slide)]
    address = emitted_address(
        *("bottleneck", "expand_depthwise", isa_of(target)),
        pieces=tuple(range(rows, 0, -1)),
        vectors=wide,
        narrow_pieces=NARROW_ROWS,
        channels=channels,
        rows=astuple(pair.down),
        acts=tuple(map(activation_kind, acts)),
        **row_params(window, target),
    )
    pitch = (wide if channels >= lanes else 1) * lanes
    matrix = pair.expand.weights.reshape(1, channels, k).transpose(0, 2, 1)
    return NativeKernel(
        address,
        (
            *(In(0), panels.pack(matrix), by_vector(biases[0][:, None], vectors, lanes)),
            by_vector(pair.slide.weights.reshape(channels, -1), vectors, lanes),
            *(by_vector(biases[1][:, None], vectors, lanes), Out(0), aligned(np.array(panels.starts, np.int64))),
            *(cuts.bands, cuts.panel_tasks, cuts.band, cuts.step, cuts.per_task, panels.wide, len(panels.starts), k),
            *(number for act in acts for number in (act.p0, act.p1)),
        ),
        window.batch * cuts.bands * cuts.panel_tasks,
        4 * pair.rows_under(cuts.step) * window.size[1] * pitch,
    )
