"""ConvInteger, MatMulInteger and DynamicQuantizeLinear: integers whose scales are worked out when the graph runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from softneuro_cpu_numba.emit.isa import isa_of
from softneuro_cpu_numba.native import In, NativeKernel, Out, emitted_address

from softneuro_core.device import Target
from softneuro_core.graph import Layer, Region, Value
from softneuro_core.routine import EXACT, Kernel, Offer, Routine
from softneuro_core.spec import NCHW, NHWC, Layout, TensorSpec
from softneuro_core.windows import Window, as_window, is_f32, window_of
from softneuro_qint8.numbers import INTEGERS, MOST_TERMS, ONE_STEP
from softneuro_qint8.regions import is_plain, layouts_of
from softneuro_qint8.rows import IntegerRows


@dataclass(frozen=True, slots=True, eq=False)
class IntegerSums:
    """One of the two products, of constant weights; ``axis`` is that of their output channels."""

    window: Window
    groups: int
    x: Value
    x_zero: Value | None
    weights: Value
    w_zero: np.ndarray
    axis: int

    @property
    def flops(self) -> float:
        return 2.0 * self.window.batch * self.window.pixels * self.weights.size

    def matrix(self) -> np.ndarray:
        """(groups, taps, channels of a group, outputs of a group), stored - zero."""
        assert self.weights.data is not None
        along = [-1 if a == self.axis else 1 for a in range(self.weights.data.ndim)]
        whole = self.weights.data.astype(np.int16) - self.w_zero.astype(np.int16).reshape(along)
        if self.axis == 1:
            return whole[None, None]
        out, group_in = whole.shape[:2]
        return whole.reshape(self.groups, out // self.groups, group_in, -1).transpose(0, 3, 2, 1)


class SumsOfProducts(Routine):
    """ConvInteger in NHWC, or MatMulInteger; the input's zero point may be computed, the weights' not."""

    def __init__(self, operator: str) -> None:
        self.name, self.pattern = f"cpu/{operator.lower()}", (operator,)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        found = _sums_of(region.exit)
        if found is not None:
            layout = NHWC if region.exit.op == "ConvInteger" else NCHW
            ins = tuple(_spec(v, layout if v is found.x else NCHW) for v in region.inputs)
            yield Offer(ins, (_spec(region.outputs[0], layout),), accuracy=EXACT, flops=found.flops)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        found = _sums_of(region.exit)
        assert found is not None
        zero: np.ndarray | In = np.zeros(1, found.x.dtype.numpy)
        if found.x_zero is not None:
            known = found.x_zero.data
            zero = In(region.inputs.index(found.x_zero)) if known is None else np.asarray(known)
        signed = found.x.dtype.name == "int8"
        return IntegerRows(found.window, found.matrix(), None, zero, signed, result="sums").kernel(target)


def _spec(value: Value, layout: Layout) -> TensorSpec:
    return TensorSpec("cpu", value.dtype, layout)


def _sums_of(layer: Layer) -> IntegerSums | None:
    x, weights, x_zero, w_zero = (*layer.inputs, None, None)[:4]
    if x is None or weights is None or x.is_constant or weights.data is None or not is_plain(x):
        return None
    if not {x.dtype.name, weights.dtype.name} <= set(INTEGERS) or (w_zero is not None and w_zero.data is None):
        return None
    if (x_zero is not None and (x_zero is x or x_zero.is_object or x_zero.size != 1)) or 0 in weights.static_shape:
        return None
    found = _geometry(layer, x, weights)
    if found is None:
        return None
    window, groups, axis = found
    channels = weights.static_shape[axis]
    zeros = np.zeros(1, weights.dtype.numpy) if w_zero is None or w_zero.data is None else w_zero.data
    if zeros.size not in (1, channels) or weights.size // channels > MOST_TERMS:
        return None
    return IntegerSums(window, groups, x, x_zero, weights, zeros, axis)


def _geometry(layer: Layer, x: Value, weights: Value) -> tuple[Window, int, int] | None:
    """Window, groups, and the axis of the output channels."""
    out = layer.results[0].static_shape
    if layer.op == "ConvInteger":
        window = window_of(layer, x.static_shape, out, weights.static_shape[2:])
        return None if window is None else (window, int(layer.attrs.get("group", 1)), 0)
    if len(weights.static_shape) != 2 or len(x.static_shape) < 2:
        return None
    return as_window(x.size // x.static_shape[-1], x.static_shape[-1]), 1, 1


class DynamicQuantize(Routine):
    """DynamicQuantizeLinear: least and most of the input, scale and zero point from them, then every element."""

    name, pattern = "cpu/dynamicquantizelinear", ("DynamicQuantizeLinear",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        layer = region.exit
        (x, *_), results = layer.inputs, layer.results
        if x is None or x.is_constant or not is_f32(x) or len(results) != 3:
            return
        for layout in layouts_of(x):
            outs = (_spec(results[0], layout), *(_spec(v, NCHW) for v in results[1:]))
            yield Offer((_spec(x, layout),), outs, accuracy=ONE_STEP)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        address = emitted_address("softneuro_qint8.emit.dynamic", "quantise", isa_of(target))
        return NativeKernel(address, (In(0), Out(0), Out(1), Out(2), region.inputs[0].size), 1)
