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
from softneuro_core.windows import NCHW_F32, NHWC_F32, as_window
from softneuro_cpu_numba.amx import has_matrix_unit
from softneuro_cpu_numba.bfloat_rows import BfloatRows
from softneuro_cpu_numba.conv_direct import convolution_of
from softneuro_cpu_numba.conv_transpose import joined, transposed_of
from softneuro_cpu_numba.emit.isa import isa_of
from softneuro_cpu_numba.epilogues import Epilogue, pitched_result
from softneuro_cpu_numba.gemm import Product, product_of
from softneuro_cpu_numba.native import NativeKernel
from softneuro_cpu_numba.probe import works
from softneuro_cpu_numba.rows import MOST_PLANES
from softneuro_cpu_numba.storage import NCHW_BF16, NHWC_BF16, stores_bfloat

ERROR = 2e-2
"""Both factors are rounded to 8 bits."""
SATURATING = frozenset(("sigmoid", "tanh", "hardsigmoid"))
"""Activations behind which the error of a large sum may be most of the result: not offered."""
ALLOWED = frozenset(("bfloat16",))
AMX, VECTORS = "amx", "avx512"


def multiplies_bfloat(target: Target) -> bool:
    """Whether vectors of pairs of bfloat16 are multiplied in one instruction."""
    if not stores_bfloat(target) or isa_of(target) != "avx512":
        return False
    return works("softneuro_cpu_numba.probes:pairs", target)


def _unit(target: Target) -> str | None:
    """The best there is. Where there is a matrix unit, vectors are no rival: on Sapphire Rapids pairs take twice the
    time of float32 (75 against 130 GFLOP/s), the unit a twelfth."""
    if has_matrix_unit(target, "AMX_BF16") and works("softneuro_cpu_numba.probes:matrix_unit", target):
        return AMX
    return VECTORS if multiplies_bfloat(target) else None


def _offers(
    epilogue: Epilogue,
    unit: str,
    ways: Iterable[tuple[TensorSpec, TensorSpec]],
    flops: float,
    pitched: frozenset[int] = frozenset(),
) -> Iterator[Offer]:
    """``ways``: how x and the result are stored."""
    if epilogue.activation.kind not in SATURATING:
        for x, out in ways:
            inputs = (x,) if epilogue.residual is None else (x, out)
            yield Offer(inputs, (out,), {"unit": unit}, accuracy=ERROR, flops=flops, pitched=pitched, uses=ALLOWED)


def _kernel(rows: BfloatRows, offer: Offer, target: Target) -> NativeKernel:
    return rows.on_matrix_unit(target) if offer.params["unit"] == AMX else rows.on_vectors(target)


class BfloatConv(Routine):
    """Conv [+ Add] [+ activation] of one group, any stride, dilation and padding."""

    name = "cpu/conv_bfloat16"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("Conv",))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        unit = _unit(target)
        conv = convolution_of(region) if unit else None
        if unit is None or conv is None or conv.groups != 1:
            return
        ways = {NHWC_BF16: conv.window.channels % 2 == 0, NCHW_F32: unit == AMX and conv.window.channels <= MOST_PLANES}
        pairs = [(x, out) for x, fits in ways.items() if fits for out in (NHWC_BF16, NHWC_F32)]
        yield from _offers(conv.epilogue, unit, pairs, conv.flops, pitched_result(region, conv.epilogue.residual))

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
            pitched=bool(offer.pitched),
        )
        return _kernel(rows, offer, target)


class BfloatTransposed(Routine):
    """ConvTranspose [+ Add of a constant] [+ activation] of one group, by phases."""

    name = "cpu/conv_transpose_bfloat16"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("ConvTranspose",))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        unit = _unit(target)
        found = transposed_of(region) if unit else None
        if unit is None or found is None or not found.has_phases:
            return
        if region.inputs[0].static_shape[1] % 2 == 0 and int(found.layer.attrs.get("group", 1)) == 1:
            pairs = [(NHWC_BF16, out) for out in (NHWC_BF16, NHWC_F32)]
            yield from _offers(found.epilogue, unit, pairs, found.flops, pitched_result(region, None))

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        found = transposed_of(region)
        assert found is not None
        act, result, pitched = found.epilogue.activation, offer.outputs[0].dtype, bool(offer.pitched)
        products = (
            BfloatRows(p.window, p.weights[0], found.bias, act, None, result, pitched=pitched, scatter=p.scatter)
            for p in found.phases()
        )
        return joined((_kernel(product, offer, target) for product in products), target)


class BfloatProduct(Routine):
    """Gemm or MatMul by a constant [+ Add] [+ activation]."""

    name = "cpu/gemm_bfloat16"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("Gemm", "MatMul"))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        unit = _unit(target)
        found = _constant_product(region) if unit else None
        if unit is not None and found is not None and found.k % 2 == 0:
            yield from _offers(found.epilogue, unit, [(NCHW_BF16, out) for out in (NCHW_BF16, NCHW_F32)], found.flops)

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
