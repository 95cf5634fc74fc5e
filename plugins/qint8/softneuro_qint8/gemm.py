"""Gemm and MatMul of a grid and constant weights, in integers: a convolution of pixels without neighbours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from softneuro_cpu_numba.windows import as_window

from softneuro_core.device import Target
from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_core.routine import Kernel, Offer, Routine
from softneuro_core.spec import NCHW
from softneuro_qint8.matrix import UNIT, matrix_kernel, suits
from softneuro_qint8.numbers import ONE_STEP, Requantise, integers_of, weight_scales
from softneuro_qint8.regions import Between, between_grids, read_between
from softneuro_qint8.rows import IntegerRows


@dataclass(frozen=True, slots=True, eq=False)
class IntegerProduct:
    """``axis`` is that of the output channels among the weights' two."""

    between: Between
    rows: int
    weights: Value
    axis: int
    bias: np.ndarray | None

    @property
    def depth(self) -> int:
        return self.weights.static_shape[1 - self.axis]

    @property
    def finish(self) -> Requantise:
        between, scales = self.between, weight_scales(self.weights, self.axis)
        assert scales is not None
        return Requantise.of(scales, between.sources[0], between.result, self.bias)

    @property
    def flops(self) -> float:
        return 2.0 * self.rows * self.weights.size


def _product_of(region: Region) -> IntegerProduct | None:
    between = read_between(region)
    if between is None or len(region.inputs) != 1:
        return None
    layer = between.main
    x, weights = layer.inputs[:2]
    assert x is not None and weights is not None
    if x.is_constant or len(weights.static_shape) != 2 or len(x.static_shape) < 2 or layer.attrs.get("transA"):
        return None
    if any(layer.attrs.get(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        return None
    axis = 0 if layer.attrs.get("transB") else 1
    bias = layer.inputs[2].data if len(layer.inputs) > 2 and layer.inputs[2] is not None else between.bias
    *_, n = layer.results[0].static_shape
    if bias is not None and (bias.size not in (1, n) or (bias.size == n and bias.shape[-1:] != (n,))):
        return None
    rows = layer.results[0].size // n
    if weight_scales(weights, axis) is None:
        return None
    found = IntegerProduct(between, rows, weights, axis, bias)
    return found if found.finish.fits(found.depth) else None


class QGemm(Routine):
    """[DequantizeLinear +] Gemm or MatMul [+ Add of a constant row] [+ Relu or Clip] + QuantizeLinear; weights on an
    8-bit grid."""

    name = "cpu/qgemm"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return between_grids(graph, exit, ("Gemm", "MatMul"), added=True)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        product = _product_of(region)
        if product is not None:
            ins, outs = product.between.specs([NCHW], NCHW)
            yield Offer(ins, outs, accuracy=ONE_STEP, flops=product.flops)
            if suits(target, as_window(product.rows, product.depth), 1, product.weights):
                yield Offer(ins, outs, UNIT, accuracy=ONE_STEP, flops=product.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        product = _product_of(region)
        assert product is not None
        source = product.between.sources[0]
        integers = integers_of(product.weights, product.axis)
        matrix = (integers.T if product.axis == 0 else integers)[None, None]
        window = as_window(product.rows, product.depth)
        rows = IntegerRows(window, matrix, product.finish, source.stored_zero, source.is_signed)
        return matrix_kernel(rows, target) if offer.params == UNIT else rows.kernel(target)
