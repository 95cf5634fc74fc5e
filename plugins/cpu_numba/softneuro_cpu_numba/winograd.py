"""Convolution by Winograd's minimal filtering, NHWC: any window, stride and dilation where it saves products.

F(m x m, 3 x 3) needs (m + 2)^2 / 9 m^2 of the multiplications (F(2) 0.44, F(4) 0.25, F(6) 0.20), more memory for
the filters (1.8, 4, 7.1 times) and loses accuracy as m grows. With stride 2 the filter's even and odd taps are filtered
apart, on every other pixel: (2 m + 1)^2 / 9 m^2 (F(2) 0.69, F(4) 0.56).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import Kernel, Offer, Routine
from softneuro_core.spec import BFLOAT16
from softneuro_core.windows import NHWC_F32, as_window, window_of
from softneuro_core.winograd_tile import Tile
from softneuro_cpu_numba.amx import SIDE, Tiles, has_matrix_unit, tile_config
from softneuro_cpu_numba.conv_direct import Convolution, convolution_of
from softneuro_cpu_numba.copies import strided_copy
from softneuro_cpu_numba.emit.isa import isa_of, lanes_of
from softneuro_cpu_numba.epilogues import Epilogue, pitched_result
from softneuro_cpu_numba.matrix_rows import NEAR_BYTES, MatrixRows
from softneuro_cpu_numba.native import Argument, In, NativeKernel, Out, Pitch, aligned, emitted_address, packed
from softneuro_cpu_numba.panels import Panels, cut
from softneuro_cpu_numba.rows import NARROW_ROWS, activation_kind, best_tile, lines_ahead
from softneuro_cpu_numba.tiles import HEAD_BYTES, TASKS_PER_THREAD, Cut

OUTPUTS = (2, 4, 6)
"""What a tile may be on a side; on a side of one tap it is one output, for nothing is saved there."""
SAVING = 0.9
"""A larger tile is offered if it needs at most this share of the products of the one before (the first: of all)."""
BLOCK_BYTES = (512 << 10, 8 << 20)
"""Least and most memory for the transformed input and the products of one block of tiles, which should stay in the
caches between the phases. In between a quarter of the filters', which are read once a block (measured with 1 MB L2,
32 MB L3: 512 channels at 28x28 12.5 ms in 8 MB, 16 ms in 1 MB; 64 channels at 56x56 no difference)."""
MONOTONE = frozenset(("none", "relu", "clip", "sigmoid", "tanh", "hardsigmoid"))
"""Activations before which the largest may be taken as well as behind them."""
AMX = "amx"
PAIRED_CHANNELS = 2 * SIDE
"""Of a step of the matrix unit; output channels fill its tiles."""
SPLIT_ACCURACY = {4: 4e-5, 6: 1e-4}
"""As ``winograd_tile.ACCURACY``, of factors split in two of bfloat16: seen 1.2e-5 and 4.7e-5."""
MIN_CHANNELS = 16
"""Below this the transforms cost more than the products save; no vector is longer."""


def _filter_of(region: Region) -> tuple[Convolution, int] | None:
    """The region's convolution and how many outputs a side are pooled to one, or None."""
    *before, last = region.layers
    pool = 2 if before and _halves(last) else 1
    conv = convolution_of(region if pool == 1 else Region(region.graph, tuple(before)))
    if conv is None or conv.groups != 1:
        return None
    window = conv.window
    if pool > 1 and (window.kernel.count(1) or window.dilations != (1, 1) or not _may_pool(conv.epilogue)):
        return None
    return None if min(window.channels, conv.out_channels) < MIN_CHANNELS else (conv, pool)


