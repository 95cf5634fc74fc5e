"""Convolution and matrix product on a matrix unit: factors in bfloat16, sums in float32.

Offered where the user allows bfloat16. Activations lie in bfloat16 between such layers; images of few channels are
rounded on the way in.
"""

from __future__ import annotations

from collections.abc import Iterable

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import Kernel, Offer, Routine
from softneuro_core.spec import FLOAT32, TensorSpec
from softneuro_cpu_numba.amx import has_matrix_unit
from softneuro_cpu_numba.bfloat_rows import BfloatRows
from softneuro_cpu_numba.conv_direct import Convolution, convolution_of
from softneuro_cpu_numba.epilogues import Epilogue
from softneuro_cpu_numba.gemm import Product, product_of
from softneuro_cpu_numba.rows import MOST_PLANES
from softneuro_cpu_numba.storage import NCHW_BF16, NHWC_BF16
from softneuro_cpu_numba.windows import NCHW_F32, NHWC_F32, as_window

ERROR = 2e-2
"""Both factors are rounded to 8 bits."""
SATURATING = frozenset(("sigmoid", "tanh", "hardsigmoid"))
"""Activations behind which the error of a large sum may be most of the result: not offered."""
ALLOWED = frozenset(("bfloat16",))


def _offers(epilogue: Epilogue, ways: Iterable[tuple[TensorSpec, TensorSpec]], flops: float) -> Iterable[Offer]:
    if epilogue.activation.kind not in SATURATING:
        for x, out in ways:
            inputs = (x,) if epilogue.residual is None else (x, out)
            yield Offer(inputs, (out,), accuracy=ERROR, flops=flops, uses=ALLOWED)


class MatrixUnitConv(Routine):
    """Conv [+ Add] [+ activation] of one group, any stride, dilation and padding."""

    name = "cpu/conv_amx"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("Conv",))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        conv = convolution_of(region) if has_matrix_unit(target, "AMX_BF16") else None
        if conv is not None and conv.groups == 1:
            ins = [spec for spec, fits in _inputs(conv) if fits]
            yield from _offers(conv.epilogue, ((x, y) for x in ins for y in (NHWC_BF16, NHWC_F32)), conv.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        conv = convolution_of(region)
        assert conv is not None
        return BfloatRows(
            conv.window,
            conv.weights.reshape(conv.out_channels, conv.weights.shape[1], -1).transpose(2, 1, 0),
            conv.bias,
            conv.epilogue.activation,
            conv.epilogue.residual,
            offer.outputs[0].dtype,
            planes=offer.inputs[0].dtype is FLOAT32,
        ).kernel(target)


def _inputs(conv: Convolution) -> tuple[tuple[TensorSpec, bool], ...]:
    """How the image may lie: two channels are a word, and planes are rounded where they are few."""
    channels = conv.window.channels
    return (NHWC_BF16, channels % 2 == 0), (NCHW_F32, channels <= MOST_PLANES)


class MatrixUnitProduct(Routine):
    """Gemm or MatMul by a constant [+ Add] [+ activation]."""

    name = "cpu/gemm_amx"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("Gemm", "MatMul"))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        found = _constant_product(region) if has_matrix_unit(target, "AMX_BF16") else None
        if found is not None and found.k % 2 == 0:
            yield from _offers(found.epilogue, ((NCHW_BF16, y) for y in (NCHW_BF16, NCHW_F32)), found.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        found = _constant_product(region)
        assert found is not None and found.matrix is not None
        return BfloatRows(
            as_window(found.m, found.k),
            found.matrix,
            found.row,
            found.epilogue.activation,
            found.epilogue.residual,
            offer.outputs[0].dtype,
        ).kernel(target)


def _constant_product(region: Region) -> Product | None:
    found = product_of(region)
    if found is None or found.a.is_constant or found.matrix is None or found.trans_a:
        return None
    return found
