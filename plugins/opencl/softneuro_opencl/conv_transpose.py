"""ConvTranspose in registers: a convolution by ``conv_rows`` for each phase of the output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.phases import Phase, begin_pads, has_phases, phase_flops, phases_of
from softneuro_core.routine import SUMS, Kernel, Offer
from softneuro_core.spec import NHWC
from softneuro_core.windows import Window
from softneuro_opencl.conv_rows import TILES
from softneuro_opencl.convolutions import Convolution, Finish, Product, finish_of, product_of
from softneuro_opencl.launches import Launch, OpenCLKernel
from softneuro_opencl.register_tiles import Bordered, Tiling, rows_launch
from softneuro_opencl.routine import OpenCLRoutine, accuracy_in


@dataclass(frozen=True, slots=True)
class _Transposed:
    """``weights`` as the operator has them."""

    layer: Layer
    weights: np.ndarray
    finish: Finish

    def convolutions(self) -> Iterator[tuple[Phase, Convolution]]:
        """Each phase as a convolution of one image with its border."""
        for phase in phases_of(self.layer, self.weights):
            groups, _, depth, outputs = phase.weights.shape
            taps = phase.weights.reshape(groups, *phase.window.kernel, depth, outputs).transpose(0, 4, 3, 1, 2)
            weights = taps.reshape(groups * outputs, depth, *phase.window.kernel)
            yield phase, Convolution(_closed(phase.window), groups, weights, self.finish)


def _closed(window: Window) -> Window:
    """With the border behind the image that its outputs reach."""
    top, left, *_ = window.pads
    reach = [o + k - 1 - n for o, k, n in zip(window.out, window.kernel, window.size, strict=True)]
    pads = (top, left, max(0, reach[0] - top), max(0, reach[1] - left))
    return replace(window, pads=pads)


def _transposed_of(region: Region) -> _Transposed | None:
    product = product_of(region)
    if product is None or not _is_made_of_windows(product):
        return None
    layer, _, weights, bias = product
    finish = finish_of(region, bias, layer.results[0].static_shape[1], 1)
    return None if finish is None or finish.residual is not None else _Transposed(layer, weights, finish)


def _is_made_of_windows(product: Product) -> bool:
    """Whether every phase is a convolution whose borders are no less than nothing: an output reads no tap ahead of the
    first where pads are at most kernel - stride."""
    layer, x, weights, _ = product
    kernel = weights.shape[2:]
    if len(kernel) not in (1, 2) or not has_phases(layer, weights.shape):
        return False
    pads = begin_pads(layer, x.static_shape[2:], layer.results[0].static_shape[2:], kernel)
    strides = layer.attrs.get("strides") or [1] * len(kernel)
    return all(pad <= k - s for pad, k, s in zip(pads, kernel, strides, strict=True))


class RowsTransposed(OpenCLRoutine):
    """ConvTranspose [+ Add of a constant] [+ activation], undilated, kernels no smaller than strides, 1-D and 2-D."""

    algorithm = "conv_transpose"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("ConvTranspose",))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        found = _transposed_of(region)
        if found is not None:
            flops = phase_flops(found.layer, found.weights.size)
            for spec in self.storages(NHWC):
                yield Offer([spec], [spec], accuracy=accuracy_in(spec, SUMS), flops=flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        found, device, spec = _transposed_of(region), self.opencl(target), offer.outputs[0]
        assert found is not None
        launches: list[Launch] = []
        elements = 0
        for phase, conv in found.convolutions():
            border, width = Bordered(conv.window), conv.window.out[1]
            pixels, vectors = next(tile for tile in TILES if tile[0] <= width)
            tiling = Tiling(pixels, vectors, device.lanes)
            launches += [*border.launches(spec), rows_launch(device, conv, tiling, spec, phase.scatter)]
            elements = max(elements, border.elements)
        return OpenCLKernel(device, tuple(launches), elements * spec.dtype.numpy.itemsize)
