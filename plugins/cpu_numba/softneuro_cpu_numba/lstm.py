"""LSTM, float32, one or both directions, default activations, peepholes and initial states included."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from softneuro_core.device import Target
from softneuro_core.graph import Layer, Region, Value
from softneuro_core.routine import SUMS, Kernel, Offer, Routine
from softneuro_cpu_numba.native import In, NativeKernel, Out, address_of, aligned
from softneuro_cpu_numba.windows import NCHW_F32, is_f32, text

DEFAULT_ACTIVATIONS = ("sigmoid", "tanh", "tanh")


def _operand(layer: Layer, position: int) -> Value | None:
    return layer.inputs[position] if position < len(layer.inputs) else None


def _is_covered(region: Region) -> bool:
    layer = region.exit
    attrs = layer.attrs
    x, w, r, bias, lengths, h0, c0, peepholes = (_operand(layer, i) for i in range(8))
    if x is None or w is None or r is None or x.is_constant or lengths is not None:
        return False
    if not is_f32(*region.inputs, *region.outputs) or any(
        v is not None and (v.data is None or not is_f32(v)) for v in (w, r, bias, peepholes)
    ):
        return False
    if any(v is not None and v.is_constant for v in (h0, c0)) or attrs.get("clip") or attrs.get("input_forget"):
        return False
    wanted = [text(a).lower() for a in attrs.get("activations") or ()]
    directions = w.static_shape[0]
    return not wanted or tuple(wanted) == DEFAULT_ACTIVATIONS * directions


class Lstm(Routine):
    """LSTM in both ``layout`` attributes; a step is a matrix-vector product over weights stored by input."""

    name, pattern = "cpu/lstm", ("LSTM",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        if _is_covered(region):
            yield Offer((NCHW_F32,) * len(region.inputs), (NCHW_F32,) * len(region.outputs), accuracy=SUMS)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        layer = region.exit
        x, w, r, bias, _, h0, c0, peepholes = (_operand(layer, i) for i in range(8))
        assert x is not None and w is not None and r is not None and w.data is not None and r.data is not None
        directions, gates, count = w.static_shape
        hidden = gates // 4
        batch_first = int(layer.attrs.get("layout", 0)) == 1
        time, batch = x.static_shape[:2][::-1] if batch_first else x.static_shape[:2]
        both = np.zeros((directions, 2 * gates), np.float32) if bias is None else bias.data
        assert both is not None
        peep = np.zeros((directions, 3 * hidden), np.float32)
        if peepholes is not None and peepholes.data is not None:
            peep = np.asarray(peepholes.data)
        reverse = text(layer.attrs.get("direction", "forward")) == "reverse"
        weights = (w.data.transpose(0, 2, 1), r.data.transpose(0, 2, 1), both[:, :gates] + both[:, gates:], peep)
        width = directions * hidden
        x_steps = (count, time * count) if batch_first else (batch * count, count)
        states = (width, hidden) if batch_first else (hidden, batch * hidden)
        y_steps = (width, hidden, time * width) if batch_first else (batch * width, batch * hidden, hidden)
        return NativeKernel(
            address_of("lstm", "lstm"),
            (
                *(In(0), *_numbered(h0, c0), *_wanted(layer)),
                *(aligned(np.ascontiguousarray(a)) for a in weights),
                *(time, batch, count, hidden, directions, int(reverse), *x_steps, *states, *y_steps),
            ),
            directions,
            24 * hidden,
        )


def _numbered(h0: Value | None, c0: Value | None) -> tuple[In | None, In | None]:
    first = None if h0 is None else In(1)
    return first, None if c0 is None else In(1 if h0 is None else 2)


def _wanted(layer: Layer) -> list[Out | None]:
    found: list[Out | None] = []
    number = 0
    for position in range(3):
        value = layer.outputs[position] if position < len(layer.outputs) else None
        found.append(None if value is None else Out(number))
        number += value is not None
    return found
