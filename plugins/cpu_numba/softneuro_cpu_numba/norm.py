"""Softmax, LogSoftmax, layer, instance and batch normalisation."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from softneuro_core.axes import softmax_extents
from softneuro_core.device import Target
from softneuro_core.graph import Graph, Layer, Region, Value, chains
from softneuro_core.routine import SUMS, Kernel, Offer, Routine
from softneuro_core.spec import NCHW
from softneuro_core.windows import NCHW_F32, NHWC_F32, is_f32
from softneuro_cpu_numba.elementwise import Leaf, map_kernel
from softneuro_cpu_numba.emit.isa import isa_of, lanes_of
from softneuro_cpu_numba.native import In, NativeKernel, Out, address_of, aligned, emitted_address
from softneuro_cpu_numba.tiles import ROWS_TOGETHER

TASK_ELEMENTS = 2048
INNER_BLOCK = 256
"""Columns of a softmax done together: their maxima and sums stay in the first-level cache."""


class Softmax(Routine):
    """Softmax or LogSoftmax along any axis; before opset 13 over all axes from ``axis`` on."""

    def __init__(self, operator: str) -> None:
        self.name, self.pattern = f"cpu/{operator.lower()}", (operator,)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        if not region.inputs or not is_f32(*region.inputs, *region.outputs) or not region.inputs[0].static_shape:
            return
        for spec in (NCHW_F32, NHWC_F32) if len(region.inputs[0].static_shape) >= 3 else (NCHW_F32,):
            if softmax_extents(region.exit, spec.layout) is not None:
                yield Offer((spec,), (spec,), accuracy=SUMS)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        extents = softmax_extents(region.exit, offer.inputs[0].layout)
        assert extents is not None
        outer, n, inner = extents
        block = min(inner, INNER_BLOCK)
        tasks = -(-inner // block)
        if inner == 1 and region.exit.op == "Softmax":
            per_task, lanes = max(1, TASK_ELEMENTS // n // ROWS_TOGETHER[0]) * ROWS_TOGETHER[0], lanes_of(target)
            address = emitted_address("norm", "softmax", isa_of(target))
            scratch = 4 * ROWS_TOGETHER[0] * -(-n // lanes) * lanes
            return NativeKernel(address, (In(0), Out(0), outer, per_task, n), -(-outer // per_task), scratch)
        address = address_of("reduce", "softmax", log=region.exit.op == "LogSoftmax")
        return NativeKernel(address, (In(0), Out(0), outer, n, inner, block, tasks), outer * tasks, 8 * block)


def _constant(value: Value | None, size: int, default: float) -> np.ndarray | None:
    if value is None:
        return np.full(size, default, np.float32)
    return None if value.data is None or value.size != size else np.asarray(value.data, np.float32).reshape(-1)


@dataclass(frozen=True, slots=True)
class Norm:
    """What a region normalises: ``rows`` of ``n``, scale and bias, the inputs added up before (one or two)."""

    rows: int
    n: int
    scale: np.ndarray
    bias: np.ndarray
    terms: tuple[int, ...]


class LayerNorm(Routine):
    """LayerNormalization (its first output) and InstanceNormalization with constant scale and bias, float32; of a sum
    of two values too."""

    def __init__(self, operator: str) -> None:
        self.name, self.pattern = f"cpu/{operator.lower()}", (operator,)

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        if exit.op in self.pattern:
            yield (exit,)
            yield from chains(graph, exit, ("Add", *self.pattern))

    def parts(self, region: Region) -> Norm | None:
        """What a region normalises, None where it is not for these routines."""
        layer = region.exit
        if len(region.outputs) != 1 or not is_f32(*region.inputs, *region.outputs):
            return None
        x = layer.inputs[0]
        if x is None or len(region.inputs) != len(region.layers):
            return None
        if any(v.static_shape != x.static_shape for v in region.inputs) or not x.static_shape:
            return None
        if len(region.layers) == 2 and region.layers[0].results[0] is not x:
            return None
        shape = x.static_shape
        per_row = layer.op == "InstanceNormalization"
        axis = 2 if per_row else int(layer.attrs.get("axis", -1)) % len(shape)
        rows, n = math.prod(shape[:axis]), math.prod(shape[axis:])
        size = shape[1] if per_row else n
        scale = _constant(layer.inputs[1], size, 1.0)
        bias = _constant(layer.inputs[2] if len(layer.inputs) > 2 else None, size, 0.0)
        if scale is None or bias is None or n == 0:
            return None
        return Norm(rows, n, scale, bias, tuple(range(len(region.inputs))))

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        if self.parts(region) is not None and int(region.exit.attrs.get("stash_type", 1)) == 1:
            yield Offer((NCHW_F32,) * len(region.inputs), (NCHW_F32,), accuracy=SUMS)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        p = self.parts(region)
        assert p is not None
        per_task = max(1, TASK_ELEMENTS // p.n // ROWS_TOGETHER[0]) * ROWS_TOGETHER[0]
        added = len(p.terms) == 2
        address = emitted_address(
            *("norm", "normalise", isa_of(target)),
            per_row=region.exit.op == "InstanceNormalization",
            added=added,
        )
        return NativeKernel(
            address,
            (
                *(In(0), In(1) if added else None, aligned(p.scale), aligned(p.bias), Out(0)),
                *(p.rows, per_task, p.n, len(p.scale)),
                *(1.0 / p.n, float(region.exit.attrs.get("epsilon", 1e-5))),
            ),
            -(-p.rows // per_task),
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
