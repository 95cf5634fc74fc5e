"""Gather along an axis, of computed data or a constant table (embeddings)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from softneuro_core.device import Target
from softneuro_core.graph import Region, Value
from softneuro_core.routine import EXACT, Kernel, Offer, Routine
from softneuro_core.spec import TensorSpec
from softneuro_cpu_numba.copies import MOVABLE_SIZES
from softneuro_cpu_numba.native import In, NativeKernel, Out, address_of, aligned

TASK_ELEMENTS = 16384


class Gather(Routine):
    """Gather, any element type, int32 or int64 indices."""

    name, pattern = "cpu/gather", ("Gather",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        values = (*region.exit.operands, *region.outputs)
        if any(v.is_object or v.dtype.itemsize not in MOVABLE_SIZES or 0 in v.static_shape for v in values):
            return
        if region.inputs and region.exit.operands[1].dtype.name in ("int64", "int32"):
            specs = tuple(TensorSpec("cpu", v.dtype) for v in region.inputs)
            yield Offer(specs, (TensorSpec("cpu", region.outputs[0].dtype),), accuracy=EXACT)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        data, indices = region.exit.operands[:2]
        shape = data.static_shape
        axis = int(region.exit.attrs.get("axis", 0)) % len(shape)
        outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
        per_task = max(1, TASK_ELEMENTS // inner)

        def operand(value: Value, number: int) -> In | np.ndarray:
            return In(number) if value.data is None else aligned(np.ascontiguousarray(value.data))

        return NativeKernel(
            address_of("movement", "gather", itemsize=data.dtype.itemsize, index=indices.dtype.name),
            (
                *(operand(data, 0), operand(indices, 0 if data.is_constant else 1), Out(0)),
                *(outer, shape[axis], inner, indices.size, per_task),
            ),
            -(-outer * indices.size // per_task),
        )
