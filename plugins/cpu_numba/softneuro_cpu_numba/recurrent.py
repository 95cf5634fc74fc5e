"""LSTM and GRU, float32, one or both directions, default activations, initial states and peepholes included."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from softneuro_core.device import Target
from softneuro_core.graph import Layer, Region, Value
from softneuro_core.routine import SUMS, Kernel, Offer, Routine
from softneuro_core.windows import NCHW_F32, is_f32, text
from softneuro_cpu_numba.native import In, NativeKernel, Out, address_of, aligned


def _operand(layer: Layer, position: int) -> Value | None:
    return layer.inputs[position] if position < len(layer.inputs) else None


class Recurrent(Routine):
    """Either operator, in both layouts; a step is a matrix-vector product over weights stored by input."""

    activations: tuple[str, ...]
    """The operator's defaults, which alone are covered, for one direction."""
    accuracy = SUMS

    def _kernel(self, layer: Layer) -> int:
        raise NotImplementedError

    def _constants(self, layer: Layer, r: np.ndarray, biases: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the kernel reads of ``r`` (directions, gates, hidden) and ``biases`` (directions, of x and of h, gates):
        the weights of h, the bias of all gates, and what else there is."""
        raise NotImplementedError

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        if self._is_covered(region):
            yield Offer((NCHW_F32,) * len(region.inputs), (NCHW_F32,) * len(region.outputs), accuracy=self.accuracy)

    def _is_covered(self, region: Region) -> bool:
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
        return not wanted or tuple(wanted) == self.activations * w.static_shape[0]

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        layer = region.exit
        x, w, r, bias, _, h0, c0 = (_operand(layer, i) for i in range(7))
        assert x is not None and w is not None and r is not None and w.data is not None and r.data is not None
        directions, gates, count = w.static_shape
        hidden = r.static_shape[2]
        batch_first = int(layer.attrs.get("layout", 0)) == 1
        time, batch = x.static_shape[:2][::-1] if batch_first else x.static_shape[:2]
        both = np.zeros((directions, 2, gates), np.float32)
        if bias is not None and bias.data is not None:
            both[:] = bias.data.reshape(both.shape)
        reverse = text(layer.attrs.get("direction", "forward")) == "reverse"
        weights = (w.data.transpose(0, 2, 1), *self._constants(layer, r.data, both))
        width = directions * hidden
        x_steps = (count, time * count) if batch_first else (batch * count, count)
        states = (width, hidden) if batch_first else (hidden, batch * hidden)
        y_steps = (width, hidden, time * width) if batch_first else (batch * width, batch * hidden, hidden)
        return NativeKernel(
            self._kernel(layer),
            (
                *(In(0), *_numbered(h0, c0), *_wanted(layer)),
                *(aligned(np.ascontiguousarray(a)) for a in weights),
                *(time, batch, count, hidden, directions, int(reverse), *x_steps, *states, *y_steps),
            ),
            directions,
            4 * (gates + 2 * hidden),
        )


class Lstm(Recurrent):
    """LSTM; what else there is are peepholes."""

    name, pattern = "cpu/lstm", ("LSTM",)
    activations = ("sigmoid", "tanh", "tanh")

    def _kernel(self, layer: Layer) -> int:
        return address_of("recurrent", "lstm")

    def _constants(self, layer: Layer, r: np.ndarray, biases: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        peepholes = _operand(layer, 7)
        if peepholes is None or peepholes.data is None:
            extra = np.zeros((len(r), 3 * r.shape[2]), np.float32)
        else:
            extra = np.asarray(peepholes.data)
        return r.transpose(0, 2, 1), biases.sum(axis=1), extra


class Gru(Recurrent):
    """GRU, the reset gate before or behind the product; what else there is is the candidate's bias of h."""

    name, pattern = "cpu/gru", ("GRU",)
    activations = ("sigmoid", "tanh")
    accuracy = 1e-4
    """Its state feeds on itself. 16 steps of 128 with wild weights: 7.5e-5 from the float64 truth (onnxruntime 9.4e-5,
    onnx.reference 1.2e-4)."""

    def _kernel(self, layer: Layer) -> int:
        return address_of("recurrent", "gru", reset_behind=_resets_behind(layer))

    def _constants(self, layer: Layer, r: np.ndarray, biases: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        hidden = r.shape[2]
        gates, candidate = r[:, : 2 * hidden].transpose(0, 2, 1), r[:, 2 * hidden :].transpose(0, 2, 1)
        parts = [part.reshape(len(r), -1) for part in (gates, candidate)]
        bias, extra = biases.sum(axis=1), biases[:, 1, 2 * hidden :]
        if _resets_behind(layer):
            bias[:, 2 * hidden :] = biases[:, 0, 2 * hidden :]
        return np.concatenate(parts, axis=1), bias, extra


def _resets_behind(layer: Layer) -> bool:
    return bool(layer.attrs.get("linear_before_reset", 0))


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
