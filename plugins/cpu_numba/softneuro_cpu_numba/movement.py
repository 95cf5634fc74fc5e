"""Layers that move elements unchanged: one routine, a table of how each operator maps out to in."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from softneuro_core.axes import integers, sliced
from softneuro_core.device import Target
from softneuro_core.graph import Layer, Region, Value
from softneuro_core.routine import EXACT, Kernel, Offer, Routine
from softneuro_core.spec import FLOAT32, NCHW, NHWC, Layout, TensorSpec
from softneuro_core.strides import Axis
from softneuro_core.windows import storage_strides, text
from softneuro_cpu_numba.copies import (
    MOVABLE_SIZES,
    Block,
    PlacedCopy,
    is_expressible,
    is_whole,
)
from softneuro_cpu_numba.native import aligned
from softneuro_cpu_numba.storage import NHWC_BF16, stores_bfloat

Strides = Sequence[int]
Blocks = list[Block]
Plan = Callable[[Layer, Sequence[Strides], Sequence[Strides]], Blocks | None]
"""(layer, strides of every input, strides of every output) -> blocks, None where the form is not covered."""


def shape_of(layer: Layer, position: int = 0) -> tuple[int, ...]:
    value = layer.inputs[position]
    assert value is not None
    return value.static_shape


def nest(shape: Sequence[int], source: Strides, out: Strides) -> tuple[Axis, ...]:
    """Loops over a shape whose axes step alike in both."""
    return tuple(Axis(n, (a, b)) for n, a, b in zip(shape, source, out, strict=True))


def plain_strides(shape: Sequence[int]) -> list[int]:
    return storage_strides(NCHW, shape)


def _reshape(layer: Layer, ins: Sequence[Strides], outs: Sequence[Strides]) -> Blocks | None:
    shape, made = shape_of(layer), layer.results[0].static_shape
    if list(outs[0]) == plain_strides(made):
        return [Block(nest(shape, ins[0], plain_strides(shape)), 0)]
    if list(ins[0]) == plain_strides(shape):
        return [Block(nest(made, plain_strides(made), outs[0]), 0)]
    return None


def _transpose(layer: Layer, ins: Sequence[Strides], outs: Sequence[Strides]) -> Blocks | None:
    shape = shape_of(layer)
    order = list(layer.attrs.get("perm") or reversed(range(len(shape))))
    return [Block(nest([shape[a] for a in order], [ins[0][a] for a in order], outs[0]), 0)]


def _concat(layer: Layer, ins: Sequence[Strides], outs: Sequence[Strides]) -> Blocks | None:
    axis = int(layer.attrs["axis"]) % len(layer.results[0].static_shape)
    blocks, at, number = [], 0, 0
    for position, (value, strides) in enumerate(zip(layer.inputs, ins, strict=True)):
        assert value is not None
        source: int | np.ndarray = number
        if value.data is not None:
            source, strides = aligned(np.ascontiguousarray(value.data)), plain_strides(value.static_shape)
        else:
            number += 1
        if value.size:
            blocks.append(Block(nest(shape_of(layer, position), strides, outs[0]), source, 0, 0, at * outs[0][axis]))
        at += value.static_shape[axis]
    return blocks


def _split(layer: Layer, ins: Sequence[Strides], outs: Sequence[Strides]) -> Blocks | None:
    axis = int(layer.attrs.get("axis", 0)) % len(shape_of(layer))
    blocks, at = [], 0
    for number, value in enumerate(layer.outputs):
        if value is None:
            return None
        blocks.append(Block(nest(value.static_shape, ins[0], outs[number]), 0, at * ins[0][axis], number))
        at += value.static_shape[axis]
    return blocks


def _slice(layer: Layer, ins: Sequence[Strides], outs: Sequence[Strides]) -> Blocks | None:
    if (taken := sliced(layer)) is None:
        return None
    strides = [step * stride for (_, step), stride in zip(taken, ins[0], strict=True)]
    offset = sum(first * stride for (first, _), stride in zip(taken, ins[0], strict=True))
    return [Block(nest(layer.results[0].static_shape, strides, outs[0]), 0, offset)]


def _pad(layer: Layer, ins: Sequence[Strides], outs: Sequence[Strides]) -> Blocks | None:
    shape, made = shape_of(layer), layer.results[0].static_shape
    pads = integers(layer, 1, "pads" if "pads" in layer.attrs else "paddings")
    axes = integers(layer, 3) or list(range(len(shape)))
    if pads is None or min(pads, default=0) < 0 or any(v is not None and v.data is None for v in layer.inputs[1:]):
        return None
    before = [0] * len(shape)
    for i, axis in enumerate(axes):
        before[axis % len(shape)] = pads[i]
    after = [m - n - b for m, n, b in zip(made, shape, before, strict=True)]
    mode = text(layer.attrs.get("mode", "constant"))
    if mode == "constant":
        return _filled(layer, before, ins, outs)
    pieces = [_mirrored(n, b, a, mode) for n, b, a in zip(shape, before, after, strict=True)]
    if any(p is None for p in pieces):
        return None
    blocks = []
    for chosen in itertools.product(*(p for p in pieces if p is not None)):
        nest_axes = tuple(Axis(c[1], (c[3] * s, o)) for c, s, o in zip(chosen, ins[0], outs[0], strict=True))
        source = sum(c[2] * s for c, s in zip(chosen, ins[0], strict=True))
        target = sum(c[0] * o for c, o in zip(chosen, outs[0], strict=True))
        blocks.append(Block(nest_axes, 0, source, 0, target))
    return blocks


def _mirrored(n: int, before: int, after: int, mode: str) -> list[tuple[int, int, int, int]] | None:
    """One axis as runs (first in result, length, first in source, step); None where one run does not reach."""
    found = [(before, n, 0, 1)]
    if mode == "edge":
        found += [(0, before, 0, 0), (before + n, after, n - 1, 0)]
    elif mode == "reflect" and max(before, after) < n:
        found += [(0, before, before, -1), (before + n, after, n - 2, -1)]
    elif mode == "wrap" and max(before, after) <= n:
        found += [(0, before, n - before, 1), (before + n, after, 0, 1)]
    else:
        return None
    return [run for run in found if run[1]]


def _filled(layer: Layer, before: list[int], ins: Sequence[Strides], outs: Sequence[Strides]) -> Blocks:
    """The source in the middle, slabs of the fill value around it: two an axis, within what earlier axes left."""
    shape, made = shape_of(layer), layer.results[0].static_shape
    value = layer.inputs[2] if len(layer.inputs) > 2 else None
    fill = aligned(np.zeros(1, layer.results[0].dtype.numpy))
    fill[0] = np.asarray(value.data).reshape(-1)[0] if value is not None else layer.attrs.get("value", 0)
    offset = sum(b * s for b, s in zip(before, outs[0], strict=True))
    blocks = [Block(nest(shape, ins[0], outs[0]), 0, 0, 0, offset)] if math.prod(shape) else []
    low, extent = [0] * len(shape), list(made)
    for axis, size in enumerate(shape):
        for start, stop in ((0, before[axis]), (before[axis] + size, made[axis])):
            slab = [*extent[:axis], stop - start, *extent[axis + 1 :]]
            at = sum(a * s for a, s in zip([*low[:axis], start, *low[axis + 1 :]], outs[0], strict=True))
            if math.prod(slab):
                blocks.append(Block(nest(slab, [0] * len(shape), outs[0]), fill, 0, 0, at))
        low[axis], extent[axis] = before[axis], size
    return blocks


def _expand(layer: Layer, ins: Sequence[Strides], outs: Sequence[Strides]) -> Blocks | None:
    shape, made = shape_of(layer), layer.results[0].static_shape
    steps = [0 if n == 1 else s for n, s in zip(shape, ins[0], strict=True)]
    return [Block(nest(made, [0] * (len(made) - len(shape)) + steps, outs[0]), 0)]


def _depth_to_space(layer: Layer, ins: Sequence[Strides], outs: Sequence[Strides]) -> Blocks | None:
    n, c, h, w = shape_of(layer)
    b = int(layer.attrs["blocksize"])
    i, o = ins[0], outs[0]
    deep = c // (b * b)
    column_first = text(layer.attrs.get("mode", "DCR")) == "CRD"
    channel, up, across = (b * b, b, 1) if column_first else (1, b * deep, deep)
    axes = (Axis(n, (i[0], o[0])), Axis(deep, (channel * i[1], o[1])), Axis(h, (i[2], b * o[2])))
    inner = (Axis(b, (up * i[1], o[2])), Axis(w, (i[3], b * o[3])), Axis(b, (across * i[1], o[3])))
    return [Block((*axes, *inner), 0)]


def _space_to_depth(layer: Layer, ins: Sequence[Strides], outs: Sequence[Strides]) -> Blocks | None:
    n, c, h, w = shape_of(layer)
    b = int(layer.attrs["blocksize"])
    i, o = ins[0], outs[0]
    # Output channels count (row, column, channel) of the block in mode DCR, (channel, row, column) in CRD.
    channel, row, column = (b * b, b, 1) if layer.attrs.get("mode", "DCR") == "CRD" else (1, b * c, c)
    axes = (Axis(n, (i[0], o[0])), Axis(c, (i[1], channel * o[1])), Axis(h // b, (b * i[2], o[2])))
    inner = (Axis(b, (i[2], row * o[1])), Axis(w // b, (b * i[3], o[3])), Axis(b, (i[3], column * o[1])))
    return [Block((*axes, *inner), 0)]


PLANS: Mapping[str, Plan] = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Pad": _pad,
    "Expand": _expand,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
MIXED = frozenset(["Transpose", "Reshape"])
"""Operators that may read one layout and make the other; the rest keep the layout."""


class Move(Routine):
    """Concat, Split, Slice, Pad, Transpose, Expand and the Reshape family, of any element type."""

    def __init__(self, operator: str) -> None:
        self.name, self.pattern = f"cpu/{operator.lower()}", (operator,)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        for ins, outs, blocks in self.ways(region):
            alias = 0 if is_whole(blocks, region.outputs[0].size) else None
            specs = (_specs(region.inputs, ins), _specs(region.outputs, outs))
            yield Offer(*specs, accuracy=EXACT, inplace=alias, parts=parts_of(region.exit))
            if outs == NHWC and stores_bfloat(target) and _joins_real_images(region):
                narrow = ((NHWC_BF16,) * len(region.inputs), (NHWC_BF16,))
                yield Offer(*narrow, accuracy=EXACT, inplace=alias, parts=parts_of(region.exit))

    def ways(self, region: Region) -> Iterable[tuple[Layout, Layout, Blocks]]:
        """Layouts of inputs and outputs, and the copies that then do it."""
        values = (*region.inputs, *region.outputs)
        if any(v.is_object or v.dtype.itemsize not in MOVABLE_SIZES or 0 in v.static_shape for v in values):
            return
        if not region.inputs or region.exit.inputs[0] is None:
            return
        if region.exit.inputs[0].is_constant and region.exit.op != "Concat":
            return
        for ins, outs in self._layouts(region):
            blocks = self._blocks(region, ins, outs)
            if blocks is not None and is_expressible(blocks):
                yield ins, outs, blocks

    def _layouts(self, region: Region) -> Iterable[tuple[Layout, Layout]]:
        yield NCHW, NCHW
        spatial = [len(v.static_shape) >= 3 for v in (*region.inputs, *region.outputs)]
        if all(spatial):
            yield NHWC, NHWC
            if region.exit.op in MIXED:
                yield from ((NCHW, NHWC), (NHWC, NCHW))
        elif spatial[0] and region.exit.op == "Reshape":
            yield NHWC, NCHW

    def _blocks(self, region: Region, ins: Layout, outs: Layout) -> Blocks | None:
        layer = region.exit
        strides = [
            storage_strides(ins, v.static_shape) if v is not None and not v.is_constant else [] for v in layer.inputs
        ]
        if layer.op == "Concat" and ins != NCHW and any(v is not None and v.is_constant for v in layer.inputs):
            strides = [s or storage_strides(NCHW, shape_of(layer, i)) for i, s in enumerate(strides)]
        return PLANS[layer.op](layer, strides, [storage_strides(outs, v.static_shape) for v in layer.results])

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        blocks = self._blocks(region, offer.inputs[0].layout, offer.outputs[0].layout)
        assert blocks is not None
        return PlacedCopy.of(blocks, offer.outputs[0].dtype.itemsize)


def _joins_real_images(region: Region) -> bool:
    """Whether this is a Concat that any element type narrower than float32 can go through: no constant is packed."""
    return region.exit.op == "Concat" and region.outputs[0].dtype is FLOAT32 and not region.constants


def parts_of(layer: Layer) -> dict[int, tuple[int, int]]:
    """The inputs of a Concat, where its result has them."""
    if layer.op != "Concat":
        return {}
    axis, at, found = int(layer.attrs["axis"]) % len(layer.results[0].static_shape), 0, dict[int, tuple[int, int]]()
    for value in layer.operands:
        if not value.is_constant:
            found[len(found)] = (axis, at)
        at += value.static_shape[axis]
    return found


def _specs(values: Sequence[Value], layout: Layout) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec("cpu", v.dtype, layout) for v in values)


def movements() -> list[Routine]:
    """One routine for every operator of the table."""
    return [Move(operator) for operator in PLANS]
