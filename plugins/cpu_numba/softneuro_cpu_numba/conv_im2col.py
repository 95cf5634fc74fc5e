"""Convolution as im2col and one BLAS product a group and image: what BLAS is best at, large matrices.

BLAS runs on one thread whatever the plan has (see ``blas``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from softneuro_core.device import Buffer, Target
from softneuro_core.epilogue import epilogue_regions
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.routine import SUMS, Call, Kernel, Offer, Routine
from softneuro_core.spec import NCHW, NHWC
from softneuro_core.windows import NCHW_F32, NHWC_F32
from softneuro_cpu_numba.blas import keep_blas_to_one_thread
from softneuro_cpu_numba.conv_direct import Convolution, convolution_of, geometry_table
from softneuro_cpu_numba.native import In, NativeKernel, Out, Scratch, address_of, aligned

MIN_K = 16
"""Sums shorter than this are hopeless in BLAS; not offering them saves tuning time."""
MOST_WINDOWED = 8
"""Output channels of a group up to which kernels wider than 1x1 are offered: beyond, of 246 layers measured in eleven
networks none came closer than 0.91 of the fastest, and the patches of a large image alone take seconds."""
TASK_ELEMENTS = 16384


@dataclass(frozen=True, slots=True)
class Im2colKernel:
    """Patches into scratch (native), one ``matmul`` a group and image, the epilogue in place (native)."""

    conv: Convolution
    weights: np.ndarray  # (groups, OC / groups, K), or (groups, K, OC / groups) for NHWC
    patches: NativeKernel | None
    finish: NativeKernel
    channels_last: bool

    @property
    def scratch(self) -> int:
        window = self.conv.window
        return 4 * window.batch * window.pixels * self.conv.k * self.conv.groups if self.patches else 0

    @property
    def constant_bytes(self) -> int:
        return self.weights.nbytes + self.finish.constant_bytes

    def bind(self, inputs: Sequence[Any], outputs: Sequence[Any], scratch: Buffer | None) -> Call:
        keep_blas_to_one_thread()
        fill = self.patches.bind(inputs, outputs, scratch).run if self.patches else None
        finish = self.finish.bind(inputs, outputs, scratch).run
        products = self._products(inputs[0].array, outputs[0].array, scratch)
        matmul = np.matmul

        def run() -> None:
            if fill is not None:
                fill()
            for a, b, y in products:
                matmul(a, b, out=y)
            finish()

        return Call(run)

    def _products(self, x: np.ndarray, y: np.ndarray, scratch: Buffer | None) -> list[tuple[np.ndarray, ...]]:
        conv, window = self.conv, self.conv.window
        groups, k, batch, pixels = conv.groups, conv.k, window.batch, window.pixels
        group_out = conv.out_channels // groups
        if self.patches is None:
            patches = x
        else:
            assert scratch is not None
            patches = scratch.array[: 4 * batch * pixels * k * groups].view(np.float32)
        if self.channels_last:
            columns = patches.reshape(groups, batch * pixels, k)
            made = y.reshape(batch * pixels, groups, group_out)
            return [(columns[g], self.weights[g], made[:, g]) for g in range(groups)]
        if self.patches is None:
            planes = patches.reshape(batch, groups, k, pixels).transpose(1, 0, 2, 3)
        else:
            planes = patches.reshape(groups, batch, k, pixels)
        images = y.reshape(batch, groups, group_out, pixels)
        return [(self.weights[g], planes[g, n], images[n, g]) for g in range(groups) for n in range(batch)]


class Im2colConv(Routine):
    """Conv [+ Add] [+ activation], float32: im2col and BLAS; 1x1 without im2col."""

    name = "cpu/conv_im2col"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        return epilogue_regions(graph, exit, ("Conv",))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        conv = convolution_of(region)
        if conv is None or conv.k < MIN_K:
            return
        group_out = conv.out_channels // conv.groups
        if group_out < 4 or (group_out > MOST_WINDOWED and not conv.window.is_pointwise):
            return
        for spec in (NHWC_F32, NCHW_F32):
            if spec is NHWC_F32 and conv.groups > 1:
                continue  # BLAS would write rows with gaps
            inputs = (spec,) * len(region.inputs)
            yield Offer(inputs, (spec,), accuracy=SUMS, deterministic=False, flops=conv.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        conv = convolution_of(region)
        assert conv is not None
        channels_last = offer.outputs[0].layout == NHWC
        groups, k, group_in = conv.groups, conv.k, conv.weights.shape[1]
        grouped = conv.weights.reshape(groups, conv.out_channels // groups, group_in, -1)
        if channels_last:
            weights = grouped.transpose(0, 3, 2, 1).reshape(groups, k, -1)
        else:
            weights = grouped.reshape(groups, -1, k)
        patches = None if conv.window.is_pointwise else _patches(conv, channels_last)
        return Im2colKernel(conv, aligned(weights), patches, _finish(conv, channels_last), channels_last)


def _patches(conv: Convolution, channels_last: bool) -> NativeKernel:
    window, group_in = conv.window, conv.weights.shape[1]
    block = max(1, min(window.pixels, TASK_ELEMENTS // conv.k))
    tasks = -(-window.pixels // block)
    layout = NHWC if channels_last else NCHW
    sizes = (group_in, 0, window.batch, window.pixels, conv.k, conv.groups, block, tasks, int(not channels_last))
    return NativeKernel(
        address_of("patches", "im2col"),
        (In(0), Scratch(), *sizes, *geometry_table(window, group_in, layout, channel_first=not channels_last)),
        conv.groups * window.batch * tasks,
    )


def _finish(conv: Convolution, channels_last: bool) -> NativeKernel:
    window, act = conv.window, conv.epilogue.activation
    bias = np.zeros(conv.out_channels, np.float32) if conv.bias is None else conv.bias.astype(np.float32)
    pixels = window.batch * window.pixels
    rows, width = (pixels, conv.out_channels) if channels_last else (window.batch * conv.out_channels, window.pixels)
    per_task = max(1, TASK_ELEMENTS // width)
    residual = conv.epilogue.residual
    return NativeKernel(
        address_of("patches", "finish", act=act.kind),
        (
            *(Out(0), aligned(bias), None if residual is None else In(residual)),
            *(rows, width, conv.out_channels, per_task, int(not channels_last), act.p0, act.p1),
        ),
        -(-rows // per_task),
    )
