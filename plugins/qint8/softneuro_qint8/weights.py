"""Products of few rows whose weights are kept in 8 bits, all else in float32: reading them is the work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from softneuro_cpu_numba.conv_direct import convolution_of
from softneuro_cpu_numba.epilogues import Epilogue
from softneuro_cpu_numba.gemm import product_of
from softneuro_cpu_numba.rows import RowProduct

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_core.grids import is_laid
from softneuro_core.routine import SUMS, Kernel, Offer, Routine
from softneuro_core.windows import NCHW_F32, NHWC_F32
from softneuro_qint8.numbers import integers_of, weight_scales

MOST_ROWS = 8
"""Rows up to which weights are read faster than they are multiplied, where they come from far enough away."""
LEAST_WEIGHTS = 1 << 16
"""Fewer stay in the second-level cache, where widening them takes as long as reading them as they are."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """``rows`` rows times constant weights of output channels along ``axis``."""

    rows: int
    weights: Value
    axis: int
    bias: np.ndarray | None
    epilogue: Epilogue

    @property
    def flops(self) -> float:
        return 2.0 * self.rows * self.weights.size


def streamed_of(region: Region) -> Streamed | None:
    """The region as such a product, or None."""
    layer = region.layers[0]
    found = _pixels(region) if layer.op == "Conv" else _rows(region)
    if found is None or found.rows > MOST_ROWS or found.weights.size < LEAST_WEIGHTS:
        return None
    numbers = found.weights.qparams
    if weight_scales(found.weights, found.axis) is None or numbers is None:
        return None
    zero = np.asarray(numbers.zero_point)
    return found if zero.dtype == np.int8 and not zero.any() else None


def _rows(region: Region) -> Streamed | None:
    layer = region.layers[0]
    weights = layer.inputs[1]
    if weights is None or len(weights.shape or ()) != 2 or layer.attrs.get("alpha", 1.0) != 1.0:
        return None
    found = product_of(region)
    if found is None or found.matrix is None or found.trans_a or found.a.is_constant:
        return None
    return Streamed(found.m, weights, 0 if found.trans_b else 1, found.row, found.epilogue)


def _pixels(region: Region) -> Streamed | None:
    """A convolution that is a plain product: 1x1 of one group."""
    found, weights = convolution_of(region), region.layers[0].inputs[1]
    if found is None or weights is None or found.groups != 1 or not found.window.is_pointwise:
        return None
    return Streamed(found.window.batch * found.window.pixels, weights, 0, found.bias, found.epilogue)


class QWeights(Routine):
    """Gemm, MatMul or 1x1 Conv [+ Add] [+ activation] in float32, of weights kept as int8 and a factor a channel, for
    at most :data:`MOST_ROWS` rows or pixels. Where the model itself has such weights that is no choice of precision."""

    name = "cpu/qweights"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("Gemm", "MatMul", "Conv"))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        found = streamed_of(region)
        if found is None:
            return
        rounds = is_laid(found.weights)
        # a plan must be able to say on what grids it stands: of a layer none of whose values has one it could not
        if rounds and not any(is_laid(v) for v in (*region.inputs, *region.outputs)):
            return
        spec = NHWC_F32 if region.layers[0].op == "Conv" else NCHW_F32
        uses = frozenset(("int8",)) if rounds else frozenset()
        yield Offer((spec,) * len(region.inputs), (spec,), accuracy=SUMS, flops=found.flops, uses=uses)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        found = streamed_of(region)
        assert found is not None
        integers = integers_of(found.weights, found.axis).astype(np.int8, copy=False)
        flat = integers.reshape(len(integers), -1)
        matrix = (flat.T if found.axis == 0 else flat)[None]
        scales = weight_scales(found.weights, found.axis)
        epilogue = found.epilogue
        product = RowProduct(
            matrix, found.bias, epilogue.activation, epilogue.residual, found.rows, stored="int8", factors=scales
        )
        return product.kernel(target)