def _halves(layer: Layer) -> bool:
    """Whether it is MaxPool 2x2 of stride 2 that takes nothing from outside the image."""
    x = layer.inputs[0] if layer.op == "MaxPool" and len(layer.results) == 1 else None
    if x is None or not x.is_static or not layer.results[0].is_static:
        return False
    window = window_of(layer, x.static_shape, layer.results[0].static_shape, layer.attrs["kernel_shape"])
    if window is None or (window.kernel, window.strides, window.dilations) != ((2, 2), (2, 2), (1, 1)):
        return False
    return not any(window.pads) and window.out == (window.size[0] // 2, window.size[1] // 2)


def _may_pool(epilogue: Epilogue) -> bool:
    return epilogue.residual is None and activation_kind(epilogue.activation) in MONOTONE


class Winograd(Routine):
    """Conv [+ Add] [+ activation] [+ MaxPool 2x2], float32; the parameter ``m`` is the tile's side."""

    name = "cpu/winograd"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        yield from epilogue_regions(graph, exit, ("Conv",))
        x = exit.inputs[0] if _halves(exit) else None
        inner = None if x is None else graph.producers.get(x)
        if inner is not None:
            for layers in epilogue_regions(graph, inner, ("Conv",)):
                if Region(graph, (*layers, exit)).is_legal():
                    yield (*layers, exit)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        found = _filter_of(region)
        if found is None:
            return
        conv, _ = found
        window, least = conv.window, math.prod(conv.window.kernel)
        for m in OUTPUTS:
            tile = Tile.of(window, m)
            if tile is None or tile.products > SAVING * least or not (m == 2 or tile.fits(window)):
                continue
            least = tile.products
            flops = 2.0 * tile.count(window) * window.batch * tile.positions * window.channels * conv.out_channels
            ends = ((NHWC_F32,) * len(region.inputs), (NHWC_F32,))
            pitched = pitched_result(region, conv.epilogue.residual)
            yield Offer(*ends, {"m": m}, accuracy=tile.accuracy, flops=flops, pitched=pitched)
            error = _split_error(conv, tile, target)
            if error is not None:
                yield Offer(*ends, {"m": m, "unit": AMX}, accuracy=error, flops=flops, pitched=pitched)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        found = _filter_of(region)
        assert found is not None
        conv, pool = found
        tile = Tile.of(conv.window, int(offer.params["m"]))
        assert tile is not None
        if offer.params.get("unit") == AMX:
            return _kernel_on_matrix_unit(conv, pool, tile, target)
        return _kernel(conv, pool, tile, target)


def _split_error(conv: Convolution, tile: Tile, target: Target) -> float | None:
    """Error of factors split in two of bfloat16, None where a matrix unit cannot do it fast or well enough."""
    if conv.window.channels % PAIRED_CHANNELS or conv.out_channels % SIDE or not has_matrix_unit(target, "AMX_BF16"):
        return None
    return min((error for most, error in SPLIT_ACCURACY.items() if tile.products_a_side <= most), default=None)


def _kernel(conv: Convolution, pool: int, tile: Tile, target: Target) -> NativeKernel:
    lanes, channels, out_channels = lanes_of(target), conv.window.channels, conv.out_channels
    rows, vectors = best_tile(target, tile.count(conv.window), out_channels)
    rows, vectors = (rows, vectors) if rows > 1 else (1, 2)
    panels = cut(out_channels, vectors, lanes)
    parts = _cut(conv, tile, target, rows, len(panels.starts))
    how = {
        "pieces": tuple(range(rows, 0, -1)),
        "vectors": vectors,
        "narrow_pieces": NARROW_ROWS,
        "lines": lines_ahead((rows, vectors), lanes, parts.most_rows, _filter_bytes(conv, tile)),
    }
    room = Room(parts, channels, parts.most_rows * channels + lanes, 0, parts.most_rows * out_channels + lanes)
    starts = aligned(np.array(panels.starts, np.int64))
    weights = _filters(conv, tile, panels)
    return _step(conv, pool, tile, target, room, how, (weights, starts, panels.wide, None))


def _kernel_on_matrix_unit(conv: Convolution, pool: int, tile: Tile, target: Target) -> NativeKernel:
    channels, out_channels = conv.window.channels, conv.out_channels
    tiles = tile.count(conv.window)
    products = MatrixRows(as_window(tiles, channels), channels // 2, out_channels, False, target.threads, parts=2)
    parts = _cut(conv, tile, target, 2 * SIDE, products.panels)
    blocks = -(-min(parts.most_rows, tiles) // SIDE)
    how = {"tiles": _unit_tiles(-(-blocks // 2), _filter_bytes(conv, tile)), "last": products.last[0]}
    apart = blocks * SIDE * channels // 2 + SIDE
    room = Room(parts, channels // 2, 2 * apart, apart, blocks * SIDE * out_channels + SIDE)
    weights, config = _unit_filters(conv, tile, products), aligned(tile_config(SIDE, SIDE))
    return _step(conv, pool, tile, target, room, how, (weights, None, 0, config))


@dataclass(frozen=True, slots=True)
class Room:
    """Tasks, and in floats: of a tile's transformed channels, between positions of them, between the parts of a
    position, and between positions of the products."""

    parts: Cut
    row: int
    position: int
    apart: int
    sums: int


def _filter_bytes(conv: Convolution, tile: Tile) -> int:
    return 4 * tile.positions * conv.window.channels * conv.out_channels


def _cut(conv: Convolution, tile: Tile, target: Target, rows: int, panels: int) -> Cut:
    """Tasks of ``rows`` tiles, and of panels where those are too few."""
    window, tiles = conv.window, tile.count(conv.window)
    bytes_a_tile, filter_bytes = 4 * tile.positions * (window.channels + conv.out_channels), _filter_bytes(conv, tile)
    most = max(2, min(max(filter_bytes // 4, BLOCK_BYTES[0]), BLOCK_BYTES[1]) // (bytes_a_tile * rows))
    parts = Cut(tiles, rows, most, panels, panels)
    too_few = target.threads > 1 and -(-parts.row_tasks // most) * window.batch < TASKS_PER_THREAD * target.threads
    if too_few and filter_bytes > bytes_a_tile * tiles:  # filters read again cost more than transforms by every thread
        return Cut(tiles, parts.most_rows, 1, panels, 1)
    return parts


def _unit_tiles(pairs: int, filter_bytes: int) -> Tiles:
    """``pairs`` of tiles are done with a panel."""
    plain = Tiles(SIDE, SIDE, parts=2)
    if filter_bytes <= NEAR_BYTES:
        return plain
    return replace(plain, ahead=True) if pairs == 1 else replace(plain, lines=-(-SIDE // pairs), streams=4)


def _step(
    conv: Convolution,
    pool: int,
    tile: Tile,
    target: Target,
    room: Room,
    how: Mapping[str, Any],
    weights: tuple[np.ndarray, np.ndarray | None, int, np.ndarray | None],
) -> NativeKernel:
    """``how``: what ``emit.winograd`` is given of its products; ``weights``: the filters, where panels begin, how many
    are wide, shapes of the registers."""
    window, parts = conv.window, room.parts
    channels, out_channels, residual = window.channels, conv.out_channels, conv.epilogue.residual
    filters, starts, wide, config = weights
    activation = conv.epilogue.activation
    address = emitted_address(
        *("winograd", "winograd", isa_of(target)),
        down=tile.down,
        along=tile.along,
        act=activation_kind(activation),
        residual=residual is not None,
        pool=pool,
        **how,
    )
    bias = np.zeros(out_channels, np.float32) if conv.bias is None else conv.bias.astype(np.float32)
    args: list[Argument] = [
        *(In(0), filters, aligned(bias), None if residual is None else In(residual), Out(0), starts),
        *(*window.size, channels, *window.pads[:2], *(size // pool for size in window.out)),
        *(out_channels, *tile.grid(window), *parts.words, parts.panels, wide),
        *(room.row, room.position, room.sums, *window.dilations, Pitch() if residual is None else out_channels),
        *(room.apart, config, activation.p0, activation.p1),
    ]
    floats = tile.scratch_vectors * lanes_of(target) + tile.pixels * channels
    floats += tile.positions * (room.position + room.sums)
    return NativeKernel(address, tuple(args), window.batch * parts.tasks, HEAD_BYTES + 4 * floats)


def _filters(conv: Convolution, tile: Tile, panels: Panels) -> np.ndarray:
    """[position][panel][channel][width]: the filters transformed and packed."""

    def fill(made: np.ndarray) -> None:
        panels.fill(made, tile.filters(_taps(conv))[:, None])

    shape = (tile.positions, conv.window.channels * panels.columns)
    return packed(("winograd", tile, panels), conv.weights, shape, np.dtype(np.float32), fill)


def _taps(conv: Convolution) -> np.ndarray:
    """The weights as [taps, channels, output channels]."""
    out_channels, channels, *kernel = conv.weights.shape
    taps = np.empty((math.prod(kernel), channels, out_channels), np.float32)
    strided_copy(taps, conv.weights.reshape(out_channels, channels, -1).transpose(2, 1, 0))
    return taps


def _unit_filters(conv: Convolution, tile: Tile, products: MatrixRows) -> np.ndarray:
    """The filters of each position as ``products`` packs them."""

    def fill(made: np.ndarray) -> None:
        for place, filters in zip(made, tile.filters(_taps(conv)), strict=True):
            products.fill(place, filters[None])

    shape = (tile.positions, 2 * conv.window.channels * conv.out_channels)
    return packed(("winograd matrix", tile), conv.weights, shape, BFLOAT16.numpy, fill)
