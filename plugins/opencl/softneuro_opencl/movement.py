"""Data movement on the device (``kernels/movement.cl``): Transpose, Concat, Slice, Reshape, and the other layout."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from softneuro_core.device import Target
from softneuro_core.graph import Layer, Region, Value
from softneuro_core.passes.rewrite import static_input
from softneuro_core.resizing import resizing_of
from softneuro_core.routine import EXACT, SUMS, Adapter, Kernel, Offer
from softneuro_core.spec import FLOAT32, NCHW, NHWC, TensorSpec
from softneuro_core.strides import Axis, merge
from softneuro_core.windows import is_f32, storage_strides
from softneuro_opencl.device import OpenCLDevice
from softneuro_opencl.launches import Constant, In, Launch, OpenCLKernel, Out
from softneuro_opencl.routine import OpenCLRoutine

FILE = "movement.cl"
CHUNK = 4096
"""Elements of an item."""
WORD = {"TYPE": "uint"}
"""float32 as it lies."""


def moved(
    device: OpenCLDevice,
    sizes: Sequence[int],
    x_steps: Sequence[int],
    y_steps: Sequence[int],
    x_first: int = 0,
    y_first: int = 0,
    x: int = 0,
) -> Launch:
    """The copy of a box of so many elements by axis, from input ``x`` to output 0; steps and firsts in elements."""
    axes = merge([Axis(n, (a, b)) for n, a, b in zip(sizes, x_steps, y_steps, strict=True)])
    *outer, inner = axes or [Axis(1, (1, 1))]
    table = [a.size for a in outer] + [a.steps[0] for a in outer] + [a.steps[1] for a in outer] + [0]
    arguments = (In(x), Out(0), Constant(device, np.array(table, np.int32)), x_first, y_first, inner.size)
    work = (-(-inner.size // CHUNK), math.prod(a.size for a in outer))
    if 0 in sizes:
        work = (0, 0)
    return Launch(FILE, "moved", {**WORD, "AXES": len(outer)}, (*arguments, *inner.steps, CHUNK), work, (1, 1))


def _dense(shape: Sequence[int]) -> list[int]:
    return storage_strides(NCHW, shape)


class Transpose(OpenCLRoutine):
    """Transpose of float32."""

    algorithm, pattern = "transpose", ("Transpose",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        (x,) = region.exit.operands
        if is_f32(x) and not x.is_constant:
            yield Offer([self.nchw], [self.nchw], accuracy=EXACT)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        (x,), device = region.exit.operands, self.opencl(target)
        rank = len(x.static_shape)
        order = [int(a) for a in region.exit.attrs.get("perm") or reversed(range(rank))]
        sizes, strides = [x.static_shape[a] for a in order], _dense(x.static_shape)
        return OpenCLKernel(device, (moved(device, sizes, [strides[a] for a in order], _dense(sizes)),))


class Reshape(OpenCLRoutine):
    """What leaves every element where it is, as a copy that may be none: Reshape, Flatten, Squeeze, Unsqueeze."""

    def __init__(self, device: str, operator: str) -> None:
        self.algorithm, self.pattern = operator.lower(), (operator,)
        super().__init__(device)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        x = region.exit.inputs[0]
        if x is not None and is_f32(x, *region.outputs) and len(region.inputs) == 1 and not x.is_constant:
            yield Offer([self.nchw], [self.nchw], accuracy=EXACT, inplace=0)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        device, count = self.opencl(target), math.prod(region.inputs[0].static_shape)
        return OpenCLKernel(device, (moved(device, [count], [1], [1]),))


class Concat(OpenCLRoutine):
    """Concat of float32, all inputs computed, along any axis."""

    algorithm, pattern = "concat", ("Concat",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        values = region.exit.operands
        if is_f32(*values, *region.outputs) and not any(v.is_constant for v in values):
            for layout in (NCHW, NHWC) if len(region.outputs[0].static_shape) >= 3 else (NCHW,):
                yield Offer([self.stored(layout)] * len(values), [self.stored(layout)], accuracy=EXACT)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        device, layout, whole = self.opencl(target), offer.outputs[0].layout, region.outputs[0].static_shape
        axis, order = int(region.exit.attrs["axis"]) % len(whole), layout.permutation(len(whole))
        strides, first, launches = storage_strides(layout, whole), 0, []
        for number, value in enumerate(region.inputs):
            shape = value.static_shape
            own = storage_strides(layout, shape)
            sizes = [shape[a] for a in order]
            steps = [own[a] for a in order], [strides[a] for a in order]
            launches.append(moved(device, sizes, *steps, y_first=first * strides[axis], x=number))
            first += shape[axis]
        return OpenCLKernel(device, tuple(launches))


class Slice(OpenCLRoutine):
    """Slice by constant numbers."""

    algorithm, pattern = "slice", ("Slice",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        x = region.exit.inputs[0]
        if (
            x is not None
            and is_f32(x, *region.outputs)
            and len(region.inputs) == 1
            and _slices(region.exit) is not None
        ):
            yield Offer([self.nchw], [self.nchw], accuracy=EXACT)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        device, slices = self.opencl(target), _slices(region.exit)
        assert slices is not None
        shape, out = region.inputs[0].static_shape, region.outputs[0].static_shape
        strides = _dense(shape)
        first = sum(s.start * step for s, step in zip(slices, strides, strict=True))
        steps = [s.step * step for s, step in zip(slices, strides, strict=True)]
        return OpenCLKernel(device, (moved(device, out, steps, _dense(out), x_first=first),))


def _slices(layer: Layer) -> list[range] | None:
    """The indices taken along every axis, None where they are no constants."""
    x = layer.operands[0]
    rank = len(x.static_shape)
    given: list[list[int] | None] = []
    for place in range(1, 5):
        value = static_input(layer, place) if place < len(layer.inputs) and layer.inputs[place] is not None else None
        if place < len(layer.inputs) and layer.inputs[place] is not None and (value is None or value.data is None):
            return None
        given.append(None if value is None or value.data is None else [int(n) for n in value.data.reshape(-1)])
    starts, ends, axes, steps = given
    if starts is None or ends is None:
        return None
    found = [range(n) for n in x.static_shape]
    for i, axis in enumerate(axes or range(len(starts))):
        step = 1 if steps is None else steps[i]
        found[axis % rank] = range(x.static_shape[axis % rank])[slice(starts[i], ends[i], step)]
        if step < 0 and ends[i] < -x.static_shape[axis % rank]:
            found[axis % rank] = range(x.static_shape[axis % rank])[starts[i] :: step]
    return found


class Resize(OpenCLRoutine):
    """Resize (opset 10 on) and Upsample of a float32 image, nearest and linear, N and C unchanged."""

    def __init__(self, device: str, operator: str) -> None:
        self.algorithm, self.pattern = operator.lower(), (operator,)
        super().__init__(device)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        if len(region.inputs) != 1 or not is_f32(*region.inputs, *region.outputs):
            return
        if (found := resizing_of(region.exit)) is not None:
            yield Offer([self.nhwc], [self.nhwc], accuracy=EXACT if found.is_nearest else SUMS)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        device, found = self.opencl(target), resizing_of(region.exit)
        assert found is not None
        (n, c, h, w), (_, _, oh, ow) = found.shape, found.made
        tables = [Constant(device, t.astype(np.int32 if t.dtype.kind == "i" else np.float32))
                  for t in (*found.rows, *found.columns)]  # fmt: skip
        defines = {**WORD, "AXES": 1} if found.is_nearest else {**WORD, "AXES": 1, "LINEAR": ""}
        arguments = (In(0), Out(0), *tables, c, h, w, oh, ow)
        return OpenCLKernel(device, (Launch(FILE, "resized", defines, arguments, (ow, n * oh), (1, 1)),))


class ToOtherLayout(Adapter):
    """NCHW to NHWC and back, on the device."""

    def __init__(self, device: str) -> None:
        self.name = f"{device}/other_layout"

    def accepts(self, src: TensorSpec, dst: TensorSpec, value: Value) -> bool:
        layouts = {src.layout, dst.layout}
        same = src.dtype is dst.dtype is FLOAT32 and src.device == dst.device == self.name.partition("/")[0]
        return same and layouts == {NCHW, NHWC} and value.is_static

    def prepare(self, src: TensorSpec, dst: TensorSpec, value: Value, target: Target) -> Kernel:
        device, shape = target.device, value.static_shape
        assert isinstance(device, OpenCLDevice)
        order = dst.layout.permutation(len(shape))
        steps = [
            [s[a] for a in order] for s in (storage_strides(src.layout, shape), storage_strides(dst.layout, shape))
        ]
        return OpenCLKernel(device, (moved(device, [shape[a] for a in order], *steps),))
