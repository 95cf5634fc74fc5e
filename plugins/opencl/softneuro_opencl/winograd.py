"""Conv by Winograd's minimal filtering (``kernels/winograd.cl``): transforms of tiles around a product for each of
their positions. Matrices come from ``softneuro_core.cook_toom``, exact."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import product

import numpy as np

from softneuro_core.cook_toom import Matrix, Transform
from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import Kernel, Offer
from softneuro_core.spec import NHWC
from softneuro_core.winograd_tile import Tile
from softneuro_opencl.conv_tiles import SIDE, tiles_products
from softneuro_opencl.convolutions import Convolution, convolution_of
from softneuro_opencl.device import OpenCLDevice
from softneuro_opencl.launches import Argument, Constant, In, Launch, OpenCLKernel, Out, Scratch, grouped
from softneuro_opencl.programs import Defines
from softneuro_opencl.register_tiles import Products, Tiling, packed, rows_products
from softneuro_opencl.routine import OpenCLRoutine, accuracy_in, storage

OUTPUTS = (2, 4)
ROWS, TILES = "rows", "tiles"
"""The kernels that make the products."""
SAVING = 0.9
"""A larger tile is offered if it needs at most this share of the products of the one before (the first: of all)."""
FILE = "winograd.cl"
BAND_BYTES, LEAST_TILES = 1 << 20, 28
"""Of the transformed tiles of a band, which are written and read again: half of a core's own cache as they are built
today. A band has at least so many tiles, under which its filters are read once."""
PRODUCTS = ((14, 2), (8, 2), (7, 2), (6, 4), (4, 4), (2, 4), (1, 4))
"""(pixels, vectors) of the products, tiles being their pixels: the first that computes the fewest."""


class Winograd(OpenCLRoutine):
    """Conv [+ Add] [+ activation] of one group, no dilation, float32; ``m`` is the side of a tile's results. An image
    is done in ``bands`` of tiles, one after the other."""

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
            flops = conv.flops * tile.products / conv.weights[0, 0].size
            for spec, (by, bands) in product(self.storages(NHWC), _ways(conv, tile, self.opencl(target))):
                ends, accuracy = ([spec] * len(region.inputs), [spec]), accuracy_in(spec, tile.accuracy)
                yield Offer(*ends, {"m": m, "by": by, "bands": bands}, accuracy=accuracy, flops=flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        conv = convolution_of(region)
        assert conv is not None
        tile = Tile.of(conv.window, int(offer.params["m"]))
        assert tile is not None
        return _kernel(self.opencl(target), conv, tile, offer)


def _ways(conv: Convolution, tile: Tile, device: OpenCLDevice) -> Iterator[tuple[str, int]]:
    """How the products are made, and in how many bands: tiles in local memory take the whole image at once."""
    yield from ((ROWS, bands) for bands in _bands(conv, tile))
    if device.most_items >= SIDE * SIDE:
        yield TILES, 1


def _bands(conv: Convolution, tile: Tile) -> list[int]:
    """Into how many bands of tiles the image may be cut: into one, and so that one is near :data:`BAND_BYTES`."""
    tiles = tile.count(conv.window) * conv.window.batch
    nbytes = 4 * tile.positions * (conv.window.channels + conv.out_channels) * tiles
    return sorted({1, max(1, min(nbytes // BAND_BYTES, tiles // LEAST_TILES))})


def _products(
    device: OpenCLDevice, matrices: np.ndarray, by: str, counts: Sequence[int], sums: Scratch
) -> list[Launch]:
    """Of transformed tiles by filters [position, channel, output], for bands of so many tiles, nearly the same number
    each."""
    entries, depth, columns = matrices.shape
    every = [Products(entries, count, depth, columns) for count in counts]
    if by == TILES:
        filters = Constant(device, matrices)
        return [tiles_products(one, Scratch(), filters, sums, {}) for one in every]
    fitting = [(pixels, vectors) for pixels, vectors in PRODUCTS if pixels <= min(counts)]
    pixels, vectors = min(fitting, key=lambda shape: -(-counts[0] // shape[0]) * shape[0])
    tiling = Tiling(pixels, vectors, device.lanes)
    filters = packed(device, matrices, tiling)
    return [rows_products(device, one, tiling, Scratch(), filters, sums, {}) for one in every]


def _kernel(device: OpenCLDevice, conv: Convolution, tile: Tile, offer: Offer) -> OpenCLKernel:
    """Band by band, all in the scratch of the largest; filters and what is transformed are float32 in any case."""
    window, channels, columns = conv.window, conv.window.channels, conv.out_channels
    tiles = tile.count(window) * window.batch
    counts = [len(band) for band in np.array_split(np.arange(tiles), int(offer.params["bands"]))]
    taps = np.ascontiguousarray(conv.weights.reshape(columns, channels, -1).transpose(2, 1, 0))
    sums = Scratch(tile.positions * counts[0] * channels)
    products = _products(device, tile.filters(taps), str(offer.params["by"]), counts, sums)
    bias = Constant(device, conv.finish.bias)
    defines = {"LANES": device.lanes, **_matrices(tile), **storage(offer.outputs[0])}
    launches: list[Launch] = []
    first = 0
    for count, multiplied in zip(counts, products, strict=True):
        grid = (*tile.grid(window), first, count)
        launches += [
            _forward(device, conv, defines, grid),
            multiplied,
            _backward(device, conv, defines, grid, sums, bias),
        ]
        first += count
    return OpenCLKernel(device, tuple(launches), 4 * tile.positions * counts[0] * (channels + columns))


Grid = tuple[int, int, int, int]
"""Rows and columns of tiles of an image, the first tile of a band and how many it has."""


def _forward(device: OpenCLDevice, conv: Convolution, defines: Defines, grid: Grid) -> Launch:
    window = conv.window
    arguments = (In(0), Scratch(), window.channels, *window.size, *window.pads[:2], *grid)
    return Launch(FILE, "forward", defines, arguments, *_over(device, -(-window.channels // device.lanes), grid[3]))


def _backward(
    device: OpenCLDevice, conv: Convolution, defines: Defines, grid: Grid, sums: Scratch, bias: Constant
) -> Launch:
    finish, columns = conv.finish, conv.out_channels
    arguments: tuple[Argument, ...] = (
        *(sums, bias, None if finish.residual is None else In(finish.residual), Out(0)),
        *(columns, *conv.window.out, *grid, finish.activation.p0, finish.activation.p1),
    )
    work = _over(device, -(-columns // device.lanes), grid[3])
    return Launch(FILE, "backward", {**defines, **finish.defines}, arguments, *work)


def _over(device: OpenCLDevice, vectors: int, tiles: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Items and groups of a transform."""
    return (vectors, tiles), grouped((vectors, tiles), device)


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
