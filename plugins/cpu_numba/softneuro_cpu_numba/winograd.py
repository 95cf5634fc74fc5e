"""Convolution by Winograd's minimal filtering, NHWC: any window, stride and dilation where it saves products.

F(m x m, 3 x 3) needs (m + 2)^2 / 9 m^2 of the multiplications (F(2) 0.44, F(4) 0.25, F(6) 0.20), more memory for
the filters (1.8, 4, 7.1 times) and loses accuracy as m grows. With stride 2 the filter's even and odd taps are filtered
apart, on every other pixel: (2 m + 1)^2 / 9 m^2 (F(2) 0.69, F(4) 0.56).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import Kernel, Offer, Routine
from softneuro_core.windows import NHWC_F32, window_of
from softneuro_core.winograd_tile import Tile
from softneuro_cpu_numba.amx import SIDE, has_matrix_unit
from softneuro_cpu_numba.conv_direct import Convolution, convolution_of
from softneuro_cpu_numba.emit.isa import isa_of, lanes_of
from softneuro_cpu_numba.epilogues import SATURATING, Epilogue, pitched_result
from softneuro_cpu_numba.native import Argument, In, NativeKernel, Out, Pitch, aligned, emitted_address
from softneuro_cpu_numba.rows import activation_kind
from softneuro_cpu_numba.tiles import HEAD_BYTES
from softneuro_cpu_numba.winograd_products import Products, on_matrix_unit, on_vectors

OUTPUTS = (2, 4, 6)
"""What a tile may be on a side; on a side of one tap it is one output, for nothing is saved there."""
SAVING = 0.9
"""A larger tile is offered if it needs at most this share of the products of the one before (the first: of all)."""
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
        products = on_matrix_unit if offer.params.get("unit") == AMX else on_vectors
        return _kernel(conv, pool, tile, target, products(conv, tile, target))


def _split_error(conv: Convolution, tile: Tile, target: Target) -> float | None:
    """Error of factors split in two of bfloat16, None where a matrix unit cannot do it fast or well enough."""
    if conv.epilogue.activation.kind in SATURATING:
        return None
    if conv.window.channels % PAIRED_CHANNELS or conv.out_channels % SIDE or not has_matrix_unit(target, "AMX_BF16"):
        return None
    return min((error for most, error in SPLIT_ACCURACY.items() if tile.products_a_side <= most), default=None)


def _kernel(conv: Convolution, pool: int, tile: Tile, target: Target, products: Products) -> NativeKernel:
    window, parts, residual = conv.window, products.parts, conv.epilogue.residual
    channels, out_channels, activation = window.channels, conv.out_channels, conv.epilogue.activation
    address = emitted_address(
        *("winograd", "winograd", isa_of(target)),
        down=tile.down,
        along=tile.along,
        act=activation_kind(activation),
        residual=residual is not None,
        pool=pool,
        **products.params,
    )
    bias = np.zeros(out_channels, np.float32) if conv.bias is None else conv.bias.astype(np.float32)
    args: list[Argument] = [
        *(In(0), products.filters, aligned(bias), None if residual is None else In(residual), Out(0)),
        *(products.starts, *window.size, channels, *window.pads[:2], *(size // pool for size in window.out)),
        *(out_channels, *tile.grid(window), *parts.words, parts.panels, products.wide),
        *(products.row, products.position, products.sums, *window.dilations),
        *(Pitch() if residual is None else out_channels, products.apart, products.config),
        *(activation.p0, activation.p1),
    ]
    floats = tile.scratch_vectors * lanes_of(target) + tile.pixels * channels
    floats += tile.positions * (products.position + products.sums)
    return NativeKernel(address, tuple(args), window.batch * parts.tasks, HEAD_BYTES + 4 * floats)
