"""What ``emit.winograd_products`` is given: tasks, the filters transformed and packed, and room for what lies between
the transforms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from softneuro_core.device import Target
from softneuro_core.spec import BFLOAT16
from softneuro_core.windows import as_window
from softneuro_core.winograd_tile import Tile
from softneuro_cpu_numba.amx import SIDE, Tiles, tile_config
from softneuro_cpu_numba.conv_direct import Convolution
from softneuro_cpu_numba.copies import strided_copy
from softneuro_cpu_numba.emit.isa import lanes_of
from softneuro_cpu_numba.matrix_rows import NEAR_BYTES, MatrixRows
from softneuro_cpu_numba.native import aligned, packed
from softneuro_cpu_numba.panels import Panels, cut
from softneuro_cpu_numba.rows import NARROW_ROWS, best_tile, lines_ahead
from softneuro_cpu_numba.tiles import TASKS_PER_THREAD, Cut

BLOCK_BYTES = (512 << 10, 8 << 20)
"""Least and most memory for the transformed input and the products of one block of tiles, which should stay in the
caches between the phases. In between a quarter of the filters', which are read once a block (measured with 1 MB L2,
32 MB L3: 512 channels at 28x28 12.5 ms in 8 MB, 16 ms in 1 MB; 64 channels at 56x56 no difference)."""


@dataclass(frozen=True, slots=True, eq=False)
class Products:
    """``params`` are those of ``emit.winograd`` that say how products are computed; ``starts``: first columns of the
    panels, ``wide`` of them; ``config``: shapes of a matrix unit's registers. In floats: ``row`` of a tile's
    transformed channels, ``position`` from one of its positions to the next, ``apart`` from one part of a position to
    the next, ``sums`` between two positions of the products."""

    params: Mapping[str, Any]
    parts: Cut
    filters: np.ndarray
    row: int
    position: int
    sums: int
    apart: int = 0
    starts: np.ndarray | None = None
    wide: int = 0
    config: np.ndarray | None = None


def on_vectors(conv: Convolution, tile: Tile, target: Target) -> Products:
    """In float32; the floats of a vector keep positions from lying on the same lines of a cache."""
    lanes, channels, out_channels = lanes_of(target), conv.window.channels, conv.out_channels
    rows, vectors = best_tile(target, tile.count(conv.window), out_channels)
    rows, vectors = (rows, vectors) if rows > 1 else (1, 2)
    panels = cut(out_channels, vectors, lanes)
    parts = _cut(conv, tile, target, rows, len(panels.starts))
    params = {
        "pieces": tuple(range(rows, 0, -1)),
        "vectors": vectors,
        "narrow_pieces": NARROW_ROWS,
        "lines": lines_ahead((rows, vectors), lanes, parts.most_rows, _filter_bytes(conv, tile)),
    }
    position, sums = parts.most_rows * channels + lanes, parts.most_rows * out_channels + lanes
    starts = aligned(np.array(panels.starts, np.int64))
    return Products(
        params, parts, _filters(conv, tile, panels), channels, position, sums, starts=starts, wide=panels.wide
    )


def on_matrix_unit(conv: Convolution, tile: Tile, target: Target) -> Products:
    """In two parts of bfloat16, of whole tiles of the unit."""
    channels, out_channels, tiles = conv.window.channels, conv.out_channels, tile.count(conv.window)
    rows = MatrixRows(as_window(tiles, channels), channels // 2, out_channels, False, target.threads, parts=2)
    parts = _cut(conv, tile, target, 2 * SIDE, rows.panels)
    blocks = -(-min(parts.most_rows, tiles) // SIDE)
    params = {"tiles": _unit_tiles(-(-blocks // 2), _filter_bytes(conv, tile)), "last": rows.last[0]}
    apart, sums = blocks * SIDE * channels // 2 + SIDE, blocks * SIDE * out_channels + SIDE
    filters, config = _unit_filters(conv, tile, rows), aligned(tile_config(SIDE, SIDE))
    return Products(params, parts, filters, channels // 2, 2 * apart, sums, apart, config=config)


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


def _filters(conv: Convolution, tile: Tile, panels: Panels) -> np.ndarray:
    """[position][panel][channel][width]: the filters transformed and packed."""

    def fill(made: np.ndarray) -> None:
        panels.fill(made, tile.filters(_taps(conv))[:, None])

    shape = (tile.positions, conv.window.channels * panels.columns)
    return packed(("winograd", tile, panels), conv.weights, shape, np.dtype(np.float32), fill)


def _unit_filters(conv: Convolution, tile: Tile, products: MatrixRows) -> np.ndarray:
    """The filters of each position as ``products`` packs them."""

    def fill(made: np.ndarray) -> None:
        for place, filters in zip(made, tile.filters(_taps(conv)), strict=True):
            products.fill(place, filters[None])

    shape = (tile.positions, 2 * conv.window.channels * conv.out_channels)
    return packed(("winograd matrix", tile), conv.weights, shape, BFLOAT16.numpy, fill)


def _taps(conv: Convolution) -> np.ndarray:
    """The weights as [taps, channels, output channels]."""
    out_channels, channels, *kernel = conv.weights.shape
    taps = np.empty((math.prod(kernel), channels, out_channels), np.float32)
    strided_copy(taps, conv.weights.reshape(out_channels, channels, -1).transpose(2, 1, 0))
    return taps
