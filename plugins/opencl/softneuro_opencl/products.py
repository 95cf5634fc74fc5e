"""Gemm and MatMul by a constant, as pointwise convolution; the kernels are those of Conv."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_core.routine import Kernel, Offer
from softneuro_core.windows import as_window, is_f32
from softneuro_opencl.conv_rows import rows_kernel, tiles_for
from softneuro_opencl.conv_tiles import SIDE, tiles_kernel
from softneuro_opencl.convolutions import Convolution, Finish, finish_of
from softneuro_opencl.routine import OpenCLRoutine


def product_of(region: Region) -> Convolution | None:
    """The region as rows by a constant matrix, or None."""
    layer = region.layers[0]
    x, w = layer.inputs[:2]
    if x is None or w is None or x.is_constant or w.data is None or not is_f32(x, w, *layer.results, *region.outputs):
        return None
    if len(w.static_shape) != 2 or len(x.static_shape) < 2:
        return None
    found = _gemm(region, layer, w.data) if layer.op == "Gemm" else _matmul(region, w.data)
    if found is None:
        return None
    matrix, finish = found
    depth = x.static_shape[-1]
    window = as_window(math.prod(x.static_shape[:-1]), depth)
    return Convolution(window, 1, np.ascontiguousarray(matrix.T).reshape(-1, depth, 1, 1), finish)


def _matmul(region: Region, matrix: np.ndarray) -> tuple[np.ndarray, Finish] | None:
    finish = finish_of(region, None, matrix.shape[1], -1)
    return None if finish is None else (matrix, finish)


def _gemm(region: Region, layer: Layer, matrix: np.ndarray) -> tuple[np.ndarray, Finish] | None:
    """A plain; alpha goes into the matrix, beta into the bias, which must be one number a column."""
    attrs = layer.attrs
    if attrs.get("transA"):
        return None
    matrix = matrix.T if attrs.get("transB") else matrix
    bias = layer.inputs[2] if len(layer.inputs) > 2 else None
    if bias is not None and not _is_row(bias, matrix.shape[1]):
        return None
    finish = finish_of(region, None, matrix.shape[1], 1)
    if finish is None:
        return None
    if bias is not None and bias.data is not None:
        total = finish.bias + np.float32(attrs.get("beta", 1.0)) * bias.data.reshape(-1)
        finish = Finish(total.astype(np.float32), finish.residual, finish.activation)
    return matrix * np.float32(attrs.get("alpha", 1.0)), finish


def _is_row(bias: Value, columns: int) -> bool:
    if bias.data is None:
        return False
    return bias.data.shape[-1:] in ((columns,), (1,), ()) and bias.data.size in (1, columns)


class RowsProduct(OpenCLRoutine):
    """Gemm or MatMul by a constant [+ Add] [+ activation], in registers, an item alone in its group."""

    algorithm = "gemm_rows"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("Gemm", "MatMul"))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        product = product_of(region)
        if product is not None:
            ends = [self.nchw] * len(region.inputs), [self.nchw]
            for pixels, vectors in tiles_for(product, self.opencl(target).lanes):
                yield Offer(*ends, {"pixels": pixels, "vectors": vectors}, flops=product.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        product = product_of(region)
        assert product is not None
        return rows_kernel(self.opencl(target), product, int(offer.params["pixels"]), int(offer.params["vectors"]))


class TilesProduct(OpenCLRoutine):
    """The same by tiles in local memory."""

    algorithm = "gemm_tiles"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("Gemm", "MatMul"))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        product = product_of(region)
        if product is not None and self.opencl(target).most_items >= SIDE * SIDE:
            yield Offer([self.nchw] * len(region.inputs), [self.nchw], flops=product.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        product = product_of(region)
        assert product is not None
        return tiles_kernel(self.opencl(target), product)
