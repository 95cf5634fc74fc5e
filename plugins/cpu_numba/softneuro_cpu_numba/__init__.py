"""CPU routines for SoftNeuro, compiled at run time with numba, and the linker that walks them natively."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from softneuro_core.device import Target
from softneuro_core.hookspecs import hookimpl
from softneuro_core.routine import Adapter, Call, Routine

if TYPE_CHECKING:
    from softneuro_core.testing.case import Case

__version__ = "0.1.0"


@hookimpl
def softneuro_routines() -> Iterable[Routine]:
    from softneuro_cpu_numba.attention import FusedAttention
    from softneuro_cpu_numba.bfloat import (
        BfloatConv,
        BfloatProduct,
        BfloatTransposed,
        SplitConv,
        SplitProduct,
        SplitTransposed,
    )
    from softneuro_cpu_numba.conv_direct import DirectConv
    from softneuro_cpu_numba.conv_im2col import Im2colConv
    from softneuro_cpu_numba.conv_transpose import TransposedConv
    from softneuro_cpu_numba.depthwise import Depthwise
    from softneuro_cpu_numba.elementwise import Map
    from softneuro_cpu_numba.expand_depthwise import ExpandDepthwise
    from softneuro_cpu_numba.gather import Gather
    from softneuro_cpu_numba.gemm import MatrixProduct
    from softneuro_cpu_numba.gemm_blas import BlasProduct
    from softneuro_cpu_numba.half import Half
    from softneuro_cpu_numba.movement import movements
    from softneuro_cpu_numba.norm import BatchNorm, LayerNorm, Softmax
    from softneuro_cpu_numba.pool import Pool
    from softneuro_cpu_numba.quantise import Quantise
    from softneuro_cpu_numba.recurrent import Gru, Lstm
    from softneuro_cpu_numba.reduce import reductions
    from softneuro_cpu_numba.resize import Resize
    from softneuro_cpu_numba.scaled_conv import ScaledConv
    from softneuro_cpu_numba.strassen import Strassen
    from softneuro_cpu_numba.winograd import Winograd

    pools = [Pool("MaxPool", "max"), Pool("AveragePool", "average")]
    norms = [LayerNorm("LayerNormalization"), LayerNorm("InstanceNormalization"), BatchNorm()]
    norms += [Softmax("Softmax"), Softmax("LogSoftmax")]
    others = [FusedAttention(), ExpandDepthwise(), Gather(), Gru(), Lstm(), Resize("Resize"), Resize("Upsample")]
    others += [Quantise("QuantizeLinear"), Quantise("DequantizeLinear")]
    products = [DirectConv(), BfloatConv(), SplitConv(), ScaledConv(), Winograd(), Im2colConv(), Depthwise()]
    products += [TransposedConv(), BfloatTransposed(), SplitTransposed()]
    products += [MatrixProduct(), BfloatProduct(), SplitProduct(), BlasProduct(), Strassen()]
    half = [Half(r) for r in (DirectConv(), Depthwise(), MatrixProduct(), *pools, *norms, *reductions())]
    return [*products, *pools, *norms, *others, Map(), *movements(), *reductions(), *half]


@hookimpl
def softneuro_adapters() -> Iterable[Adapter]:
    from softneuro_cpu_numba.adapters import CastBfloat, ToOtherLayout

    return [ToOtherLayout(), CastBfloat()]


@hookimpl
def softneuro_link(target: Target, calls: Sequence[Call]) -> Callable[[], None] | None:
    from softneuro_cpu_numba.walker import link

    return link(target, calls)


def softneuro_conformance_cases() -> list[Case]:
    """What the kit's own cases do not reach: depthwise convolution in float16, deep 1x1 convolution, attention."""
    from softneuro_core.testing.case import Const, normal, single
    from softneuro_cpu_numba import attention

    x, w = normal(2, 8, 9, 7, dtype="float16"), Const(normal(8, 1, 3, 3, dtype="float16"))
    half = single("depthwise-float16", "Conv", x, w, group=8, pads=[1, 1, 1, 1])
    deep = single("pointwise-deep", "Conv", normal(1, 128, 5, 7), Const(normal(96, 128, 1, 1)), Const(normal(96)))
    return [half, deep, *attention.conformance_cases()]
