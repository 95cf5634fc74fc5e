"""Gemm and MatMul of a grid and constant weights, in integers: a convolution of pixels without neighbours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from softneuro_cpu_numba.native import In

from softneuro_core.device import Target
from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_core.routine import Kernel, Offer, Routine
from softneuro_core.spec import NCHW
from softneuro_core.windows import as_window
from softneuro_qint8.matrix import UNIT, matrix_kernel, suits
from softneuro_qint8.numbers import ONE_STEP, Requantise, integers_of, weight_scales
from softneuro_qint8.regions import Between, added_on_laid_grids, between_grids, read_added, read_between
from softneuro_qint8.residual import Residual
from softneuro_qint8.rows import IntegerRows

OPERATORS = ("Gemm", "MatMul")


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
    between = read_between(region) or read_added(region)
    if between is None or len(between.sources) != len(region.inputs):
        return None
    layer = between.main
    x, weights = layer.inputs[:2]
    assert x is not None and weights is not None
    if x.is_constant or len(weights.static_shape) != 2 or len(x.static_shape) < 2 or layer.attrs.get("transA"):
        return None
    if any(layer.attrs.get(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        return None
    axis = 0 if layer.attrs.get("transB") else 1
    *_, n = layer.results[0].static_shape
    own = layer.inputs[2].data if len(layer.inputs) > 2 and layer.inputs[2] is not None else None
    rowwise = [b for b in (own, between.bias) if b is not None]
    if any(b.size not in (1, n) or (b.size == n and b.shape[-1:] != (n,)) for b in rowwise):
        return None
    bias = np.sum([np.broadcast_to(b.reshape(-1), (n,)) for b in rowwise], axis=0) if rowwise else None
    rows = layer.results[0].size // n
    if weight_scales(weights, axis) is None:
        return None
    found = IntegerProduct(between, rows, weights, axis, bias)
    return found if found.finish.fits(found.depth) else None


class QGemm(Routine):
    """[DequantizeLinear +] Gemm or MatMul [+ Add of a constant row] [+ Relu or Clip] [+ QuantizeLinear]; weights on an
    8-bit grid. Where grids are only laid a computed value may be added before the activation. ``unit: amx`` is the
    matrix unit."""

    name = "cpu/qgemm"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        yield from between_grids(graph, exit, OPERATORS, added=True)
        yield from added_on_laid_grids(graph, exit, OPERATORS, added=True)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        product = _product_of(region)
        if product is not None:
            ins, outs = product.between.specs([NCHW] * len(region.inputs), NCHW)
            yield Offer(ins, outs, accuracy=ONE_STEP, flops=product.flops)
            if suits(target, product.weights, product.depth):
                yield Offer(ins, outs, UNIT, accuracy=ONE_STEP, flops=product.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        product = _product_of(region)
        assert product is not None
        between, source = product.between, product.between.sources[0]
        x, residual = In(between.places[0]), Residual.of(between)
        integers = integers_of(product.weights, product.axis)
        matrix = (integers.T if product.axis == 0 else integers)[None, None]
        window = as_window(product.rows, product.depth)
        zero, signed = source.stored_zero, source.is_signed
        rows = IntegerRows(window, matrix, product.finish, zero, signed, x=x, residual=residual)
        return matrix_kernel(rows, target) if offer.params == UNIT else rows.kernel(target)
