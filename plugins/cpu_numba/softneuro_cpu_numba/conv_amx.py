"""Convolution and matrix product on a matrix unit: factors in bfloat16, sums in float32.

Offered where the user allows bfloat16. Activations lie in bfloat16 between such layers; images of few channels are
rounded on the way in.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from softneuro_core.device import Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import Kernel, Offer, Routine
from softneuro_core.spec import BFLOAT16, FLOAT32, NHWC, DType, TensorSpec
from softneuro_cpu_numba.amx import has_matrix_unit
from softneuro_cpu_numba.conv_direct import Convolution, convolution_of
from softneuro_cpu_numba.emit.isa import isa_of
from softneuro_cpu_numba.epilogues import Activation
from softneuro_cpu_numba.matrix_rows import MatrixRows, padded
from softneuro_cpu_numba.native import Argument, In, NativeKernel, Out, emitted_address
from softneuro_cpu_numba.rows import MOST_PLANES, activation_kind
from softneuro_cpu_numba.windows import NCHW_F32, NHWC_F32, Window

NHWC_BF16 = TensorSpec("cpu", BFLOAT16, NHWC)
ERROR = 2e-2
"""Both factors are rounded to 8 bits."""
SATURATING = frozenset(("sigmoid", "tanh", "hardsigmoid"))
"""Activations behind which the error of a large sum may be most of the result: not offered."""
ALLOWED = frozenset(("bfloat16",))


class MatrixUnitConv(Routine):
    """Conv [+ Add] [+ activation] of one group, any stride, dilation and padding."""

    name = "cpu/conv_amx"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("Conv",))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        conv = convolution_of(region) if has_matrix_unit(target, "AMX_BF16") else None
        if conv is None or conv.groups != 1 or conv.epilogue.activation.kind in SATURATING:
            return
        ways = [NHWC_BF16] if conv.window.channels % 2 == 0 else []
        if conv.window.channels <= MOST_PLANES:
            ways.append(NCHW_F32)
        for x in ways:
            for out in (NHWC_BF16, NHWC_F32):
                inputs = (x,) if conv.epilogue.residual is None else (x, out)
                yield Offer(inputs, (out,), accuracy=ERROR, flops=conv.flops, uses=ALLOWED)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        conv = convolution_of(region)
        assert conv is not None
        weights = conv.weights.reshape(conv.out_channels, conv.weights.shape[1], -1).transpose(2, 1, 0)
        planes = conv.window.channels if offer.inputs[0].dtype is FLOAT32 else 0
        return bfloat_kernel(
            In(0),
            conv.window,
            planes,
            weights,
            conv.bias,
            conv.epilogue.activation,
            conv.epilogue.residual,
            offer.outputs[0].dtype,
            target,
        )


def bfloat_kernel(
    x: In,
    window: Window,
    planes: int,
    weights: np.ndarray,
    bias: np.ndarray | None,
    activation: Activation,
    residual: int | None,
    result: DType,
    target: Target,
) -> NativeKernel:
    """The prepared step; packs the weights [taps, channels, outputs]. ``planes``: channels of a float32 NCHW input."""
    channels = window.channels
    rows = MatrixRows(
        window, -(-channels // 2), weights.shape[2], window.is_pointwise and not planes, target.threads
    )
    address = emitted_address(
        *("bfloat", "rows", isa_of(target)),
        tile=(rows.tile_rows, rows.step),
        last=rows.last,
        source="planes" if planes else rows.source,
        planes=planes,
        act=activation_kind(activation),
        residual=residual is not None,
        stored=result.name,
    )
    height, width = window.size
    strides = (width, 1, height * width) if planes else (rows.words * width, rows.words, 1)
    x_image = channels * height * width if planes else rows.words * width * height
    args: list[Argument] = [
        *(x, rows.pack(weights, BFLOAT16.numpy), padded(bias, rows.columns, np.float32)),
        *(None if residual is None else In(residual), Out(0), rows.config(), *rows.words_of(x_image)),
        *(activation.p0, activation.p1),
        *(() if rows.in_place else rows.band.words(strides)),
    ]
    return NativeKernel(address, tuple(args), rows.tasks, rows.scratch)
