"""Convolution and matrix product of bfloat16 with float32 sums, on a matrix unit or by dot products of pairs.

Offered where the user allows bfloat16 and the CPU multiplies it. Activations lie in bfloat16 between such layers; on
the matrix unit images of few channels are rounded on the way in. The parameter ``unit`` says what multiplies.

``..._bfloat16x3``: float32, every factor the sum of two of bfloat16, of whose four products the smallest is left out
(decision 0045; G. Henry, P. T. P. Tang, A. Heinecke, "Leveraging the bfloat16 artificial intelligence datatype for
higher-precision computations", ARITH 2019). Only on a matrix unit, which multiplies more than three times as fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import Kernel, Offer, Routine
from softneuro_core.spec import TensorSpec
from softneuro_core.windows import NCHW_F32, NHWC_F32, as_window
from softneuro_cpu_numba.amx import has_matrix_unit
from softneuro_cpu_numba.bfloat_rows import BfloatRows
from softneuro_cpu_numba.conv_direct import convolution_of
from softneuro_cpu_numba.conv_transpose import joined, transposed_of
from softneuro_cpu_numba.emit.isa import isa_of
from softneuro_cpu_numba.epilogues import SATURATING, Epilogue, pitched_result
from softneuro_cpu_numba.gemm import Product, product_of
from softneuro_cpu_numba.native import NativeKernel
from softneuro_cpu_numba.probe import works
from softneuro_cpu_numba.rows import MAX_STREAMED_ROWS, MOST_PLANES
from softneuro_cpu_numba.storage import NCHW_BF16, NHWC_BF16, stores_bfloat

ERROR, SPLIT_ERROR = 2e-2, 3e-5
"""Both factors are rounded to 8 bits; to 16, which leaves 2^-17 of each, and 2^-16 is the product left out: about 3e-5
of the absolute products at worst. Of factors that are infinite or beyond 3.39e38, the largest of bfloat16, sums are
NaN (as Winograd's are)."""
MIN_SPLIT_ROWS = MAX_STREAMED_ROWS
"""Of fewer rows reading the weights is the work, and they are as large in two parts."""
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


@dataclass(frozen=True, slots=True)
class Precision:
    """``parts`` of bfloat16 a factor is the sum of. ``error``, ``uses``: as in the offers; ``units`` multiply fast
    enough; products of fewer than ``least_rows`` rows (of Conv, Gemm, MatMul) and those before an activation of
    ``barred`` are not offered."""

    parts: int
    error: float
    uses: frozenset[str]
    units: frozenset[str]
    least_rows: int
    barred: frozenset[str]

    def unit(self, target: Target) -> str | None:
        """What multiplies, None where nothing does fast enough."""
        found = _unit(target)
        return found if found in self.units else None

    def stored(self, narrow: TensorSpec, wide: TensorSpec) -> tuple[TensorSpec, tuple[TensorSpec, ...]]:
        """How x and results may lie; of two parts neither is rounded."""
        return (narrow, (narrow, wide)) if self.parts == 1 else (wide, (wide,))

    def offers(
        self,
        epilogue: Epilogue,
        unit: str,
        ways: Iterable[tuple[TensorSpec, TensorSpec]],
        flops: float,
        pitched: frozenset[int] = frozenset(),
    ) -> Iterator[Offer]:
        """``ways``: how x and the result are stored."""
        if epilogue.activation.kind in self.barred:
            return
        for x, out in ways:
            inputs = (x,) if epilogue.residual is None else (x, out)
            params = {"unit": unit}
            yield Offer(inputs, (out,), params, accuracy=self.error, flops=flops, pitched=pitched, uses=self.uses)


ROUNDED = Precision(1, ERROR, frozenset(("bfloat16",)), frozenset((AMX, VECTORS)), 1, SATURATING)
SPLIT = Precision(2, SPLIT_ERROR, frozenset(), frozenset((AMX,)), MIN_SPLIT_ROWS, SATURATING)


def _kernel(rows: BfloatRows, offer: Offer, target: Target) -> NativeKernel:
    return rows.on_matrix_unit(target) if offer.params["unit"] == AMX else rows.on_vectors(target)


class BfloatConv(Routine):
    """Conv [+ Add] [+ activation] of one group, any stride, dilation and padding."""

    name, precision = "cpu/conv_bfloat16", ROUNDED

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("Conv",))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        unit = self.precision.unit(target)
        conv = convolution_of(region) if unit else None
        if unit is None or conv is None or conv.groups != 1:
            return
        window, (x, results) = conv.window, self.precision.stored(NHWC_BF16, NHWC_F32)
        if window.batch * window.pixels < self.precision.least_rows:
            return
        ways = {x: window.channels % 2 == 0, NCHW_F32: unit == AMX and window.channels <= MOST_PLANES}
        pairs = [(x, out) for x, fits in ways.items() if fits for out in results]
        pitched = pitched_result(region, conv.epilogue.residual)
        yield from self.precision.offers(conv.epilogue, unit, pairs, conv.flops, pitched)

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
            planes=offer.inputs[0] == NCHW_F32,
            pitched=bool(offer.pitched),
            parts=self.precision.parts,
        )
        return _kernel(rows, offer, target)


class SplitConv(BfloatConv):
    """The same, float32."""

    name, precision = "cpu/conv_bfloat16x3", SPLIT


class BfloatTransposed(Routine):
    """ConvTranspose [+ Add of a constant] [+ activation] of one group, by phases."""

    name, precision = "cpu/conv_transpose_bfloat16", ROUNDED

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("ConvTranspose",))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        unit = self.precision.unit(target)
        found = transposed_of(region) if unit else None
        if unit is None or found is None or not found.has_phases:
            return
        if region.inputs[0].static_shape[1] % 2 == 0 and int(found.layer.attrs.get("group", 1)) == 1:
            x, results = self.precision.stored(NHWC_BF16, NHWC_F32)
            pairs = [(x, out) for out in results]
            yield from self.precision.offers(found.epilogue, unit, pairs, found.flops, pitched_result(region, None))

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        found = transposed_of(region)
        assert found is not None
        act, result, pitched = found.epilogue.activation, offer.outputs[0].dtype, bool(offer.pitched)
        parts = self.precision.parts
        products = (
            BfloatRows(
                p.window, p.weights[0], found.bias, act, None, result, pitched=pitched, scatter=p.scatter, parts=parts
            )
            for p in found.phases()
        )
        return joined((_kernel(product, offer, target) for product in products), target)


class SplitTransposed(BfloatTransposed):
    """The same, float32."""

    name, precision = "cpu/conv_transpose_bfloat16x3", SPLIT


class BfloatProduct(Routine):
    """Gemm or MatMul by a constant [+ Add] [+ activation]."""

    name, precision = "cpu/gemm_bfloat16", ROUNDED

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("Gemm", "MatMul"))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        unit = self.precision.unit(target)
        found = _constant_product(region) if unit else None
        if unit is not None and found is not None and found.k % 2 == 0 and found.m >= self.precision.least_rows:
            x, results = self.precision.stored(NCHW_BF16, NCHW_F32)
            yield from self.precision.offers(found.epilogue, unit, [(x, out) for out in results], found.flops)

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
            parts=self.precision.parts,
        )
        return _kernel(rows, offer, target)


class SplitProduct(BfloatProduct):
    """The same, float32."""

    name, precision = "cpu/gemm_bfloat16x3", SPLIT


def _constant_product(region: Region) -> Product | None:
    found = product_of(region)
    if found is None or found.a.is_constant or found.matrix is None or found.trans_a:
        return None
    return found
