"""A pointwise Conv and the depthwise Conv behind it as one step: inverted bottlenecks, separable blocks.

The tensor between them, up to six times the size of either end, is computed a panel of channels at a time and read
from the core's own cache. The kernel is ``emit.bottleneck``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import numpy as np

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import SUMS, Kernel, Offer, Routine
from softneuro_cpu_numba.conv_direct import Convolution, convolution_of
from softneuro_cpu_numba.depthwise import by_vector
from softneuro_cpu_numba.emit.isa import isa_of, lanes_of
from softneuro_cpu_numba.native import In, NativeKernel, Out, aligned, emitted_address
from softneuro_cpu_numba.rows import NARROW_ROWS, activation_kind, best_tile, cut
from softneuro_cpu_numba.slides import Columns, row_params
from softneuro_cpu_numba.tiles import split
from softneuro_cpu_numba.windows import NHWC_F32, Window

if TYPE_CHECKING:
    from softneuro_core.testing.case import Case

BAND_BYTES = 1024 * 1024
"""Input rows of a band. Every panel reads them, at a few bytes a cycle, so they may come from the third-level cache;
rows between two bands cost more than that (16 to 96 at 112x112, step 2: 548 us in four bands, 525 in one)."""
STEP_BYTES = 256 * 1024
"""Rows of a panel that exist at a time: they stay in the second-level cache. As few as the first level holds make
tiles uneven and are copied on too often (24 to 144 at 56x56: 357 us in 24 KB, 343 in 256 KB)."""


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

    def rows_under(self, band: int) -> int:
        """Rows of the expanded image a band of output rows reads, at most."""
        down = self.down
        return min(down.width, (band - 1) * down.step + (down.kernel - 1) * down.dilation + 1)


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
        bands, band, *_ = _cuts(pair, 1, Target(target.device, 1, target.isa))
        again = bands * pair.rows_under(band) / pair.window.size[0]
        flops = pair.expand.flops * max(1.0, again) + pair.slide.flops
        yield Offer((NHWC_F32,), (NHWC_F32,), accuracy=SUMS, flops=flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        pair = find_pair(region)
        assert pair is not None
        return _kernel(pair, target)


def _kernel(pair: Pair, target: Target) -> NativeKernel:
    lanes, window, channels, k = lanes_of(target), pair.window, pair.slide.groups, pair.expand.k
    tile = best_tile(target, max(3, pair.expand.window.pixels), channels)
    panels = cut(channels, tile[1], lanes)
    count = len(panels.starts)
    vectors = [s + v for s, width in zip(panels.starts, panels.widths(), strict=True) for v in range(0, width, lanes)]
    acts = [half.epilogue.activation for half in (pair.expand, pair.slide)]
    biases = [np.zeros(channels) if half.bias is None else half.bias for half in (pair.expand, pair.slide)]
    address = emitted_address(
        *("bottleneck", "expand_depthwise", isa_of(target)),
        pieces=tuple(range(tile[0], 0, -1)),
        vectors=tile[1],
        narrow_pieces=NARROW_ROWS,
        channels=channels,
        rows=astuple(pair.down),
        acts=tuple(map(activation_kind, acts)),
        **row_params(window, target),
    )
    bands, band, step, per_task = _cuts(pair, count, target)
    panel_tasks = -(-count // per_task)
    pitch = (tile[1] if channels >= lanes else 1) * lanes
    matrix = pair.expand.weights.reshape(1, channels, k).transpose(0, 2, 1)
    return NativeKernel(
        address,
        (
            *(In(0), panels.pack(matrix), by_vector(biases[0][:, None], vectors, lanes)),
            by_vector(pair.slide.weights.reshape(channels, -1), vectors, lanes),
            *(by_vector(biases[1][:, None], vectors, lanes), Out(0), aligned(np.array(panels.starts, np.int64))),
            *(bands, panel_tasks, band, step, per_task, panels.wide, count, k),
            *(number for act in acts for number in (act.p0, act.p1)),
        ),
        window.batch * bands * panel_tasks,
        4 * pair.rows_under(step) * window.size[1] * pitch,
    )


def _cuts(pair: Pair, panels: int, target: Target) -> tuple[int, int, int, int]:
    """Bands of an image, output rows of a band, panels of a task. Bands are only as many as the cache wants: rows
    between two are computed twice, panels are not, so more threads cut those."""
    window = pair.window
    x_row, row = (4 * window.size[1] * n for n in (pair.expand.k, 2 * lanes_of(target)))
    most = next((b for b in range(window.out[0], 1, -1) if x_row * pair.rows_under(b) <= BAND_BYTES), 1)
    bands = -(-window.out[0] // most)
    band = -(-window.out[0] // bands)
    bands = -(-window.out[0] // band)
    step = next((b for b in range(band, 1, -1) if row * pair.rows_under(b) <= STEP_BYTES), 1)
    step = -(-band // -(-band // step))
    return bands, band, step, split(panels, 1, panels, window.batch * bands, target.threads)


def conformance_cases() -> list[Case]:
    """For the kit: an inverted bottleneck's first half, and one with constants and no activation."""
    from onnx.helper import make_node

    from softneuro_core.testing.case import Case, normal

    made = []
    for name, channels, stride, tail in (("relu", 40, 2, "Relu"), ("plain", 3, 1, "")):
        nodes = [
            make_node("Conv", ["x", "w", "b"], ["e"]),
            *([make_node(tail, ["e"], ["a"])] if tail else []),
            make_node("Conv", ["a" if tail else "e", "v"], ["d"], group=channels, strides=[stride] * 2, pads=[1] * 4),
            *([make_node(tail, ["d"], ["y"])] if tail else []),
        ]
        constants = {"w": normal(channels, 9, 1, 1), "b": normal(channels), "v": normal(channels, 1, 3, 3)}
        made.append(Case(f"expand-depthwise-{name}", tuple(nodes), {"x": normal(2, 9, 8, 7)}, constants))
    return made
