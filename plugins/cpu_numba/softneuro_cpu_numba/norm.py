"""Softmax, LogSoftmax, layer, instance and batch normalisation."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from softneuro_core.device import Target
from softneuro_core.graph import Region, Value
from softneuro_core.routine import SUMS, Kernel, Offer, Routine
from softneuro_core.spec import NCHW, Layout
from softneuro_cpu_numba.elementwise import Leaf, map_kernel
from softneuro_cpu_numba.native import In, NativeKernel, Out, address_of, aligned
from softneuro_cpu_numba.windows import NCHW_F32, NHWC_F32, is_f32

TASK_ELEMENTS = 8192
INNER_BLOCK = 256
"""Columns of a softmax done together: their maxima and sums stay in the first-level cache."""


class Softmax(Routine):
    """Softmax or LogSoftmax along any axis; before opset 13 over all axes from ``axis`` on."""

    def __init__(self, operator: str) -> None:
        self.name, self.pattern = f"cpu/{operator.lower()}", (operator,)

    def _extents(self, region: Region, layout: Layout) -> tuple[int, int, int] | None:
        """(outer, n, inner) in storage order."""
        layer = region.exit
        shape = region.inputs[0].static_shape
        rank = len(shape)
        if layer.version < 13:
            axis = int(layer.attrs.get("axis", 1))
            axis = axis + rank if axis < 0 else axis
            return (math.prod(shape[:axis]), math.prod(shape[axis:]), 1) if layout == NCHW else None
        order = list(layout.permutation(rank))
        place = order.index(int(layer.attrs.get("axis", -1)) % rank)
        stored = [shape[a] for a in order]
        return math.prod(stored[:place]), stored[place], math.prod(stored[place + 1 :])

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        if not region.inputs or not is_f32(*region.inputs, *region.outputs) or not region.inputs[0].static_shape:
            return
        for spec in (NCHW_F32, NHWC_F32) if len(region.inputs[0].static_shape) >= 3 else (NCHW_F32,):
            if self._extents(region, spec.layout) is not None:
                yield Offer((spec,), (spec,), accuracy=SUMS)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        extents = self._extents(region, offer.inputs[0].layout)
        assert extents is not None
        outer, n, inner = extents
        block = min(inner, INNER_BLOCK)
        tasks = -(-inner // block)
        address = address_of("reduce", "softmax", log=region.exit.op == "LogSoftmax")
        return NativeKernel(address, (In(0), Out(0), outer, n, inner, block, tasks), outer * tasks, 8 * block)


def _constant(value: Value | None, size: int, default: float) -> np.ndarray | None:
    if value is None:
        return np.full(size, default, np.float32)
    return None if value.data is None or value.size != size else np.asarray(value.data, np.float32).reshape(-1)


class LayerNorm(Routine):
    """LayerNormalization (its first output) and InstanceNormalization with constant scale and bias, float32."""

    def __init__(self, operator: str) -> None:
        self.name, self.pattern = f"cpu/{operator.lower()}", (operator,)

    def _parts(self, region: Region) -> tuple[int, int, np.ndarray, np.ndarray] | None:
        """(rows, n, scale, bias)."""
        layer = region.exit
        if len(region.inputs) != 1 or len(region.outputs) != 1 or not is_f32(*region.inputs, *region.outputs):
            return None
        shape = region.inputs[0].static_shape
        per_row = layer.op == "InstanceNormalization"
        axis = 2 if per_row else int(layer.attrs.get("axis", -1)) % len(shape)
        rows, n = math.prod(shape[:axis]), math.prod(shape[axis:])
        size = shape[1] if per_row else n
        scale = _constant(layer.inputs[1], size, 1.0)
        bias = _constant(layer.inputs[2] if len(layer.inputs) > 2 else None, size, 0.0)
        return None if scale is None or bias is None else (rows, n, scale, bias)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        if self._parts(region) is not None and int(region.exit.attrs.get("stash_type", 1)) == 1:
            yield Offer((NCHW_F32,), (NCHW_F32,), accuracy=SUMS)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        parts = self._parts(region)
        assert parts is not None
        rows, n, scale, bias = parts
        per_row = region.exit.op == "InstanceNormalization"
        per_task = max(1, TASK_ELEMENTS // n)
        epsilon = float(region.exit.attrs.get("epsilon", 1e-5))
        return NativeKernel(
            address_of("reduce", "normalise", per_row=per_row),
            (In(0), aligned(scale), aligned(bias), Out(0), rows, n, per_task, len(scale), epsilon),
            -(-rows // per_task),
        )


class BatchNorm(Routine):
    """BatchNormalization in inference: one multiplication and one addition a channel, the numbers made once."""

    name, pattern = "cpu/batch_norm", ("BatchNormalization",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        layer = region.exit
        parameters = layer.inputs[1:5]
        if any(v is None or v.data is None for v in parameters) or int(layer.attrs.get("training_mode", 0)):
            return
        if len(region.outputs) != 1 or not is_f32(*region.inputs, *region.constants, *region.outputs):
            return
        if len(region.inputs[0].static_shape) < 2 or not int(layer.attrs.get("spatial", 1)):
            return
        for spec in (NCHW_F32, NHWC_F32) if len(region.inputs[0].static_shape) >= 3 else (NCHW_F32,):
            yield Offer((spec,), (spec,), accuracy=SUMS, inplace=0)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        layer = region.exit
        scale, bias, mean, variance = (np.asarray(v.data, np.float64) for v in layer.inputs[1:5] if v is not None)
        factor = scale / np.sqrt(variance + float(layer.attrs.get("epsilon", 1e-5)))
        shift = bias - mean * factor
        shape, layout = region.inputs[0].static_shape, offer.inputs[0].layout
        per_channel = (shape[1], *[1] * (len(shape) - 2))
        numbers = [
            Leaf(per_channel, NCHW, "float32", v.astype(np.float32).reshape(per_channel)) for v in (factor, shift)
        ]
        x = Leaf(shape, layout, "float32", In(0))
        return map_kernel(shape, layout, "float32", [x, *numbers], ("r = (a0 * a1) + a2",))
