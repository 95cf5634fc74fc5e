"""What takes elements from places that depend on each axis by itself, or on indices (``looked_up`` and ``gathered`` in
``kernels/movement.cl``): Pad, Expand, Tile, Gather."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable

import numpy as np

from softneuro_core.axes import integers, is_computed
from softneuro_core.device import Target
from softneuro_core.graph import Layer, Region, Value
from softneuro_core.passes.rewrite import static_input
from softneuro_core.routine import EXACT, Kernel, Offer
from softneuro_core.spec import INT32, INT64, NCHW
from softneuro_core.windows import storage_strides, text
from softneuro_opencl.launches import Constant, In, Launch, OpenCLKernel, Out
from softneuro_opencl.movement import CHUNK, FILE, is_moved, word
from softneuro_opencl.routine import OpenCLRoutine

OUTSIDE = -1
"""An index of no element."""


class _ByAxis(OpenCLRoutine):
    """An element of the result is the one at :meth:`indices` of every axis, or :meth:`fill` where one is OUTSIDE."""

    @abstractmethod
    def indices(self, layer: Layer) -> list[np.ndarray] | None:
        """Of the input, by axis and place in the result; None where they are no constants."""

    def fill(self, layer: Layer) -> np.ndarray:
        """What lies outside."""
        return np.zeros(1, layer.results[0].dtype.numpy)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        x = region.exit.operands[0]
        if region.inputs == (x,) and is_moved(x, *region.outputs) and self.indices(region.exit) is not None:
            spec = self.stored(NCHW, x.dtype)
            yield Offer([spec], [spec], accuracy=EXACT)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        device, (x,) = self.opencl(target), region.inputs
        found = self.indices(region.exit)
        assert found is not None
        out = [len(indices) for indices in found]
        shape = [1] * (len(out) - len(x.static_shape)) + list(x.static_shape)
        pairs = zip(found, storage_strides(NCHW, shape), strict=True)
        *outer, inner = [np.where(indices < 0, OUTSIDE, indices * step) for indices, step in pairs] or [np.zeros(1)]
        table = np.concatenate([np.array(out[:-1]), *outer, inner]).astype(np.int32)
        arguments = (
            *(In(0), Constant(device, self.fill(region.exit)), Constant(device, table), Out(0)),
            *(len(inner), len(table) - len(inner), CHUNK),
        )
        work = (-(-len(inner) // CHUNK), math.prod(out[:-1]))
        defines = {"TYPE": word(x.dtype), "AXES": len(outer)}
        return OpenCLKernel(device, (Launch(FILE, "looked_up", defines, arguments, work, (1, 1)),))


class Pad(_ByAxis):
    """Pad by constant numbers, ``constant``, ``edge``, ``reflect`` and ``wrap``."""

    algorithm, pattern = "pad", ("Pad",)

    def indices(self, layer: Layer) -> list[np.ndarray] | None:
        shape, mode = layer.operands[0].static_shape, text(layer.attrs.get("mode") or "constant")
        pads = _pads(layer, len(shape))
        if pads is None or (mode == "constant" and _pad_value(layer) is None):
            return None
        return [_padded(n, before, after, mode) for n, (before, after) in zip(shape, pads, strict=True)]

    def fill(self, layer: Layer) -> np.ndarray:
        value = _pad_value(layer)
        return np.zeros(1, layer.results[0].dtype.numpy) if value is None else value


def _pads(layer: Layer, rank: int) -> list[tuple[int, int]] | None:
    """Before and after by axis."""
    given = integers(layer, 1, "pads")
    if given is None or is_computed(layer, 3):
        return None
    axes = integers(layer, 3) or range(rank)
    found = [(0, 0)] * rank
    for place, axis in enumerate(axes):
        found[axis % rank] = given[place], given[place + len(axes)]
    return found


def _pad_value(layer: Layer) -> np.ndarray | None:
    """The constant around, None where it is computed."""
    kind, value = layer.results[0].dtype.numpy, static_input(layer, 2)
    if value is None:
        return np.full(1, layer.attrs.get("value", 0)).astype(kind)
    return None if value.data is None else value.data.reshape(-1)[:1].astype(kind)


def _padded(size: int, before: int, after: int, mode: str) -> np.ndarray:
    place = np.arange(-before, size + after)
    if mode == "edge":
        return np.clip(place, 0, size - 1)
    if mode == "wrap":
        return place % size
    if mode == "reflect":
        turn = max(1, 2 * (size - 1))
        return np.minimum(place % turn, turn - place % turn) if size > 1 else np.zeros_like(place)
    return np.where((place < 0) | (place >= size), OUTSIDE, place)


class Expand(_ByAxis):
    """Expand: axes of one element are repeated."""

    algorithm, pattern = "expand", ("Expand",)

    def indices(self, layer: Layer) -> list[np.ndarray]:
        shape, out = layer.operands[0].static_shape, layer.results[0].static_shape
        aligned = [1] * (len(out) - len(shape)) + list(shape)
        return [np.arange(m) if n == m else np.zeros(m, np.int64) for n, m in zip(aligned, out, strict=True)]


class Tile(_ByAxis):
    """Tile: whole axes are repeated."""

    algorithm, pattern = "tile", ("Tile",)

    def indices(self, layer: Layer) -> list[np.ndarray]:
        pairs = zip(layer.operands[0].static_shape, layer.results[0].static_shape, strict=True)
        return [np.arange(made) % size for size, made in pairs]


class Gather(OpenCLRoutine):
    """Gather along any axis, of constant or computed data, by constant or computed indices; one that names no element
    is taken for the nearest that is one."""

    algorithm, pattern = "gather", ("Gather",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        x, indices = region.exit.operands
        if is_moved(x, *region.outputs) and is_moved(indices) and indices.dtype in (INT32, INT64) and region.inputs:
            specs = [self.stored(NCHW, value.dtype) for value in region.inputs]
            yield Offer(specs, [self.stored(NCHW, x.dtype)], accuracy=EXACT)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        device, (x, indices) = self.opencl(target), region.exit.operands
        shape = x.static_shape
        axis = int(region.exit.attrs.get("axis", 0)) % len(shape)
        inner, count = math.prod(shape[axis + 1 :]), math.prod(indices.static_shape)

        def source(value: Value) -> In | Constant:
            return In(region.inputs.index(value)) if value.data is None else Constant(device, value.data)

        arguments = (source(x), source(indices), Out(0), shape[axis], count, inner, CHUNK)
        defines = {"TYPE": word(x.dtype), "AXES": 0, "INDEX": "int" if indices.dtype is INT32 else "long"}
        work = (-(-inner // CHUNK), math.prod(shape[:axis]) * count)
        return OpenCLKernel(device, (Launch(FILE, "gathered", defines, arguments, work, (1, 1)),))
