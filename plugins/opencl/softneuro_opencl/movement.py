"""Data movement on the device (``moved`` in ``kernels/movement.cl``): Transpose, Reshape, Concat, Split, Slice, and the
other layout; float16 to float32 and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from softneuro_core.axes import sliced
from softneuro_core.device import Target
from softneuro_core.graph import Region, Value
from softneuro_core.routine import EXACT, Adapter, Kernel, Offer
from softneuro_core.spec import FLOAT16, FLOAT32, NCHW, NHWC, OBJECT, DType, Layout, TensorSpec
from softneuro_core.strides import Axis, merge
from softneuro_core.windows import storage_strides
from softneuro_opencl.device import OpenCLDevice
from softneuro_opencl.launches import THE_INPUT, THE_OUTPUT, Argument, Constant, In, Launch, OpenCLKernel, Out
from softneuro_opencl.routine import OpenCLRoutine, layouts_of

FILE = "movement.cl"
CHUNK, SHORT = 4096, 16
"""Elements of an item, and of rows that are not worth one."""
WORDS = {1: "uchar", 2: "ushort", 4: "uint", 8: "ulong"}
"""What elements of so many bytes are moved as."""


def is_moved(*values: Value) -> bool:
    """Whether all are tensors of one type, of known, non-empty shape, whose elements are words."""
    kinds = {v.dtype for v in values}
    whole = all(v.is_static and 0 not in v.static_shape and v.dtype is not OBJECT for v in values)
    return whole and len(kinds) == 1 and kinds.pop().numpy.itemsize in WORDS


def word(dtype: DType) -> str:
    return WORDS[dtype.numpy.itemsize]


def moved(
    device: OpenCLDevice,
    dtype: DType,
    sizes: Sequence[int],
    x_steps: Sequence[int],
    y_steps: Sequence[int],
    x_first: int = 0,
    y_first: int = 0,
    x: Argument = THE_INPUT,
    y: Argument = THE_OUTPUT,
) -> Launch:
    """The copy of a box of so many elements by axis, from ``x`` to ``y``; steps and firsts in elements."""
    axes = merge([Axis(n, (a, b)) for n, a, b in zip(sizes, x_steps, y_steps, strict=True)])
    *outer, inner = _longest_last(axes) or [Axis(1, (1, 1))]
    table = [a.size for a in outer] + [a.steps[0] for a in outer] + [a.steps[1] for a in outer] + [0]
    arguments = (x, y, Constant(device, np.array(table, np.int32)), x_first, y_first, inner.size)
    work = (-(-inner.size // CHUNK), math.prod(a.size for a in outer))
    if 0 in sizes:
        work = (0, 0)
    return Launch(
        FILE, "moved", {"TYPE": word(dtype), "AXES": len(outer)}, (*arguments, *inner.steps, CHUNK), work, (1, 1)
    )


def _longest_last(axes: Sequence[Axis]) -> list[Axis]:
    """The loops, but for a short last one, for which nobody should start an item: then the longest is the last."""
    if not axes or axes[-1].size >= SHORT:
        return list(axes)
    longest = max(range(len(axes)), key=lambda place: axes[place].size)
    return [*axes[:longest], *axes[longest + 1 :], axes[longest]]


def _dense(shape: Sequence[int]) -> list[int]:
    return storage_strides(NCHW, shape)


class Transpose(OpenCLRoutine):
    """Transpose of any type."""

    algorithm, pattern = "transpose", ("Transpose",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        (x,) = region.exit.operands
        if is_moved(x) and not x.is_constant:
            spec = self.stored(NCHW, x.dtype)
            yield Offer([spec], [spec], accuracy=EXACT)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        (x,), device = region.exit.operands, self.opencl(target)
        rank = len(x.static_shape)
        order = [int(a) for a in region.exit.attrs.get("perm") or reversed(range(rank))]
        sizes, strides = [x.static_shape[a] for a in order], _dense(x.static_shape)
        return OpenCLKernel(device, (moved(device, x.dtype, sizes, [strides[a] for a in order], _dense(sizes)),))


class Reshape(OpenCLRoutine):
    """What leaves every element where it is, as a copy that may be none: Reshape, Flatten, Squeeze, Unsqueeze."""

    def __init__(self, device: str, operator: str) -> None:
        self.algorithm, self.pattern = operator.lower(), (operator,)
        super().__init__(device)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        x = region.exit.inputs[0]
        if x is not None and is_moved(x, *region.outputs) and len(region.inputs) == 1 and not x.is_constant:
            spec = self.stored(NCHW, x.dtype)
            yield Offer([spec], [spec], accuracy=EXACT, inplace=0)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        (x,), device = region.inputs, self.opencl(target)
        return OpenCLKernel(device, (moved(device, x.dtype, [math.prod(x.static_shape)], [1], [1]),))


class _Piece(NamedTuple):
    """Part of a whole along one axis: sizes and strides in storage order, its own and the whole's, and where it begins
    there; in elements."""

    sizes: list[int]
    own: list[int]
    strides: list[int]
    first: int


def _pieces(whole: Value, parts: Sequence[Value], axis: int, layout: Layout) -> Iterator[_Piece]:
    """The parts, one behind the other."""
    order, strides = layout.permutation(len(whole.static_shape)), storage_strides(layout, whole.static_shape)
    first = 0
    for part in parts:
        columns = part.static_shape, storage_strides(layout, part.static_shape), strides
        sizes, own, theirs = ([column[a] for a in order] for column in columns)
        yield _Piece(sizes, own, theirs, first)
        first += part.static_shape[axis] * strides[axis]


class Concat(OpenCLRoutine):
    """Concat along any axis."""

    algorithm, pattern = "concat", ("Concat",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        values = region.exit.operands
        if is_moved(*values, *region.outputs):
            for layout in layouts_of(region.outputs[0]):
                spec = self.stored(layout, values[0].dtype)
                yield Offer([spec] * len(region.inputs), [spec], accuracy=EXACT)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        device, layout, whole = self.opencl(target), offer.outputs[0].layout, region.outputs[0]
        launches = []
        pieces = _pieces(whole, region.exit.operands, int(region.exit.attrs["axis"]), layout)
        for value, piece in zip(region.exit.operands, pieces, strict=True):
            x = In(region.inputs.index(value)) if value.data is None else Constant(device, layout.pack(value.data))
            launches.append(moved(device, value.dtype, piece.sizes, piece.own, piece.strides, y_first=piece.first, x=x))
        return OpenCLKernel(device, tuple(launches))


class Split(OpenCLRoutine):
    """Split along any axis, into parts of any size."""

    algorithm, pattern = "split", ("Split",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        x, parts = region.exit.operands[0], region.exit.results
        if is_moved(x, *parts) and not x.is_constant and len(region.inputs) == 1 and len(region.outputs) == len(parts):
            for layout in layouts_of(x):
                spec = self.stored(layout, x.dtype)
                yield Offer([spec], [spec] * len(parts), accuracy=EXACT)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        device, layout, (x,) = self.opencl(target), offer.inputs[0].layout, region.inputs
        launches = []
        for number, piece in enumerate(_pieces(x, region.outputs, int(region.exit.attrs.get("axis", 0)), layout)):
            y = Out(number)
            launches.append(moved(device, x.dtype, piece.sizes, piece.strides, piece.own, x_first=piece.first, y=y))
        return OpenCLKernel(device, tuple(launches))


class Slice(OpenCLRoutine):
    """Slice by constant numbers."""

    algorithm, pattern = "slice", ("Slice",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        x = region.exit.operands[0]
        if is_moved(x, *region.outputs) and region.inputs == (x,) and sliced(region.exit) is not None:
            spec = self.stored(NCHW, x.dtype)
            yield Offer([spec], [spec], accuracy=EXACT)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        device, taken, (x,) = self.opencl(target), sliced(region.exit), region.inputs
        assert taken is not None
        out, strides = region.outputs[0].static_shape, _dense(x.static_shape)
        first = sum(begin * stride for (begin, _), stride in zip(taken, strides, strict=True))
        steps = [step * stride for (_, step), stride in zip(taken, strides, strict=True)]
        return OpenCLKernel(device, (moved(device, x.dtype, out, steps, _dense(out), x_first=first),))


class ToOtherLayout(Adapter):
    """NCHW to NHWC and back, on the device."""

    def __init__(self, device: str) -> None:
        self.name = f"{device}/other_layout"

    def accepts(self, src: TensorSpec, dst: TensorSpec, value: Value) -> bool:
        layouts = {src.layout, dst.layout}
        same = src.dtype is dst.dtype and src.device == dst.device == self.name.partition("/")[0]
        return same and layouts == {NCHW, NHWC} and value.is_static and src.dtype.numpy.itemsize in WORDS

    def prepare(self, src: TensorSpec, dst: TensorSpec, value: Value, target: Target) -> Kernel:
        device, shape = target.device, value.static_shape
        assert isinstance(device, OpenCLDevice)
        order = dst.layout.permutation(len(shape))
        there, here = ([storage_strides(spec.layout, shape)[a] for a in order] for spec in (src, dst))
        return OpenCLKernel(device, (moved(device, src.dtype, [shape[a] for a in order], there, here),))


class Cast(Adapter):
    """float32 to float16 and back, on the device."""

    def __init__(self, device: str) -> None:
        self.name = f"{device}/cast"

    def accepts(self, src: TensorSpec, dst: TensorSpec, value: Value) -> bool:
        here = src.device == dst.device == self.name.partition("/")[0] and src.layout == dst.layout in (NCHW, NHWC)
        return here and {src.dtype, dst.dtype} == {FLOAT32, FLOAT16} and value.is_static

    def prepare(self, src: TensorSpec, dst: TensorSpec, value: Value, target: Target) -> Kernel:
        device, count = target.device, math.prod(value.static_shape)
        assert isinstance(device, OpenCLDevice)
        defines = {"TYPE": "uint", "AXES": 0, **({"TO_HALVES": ""} if dst.dtype is FLOAT16 else {})}
        work = (-(-count // CHUNK),)
        return OpenCLKernel(device, (Launch(FILE, "converted", defines, (In(0), Out(0), count, CHUNK), work, (1,)),))

    def error(self, src: TensorSpec, dst: TensorSpec, value: Value) -> float:
        return 2.0**-11 if dst.dtype is FLOAT16 else EXACT
