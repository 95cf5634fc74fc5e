"""Convolution and matrix product of bfloat16 with float32 sums, on a matrix unit or by dot products of pairs.

Offered where the user allows bfloat16 and the CPU multiplies it. Activations lie in bfloat16 between such layers; on
the matrix unit images of few channels are rounded on the way in. The parameter ``unit`` says what multiplies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import Kernel, Offer, Routine
from softneuro_core.spec import FLOAT32, TensorSpec
from softneuro_cpu_numba.amx import has_matrix_unit
from softneuro_cpu_numba.bfloat_rows import BfloatRows
from softneuro_cpu_numba.conv_direct import convolution_of
from softneuro_cpu_numba.emit.isa import isa_of
from softneuro_cpu_numba.epilogues import Epilogue
from softneuro_cpu_numba.gemm import Product, product_of
from softneuro_cpu_numba.native import NativeKernel
from softneuro_cpu_numba.rows import MOST_PLANES
from softneuro_cpu_numba.storage import NCHW_BF16, NHWC_BF16
from softneuro_cpu_numba.windows import NCHW_F32, NHWC_F32, as_window

ERROR = 2e-2
"""Both factors are rounded to 8 bits."""
SATURATING = frozenset(("sigmoid", "tanh", "hardsigmoid"))
"""Activations behind which the error of a large sum may be most of the result: not offered."""
ALLOWED = frozenset(("bfloat16",))
AMX, VECTORS = "amx", "avx512"

Way = tuple[str, TensorSpec, TensorSpec]
"""Unit, and how x and the result are stored."""


def multiplies_bfloat(target: Target) -> bool:
    """Whether vectors of pairs of bfloat16 are multiplied in one instruction."""
    return "AVX512BF16" in target.isa.split(",") and isa_of(target) == "avx512"


def _units(target: Target) -> list[str]:
    found = {AMX: has_matrix_unit(target, "AMX_BF16"), VECTORS: multiplies_bfloat(target)}
    return [unit for unit, there in found.items() if there]


def _offers(epilogue: Epilogue, ways: Iterable[Way], flops: float) -> Iterator[Offer]:
    if epilogue.activation.kind not in SATURATING:
        for unit, x, out in ways:
            inputs = (x,) if epilogue.residual is None else (x, out)
            yield Offer(inputs, (out,), {"unit": unit}, accuracy=ERROR, flops=flops, uses=ALLOWED)


def _kernel(rows: BfloatRows, offer: Offer, target: Target) -> NativeKernel:
    return rows.on_matrix_unit(target) if offer.params["unit"] == AMX else rows.on_vectors(target)


class BfloatConv(Routine):
    """Conv [+ Add] [+ activation] of one group, any stride, dilation and padding."""

    name = "cpu/conv_bfloat16"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("Conv",))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        units = _units(target)
        conv = convolution_of(region) if units else None
        if conv is None or conv.groups != 1:
            return
        ways: list[Way] = []
        if conv.window.channels % 2 == 0:
            ways += [(unit, NHWC_BF16, out) for unit in units for out in (NHWC_BF16, NHWC_F32)]
        if conv.window.channels <= MOST_PLANES and AMX in units:
            ways += [(AMX, NCHW_F32, out) for out in (NHWC_BF16, NHWC_F32)]
        yield from _offers(conv.epilogue, ways, conv.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        conv = convolution_of(region)
        assert conv is not None
        rows = BfloatRows(
            conv.window,
            conv.weights.reshape(conv.out_channels, conv.weights.shape[1], -1).transpose(2, 1, 0),
            conv.bias,
            conv.epilogue.activation,
            conv.epilogue.residual,
            offer.outputs[0].dtype,
            planes=offer.inputs[0].dtype is FLOAT32,
        )
        return _kernel(rows, offer, target)


class BfloatProduct(Routine):
    """Gemm or MatMul by a constant [+ Add] [+ activation]."""

    name = "cpu/gemm_bfloat16"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("Gemm", "MatMul"))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        units = _units(target)
        found = _constant_product(region) if units else None
        if found is not None and found.k % 2 == 0:
            ways = [(unit, NCHW_BF16, out) for unit in units for out in (NCHW_BF16, NCHW_F32)]
            yield from _offers(found.epilogue, ways, found.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        found = _constant_product(region)
        assert found is not None and found.matrix is not None
        rows = BfloatRows(
            as_window(found.m, found.k),
            found.matrix,
            found.row,
            found.epilogue.activation,
            found.epilogue.residual,
            offer.outputs[0].dtype,
        )
        return _kernel(rows, offer, target)


def _constant_product(region: Region) -> Product | None:
    found = product_of(region)
    if found is None or found.a.is_constant or found.matrix is None or found.trans_a:
        return None
    return found
