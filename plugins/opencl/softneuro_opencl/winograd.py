"""Conv by Winograd's minimal filtering (``kernels/winograd.cl``): transforms of tiles around a product for each of
their positions. Matrices come from ``softneuro_core.cook_toom``, exact."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import numpy as np

from softneuro_core.cook_toom import Matrix, Transform
from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import Kernel, Offer
from softneuro_core.winograd_tile import Tile
from softneuro_opencl.conv_rows import products_launch
from softneuro_opencl.convolutions import Convolution, convolution_of
from softneuro_opencl.device import OpenCLDevice
from softneuro_opencl.launches import Argument, Constant, In, Launch, OpenCLKernel, Out, Scratch, grouped
from softneuro_opencl.routine import OpenCLRoutine

OUTPUTS = (2, 4)
SAVING = 0.9
"""A larger tile is offered if it needs at most this share of the products of the one before (the first: of all)."""
FILE = "winograd.cl"
PRODUCTS = ((14, 2), (8, 2), (7, 2), (6, 4), (4, 4), (2, 4), (1, 4))
"""(pixels, vectors) of the products, tiles being their pixels: the first that computes the fewest."""


class Winograd(OpenCLRoutine):
    """Conv [+ Add] [+ activation] of one group, no dilation, float32; ``m`` is the side of a tile's results."""

    algorithm = "winograd"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("Conv",))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        conv, lanes = convolution_of(region), self.opencl(target).lanes
        if conv is None or conv.groups != 1 or conv.window.dilations != (1, 1):
            return
        if min(conv.window.channels, conv.out_channels) < lanes:
            return
        least = float(np.prod(conv.window.kernel))
        for m in OUTPUTS:
            tile = Tile.of(conv.window, m)
            if tile is None or tile.products > SAVING * least:
                continue
            least = tile.products
            ends = [self.nhwc] * len(region.inputs), [self.nhwc]
            yield Offer(
                *ends, {"m": m}, accuracy=tile.accuracy, flops=conv.flops * tile.products / conv.weights[0, 0].size
            )

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        conv = convolution_of(region)
        assert conv is not None
        tile = Tile.of(conv.window, int(offer.params["m"]))
        assert tile is not None
        return _kernel(self.opencl(target), conv, tile)


def _kernel(device: OpenCLDevice, conv: Convolution, tile: Tile) -> OpenCLKernel:
    window, finish, lanes = conv.window, conv.finish, device.lanes
    tiles = tile.count(window) * window.batch
    channels, out_channels = window.channels, conv.out_channels
    data_floats, sums_floats = tile.positions * tiles * channels, tile.positions * tiles * out_channels
    grid = (*tile.grid(window), tiles)
    defines = {"LANES": lanes, **_matrices(tile)}
    forward = Launch(
        *(FILE, "forward", defines),
        (In(0), Scratch(), channels, *window.size, *window.pads[:2], *grid),
        *_over(device, -(-channels // lanes), tiles),
    )
    taps = np.ascontiguousarray(conv.weights.reshape(out_channels, channels, -1).transpose(2, 1, 0))
    filters = tile.filters(taps)  # [position, channel, output channel]
    fitting = [(pixels, vectors) for pixels, vectors in PRODUCTS if pixels <= tiles]
    pixels, vectors = min(fitting, key=lambda tile: -(-tiles // tile[0]) * tile[0])
    products = products_launch(device, filters, tiles, pixels, vectors, Scratch(), Scratch(data_floats))
    arguments: tuple[Argument, ...] = (
        *(Scratch(data_floats), Constant(device, finish.bias)),
        *(None if finish.residual is None else In(finish.residual), Out(0)),
        *(out_channels, *window.out, *grid, finish.activation.p0, finish.activation.p1),
    )
    backward = Launch(
        *(FILE, "backward", {**defines, **finish.defines}, arguments),
        *_over(device, -(-out_channels // lanes), tiles),
    )
    return OpenCLKernel(device, (forward, products, backward), 4 * (data_floats + sums_floats))


def _over(device: OpenCLDevice, vectors: int, tiles: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Items and groups of a transform."""
    return (vectors, tiles), grouped((vectors, tiles), device.most_items)


def _matrices(tile: Tile) -> dict[str, object]:
    made: dict[str, object] = {}
    for side, transform, (_, _, stride) in (("Y", tile.vertical, tile.down), ("X", tile.horizontal, tile.along)):
        made |= _side(side, transform, stride)
    return made


def _side(side: str, transform: Transform, stride: int) -> dict[str, object]:
    return {
        f"OUT_{side}": transform.outputs,
        f"SIZE_{side}": transform.size,
        f"PIXELS_{side}": transform.pixels,
        f"STEP_{side}": stride,
        f"APPLY_BT_{side}(o, i)": applied(transform.bt),
        f"APPLY_AT_{side}(o, i)": applied(transform.at),
    }


def applied(matrix: Matrix) -> str:
    """``o`` = matrix @ ``i`` as statements, terms without a product first."""
    return " ".join(f"o({row}) = {_sum(terms)};" for row, terms in enumerate(matrix))


def _sum(terms: tuple[Fraction, ...]) -> str:
    words = ""
    for c, k in sorted(((c, k) for k, c in enumerate(terms) if c), key=lambda term: abs(term[0]) != 1):
        sign = "-" if c < 0 else "+" if words else ""
        factor = "" if abs(c) == 1 else f"{float(abs(c))!r}f * "
        words += f" {sign} {factor}i({k})"
    return words.strip() or "0.0f"
