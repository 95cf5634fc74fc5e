"""Reductions and global pooling over any axes, in both layouts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from softneuro_core.axes import reduced_axes
from softneuro_core.device import Target
from softneuro_core.graph import Layer, Region
from softneuro_core.routine import SUMS, Kernel, Offer, Routine
from softneuro_core.spec import NCHW, NHWC, Layout, TensorSpec
from softneuro_core.strides import Axis
from softneuro_core.windows import is_f32, storage_strides
from softneuro_cpu_numba.native import In, NativeKernel, Out, address_of
from softneuro_cpu_numba.storage import NHWC_BF16, stores_bfloat

MAX_AXES = 4
TASK_ELEMENTS = 16384
KINDS: Mapping[str, str] = {
    "ReduceSum": "sum",
    "ReduceMean": "mean",
    "ReduceMax": "max",
    "ReduceMin": "min",
    "ReduceProd": "prod",
    "ReduceL1": "l1",
    "ReduceL2": "l2",
    "ReduceSumSquare": "sumsquare",
    "GlobalAveragePool": "mean",
    "GlobalMaxPool": "max",
}


@dataclass(frozen=True, slots=True)
class Loops:
    """Kept and reduced loops (steps in source and result), and the innermost run of the source."""

    kept: tuple[Axis, ...]
    reduced: tuple[Axis, ...]
    inner: int
    inner_out: int
    inner_kept: bool


def loops_of(layer: Layer, source: Layout, result: Layout) -> Loops | None:
    """The loop nest over the source's storage order; None if it needs more loops than the kernel has."""
    axes = reduced_axes(layer)
    x, y = layer.inputs[0], layer.results[0]
    if axes is None or x is None:
        return None
    shape = x.static_shape
    made = storage_strides(result, y.static_shape)
    if len(y.static_shape) == len(shape):
        out = [0 if a in axes else made[a] for a in range(len(shape))]
    else:
        left = iter(made)
        out = [0 if a in axes else next(left) for a in range(len(shape))]
    own = storage_strides(source, shape)
    nest: list[tuple[Axis, bool]] = []
    for a in source.permutation(len(shape)):
        axis, kept = Axis(shape[a], (own[a], out[a])), a not in axes
        if axis.size == 1:
            continue
        if nest and nest[-1][1] == kept and _joins(nest[-1][0], axis):
            nest[-1] = (Axis(nest[-1][0].size * axis.size, axis.steps), kept)
        else:
            nest.append((axis, kept))
    last, inner_kept = nest.pop() if nest else (Axis(1, (1, 1)), False)
    kept_axes = tuple(a for a, kept in nest if kept)
    reduced = tuple(a for a, kept in nest if not kept)
    if max(len(kept_axes), len(reduced)) > MAX_AXES:
        return None
    return Loops(kept_axes, reduced, last.size, last.steps[1], inner_kept)


def _joins(outer: Axis, inner: Axis) -> bool:
    return all(a == b * inner.size for a, b in zip(outer.steps, inner.steps, strict=True))


class Reduce(Routine):
    """One reduction operator, float32; channels-last operands may be stored as bfloat16."""

    def __init__(self, operator: str) -> None:
        self.name, self.pattern = f"cpu/{operator.lower()}", (operator,)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        layer = region.exit
        x = layer.inputs[0]
        if x is None or x.is_constant or not is_f32(x, *region.outputs) or len(region.inputs) != 1:
            return
        ranks = (len(x.static_shape), len(region.outputs[0].static_shape))
        for source in (NCHW, NHWC) if ranks[0] >= 3 else (NCHW,):
            result = source if ranks[0] == ranks[1] else NCHW
            ways = [(TensorSpec("cpu", x.dtype, source), result)]
            if source == NHWC and stores_bfloat(target):  # a last image is small: in either layout, as others want it
                ways += [(NHWC_BF16, layout) for layout in dict.fromkeys((result, NCHW))]
            for spec, made in ways:
                if loops_of(layer, source, made) is not None:
                    yield Offer((spec,), (TensorSpec("cpu", x.dtype, made),), accuracy=SUMS)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        layer = region.exit
        loops = loops_of(layer, offer.inputs[0].layout, offer.outputs[0].layout)
        assert loops is not None
        outputs = math.prod(a.size for a in loops.kept)
        work = loops.inner * math.prod(a.size for a in loops.reduced)
        per_task = max(1, TASK_ELEMENTS // work)
        count = region.inputs[0].size // region.outputs[0].size
        kept = [*_column(loops.kept, None), *_column(loops.kept, 0), *_column(loops.kept, 1)]
        reduced = [*_column(loops.reduced, None), *_column(loops.reduced, 0)]
        stored = offer.inputs[0].dtype.name
        head = (outputs, per_task, count, loops.inner, loops.inner_out)
        return NativeKernel(
            address_of("reduce", "reduce", kind=KINDS[layer.op], inner_kept=loops.inner_kept, stored=stored),
            (In(0), Out(0), *head, len(loops.kept), *kept, len(loops.reduced), *reduced),
            -(-outputs // per_task),
        )


def _column(axes: Sequence[Axis], operand: int | None) -> list[int]:
    """Sizes (None) or steps of one operand, filled up to the kernel's four."""
    values = [a.size if operand is None else a.steps[operand] for a in axes]
    return values + [1 if operand is None else 0] * (MAX_AXES - len(values))


def reductions() -> list[Routine]:
    """One routine for every operator of the table."""
    return [Reduce(operator) for operator in KINDS]
