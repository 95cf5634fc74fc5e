"""Softmax, LayerNormalization and reductions (``kernels/rows.cl``)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import product

import numpy as np

from softneuro_core.axes import reduced_axes, softmax_extents
from softneuro_core.device import Target
from softneuro_core.graph import Layer, Region
from softneuro_core.routine import EXACT, Kernel, Offer
from softneuro_core.spec import NCHW
from softneuro_core.windows import is_f32
from softneuro_opencl.launches import Argument, Constant, In, Launch, OpenCLKernel, Out
from softneuro_opencl.routine import OpenCLRoutine, accuracy_in, storage

FILE = "rows.cl"
LONG_SUMS = 2e-5
"""Of sums one element after the other."""
ITEMS = (1, 128)
"""Of a group that makes a row."""


def _launch(
    name: str, arguments: tuple[Argument, ...], work: tuple[int, ...], defines: Mapping[str, object], items: int = 1
) -> Launch:
    group = (items, *(1 for _ in work[1:]))
    return Launch(FILE, name, defines, arguments, (work[0] * items, *work[1:]), group)


def _by_rows(offer: Offer) -> dict[str, object]:
    return {"ITEMS": int(offer.params["items"]), **storage(offer.outputs[0])}


class _ByRows(OpenCLRoutine):
    """One input, one result, rows made by groups of items."""

    def by_rows(self, target: Target) -> Iterable[Offer]:
        for spec, items in product(self.storages(NCHW), ITEMS):
            if items <= self.opencl(target).most_items:
                yield Offer([spec], [spec], {"items": items}, accuracy=accuracy_in(spec, LONG_SUMS))


class Softmax(_ByRows):
    """Softmax and LogSoftmax along the last axis, or one that only axes of one element follow."""

    def __init__(self, device: str, operator: str) -> None:
        self.algorithm, self.pattern = operator.lower(), (operator,)
        super().__init__(device)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        (x,) = region.exit.operands
        if not is_f32(x, *region.outputs) or x.is_constant or not x.static_shape:
            return
        extents = softmax_extents(region.exit, NCHW)
        if extents is not None and extents[2] == 1:
            yield from self.by_rows(target)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        extents = softmax_extents(region.exit, NCHW)
        assert extents is not None
        rows, length, _ = extents
        defines = {**_by_rows(offer), **({"LOGARITHM": ""} if region.exit.type == "LogSoftmax" else {})}
        launch = _launch("softmax", (In(0), Out(0), length), (rows,), defines, int(offer.params["items"]))
        return OpenCLKernel(self.opencl(target), (launch,))


class LayerNorm(_ByRows):
    """LayerNormalization over the last axes, one result, scale and shift constant."""

    algorithm, pattern = "layernorm", ("LayerNormalization",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        layer = region.exit
        x, *others = layer.inputs
        if len(layer.results) != 1 or x is None or x.is_constant or not is_f32(x, *layer.results):
            return
        length = _normalised(layer)
        if all(v is None or (v.data is not None and v.data.size == length) for v in others):
            yield from self.by_rows(target)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        layer, device = region.exit, self.opencl(target)
        length = _normalised(layer)
        given = [None if v is None else v.data for v in layer.inputs[1:]] + [None, None]
        scale = np.ones(length, np.float32) if given[0] is None else given[0].reshape(-1)
        shift = np.zeros(length, np.float32) if given[1] is None else given[1].reshape(-1)
        epsilon = float(layer.attrs.get("epsilon", 1e-5))
        arguments = (In(0), Constant(device, scale), Constant(device, shift), Out(0), length, epsilon)
        rows = math.prod(region.inputs[0].static_shape) // length
        return OpenCLKernel(
            device, (_launch("normalised", arguments, (rows,), _by_rows(offer), int(offer.params["items"])),)
        )


def _normalised(layer: Layer) -> int:
    """Elements normalised together."""
    shape = layer.operands[0].static_shape
    axis = int(layer.attrs.get("axis", -1))
    return math.prod(shape[axis:])


REDUCTIONS = {
    "ReduceMean": ("0.0f", "t + v", "t / length"),
    "ReduceSum": ("0.0f", "t + v", "t"),
    "ReduceSumSquare": ("0.0f", "t + v * v", "t"),
    "ReduceL1": ("0.0f", "t + fabs(v)", "t"),
    "ReduceL2": ("0.0f", "t + v * v", "sqrt(t)"),
    "ReduceProd": ("1.0f", "t * v", "t"),
    "ReduceMax": ("-INFINITY", "(t > v || t != t) ? t : v", "t"),
    "ReduceMin": ("INFINITY", "(t < v || t != t) ? t : v", "t"),
}
"""Where ``t`` begins, what it becomes with an element ``v``, what is made of it."""


class Reduction(OpenCLRoutine):
    """One number of all elements along axes that lie together."""

    def __init__(self, device: str, operator: str) -> None:
        self.algorithm, self.pattern = operator.lower(), (operator,)
        super().__init__(device)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        if _reduced(region.exit) is not None:
            is_exact = region.exit.type in ("ReduceMax", "ReduceMin")
            for spec in self.storages(NCHW):
                yield Offer([spec], [spec], accuracy=EXACT if is_exact else accuracy_in(spec, LONG_SUMS))

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        found = _reduced(region.exit)
        assert found is not None
        outer, length, inner = found
        defines = dict(zip(("START", "NEXT(t, v)", "END(t)"), REDUCTIONS[region.exit.type], strict=True))
        launch = _launch(
            "reduced", (In(0), Out(0), length, inner), (outer * inner,), {**defines, **storage(offer.outputs[0])}
        )
        return OpenCLKernel(self.opencl(target), (launch,))


def _reduced(layer: Layer) -> tuple[int, int, int] | None:
    """Elements before, along and behind the reduced axes; None if others lie between them, or they are not known."""
    x = layer.inputs[0]
    if x is None or x.is_constant or not is_f32(x, *layer.results):
        return None
    axes = sorted(reduced_axes(layer) or ())
    if not axes or axes != list(range(axes[0], axes[-1] + 1)):
        return None
    shape = x.static_shape
    return math.prod(shape[: axes[0]]), math.prod(shape[axes[0] : axes[-1] + 1]), math.prod(shape[axes[-1] + 1 :])
