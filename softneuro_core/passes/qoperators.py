"""QLinearConv and QLinearMatMul become what they mean: Conv or MatMul between DequantizeLinear and QuantizeLinear.

One spelling is left, so every routine for quantised graphs, in integers or in float32, sees both kinds of files. The
operators alone only the reference could compute.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from softneuro_core.graph import Graph, Layer, Value
from softneuro_core.passes.rewrite import Rewrite, constant, static_input, sweep, version_of
from softneuro_core.spec import FLOAT32, DType, QParams


def spelled_out_quantised(graph: Graph) -> Graph:
    """The graph with three layers for each of the operators that are all in one."""
    return sweep(graph, _match)


def _match(rewrite: Rewrite, layer: Layer) -> bool:
    if layer.type not in ("QLinearConv", "QLinearMatMul") or not all(v.is_static for v in layer.operands):
        return False
    x, w, bias = layer.inputs[0], layer.inputs[3], static_input(layer, 8)
    of_x, of_w, of_y = (_numbers(layer, position) for position in (1, 4, 6))
    if not (x and w and of_x and of_w and of_y) or (bias is not None and bias.data is None):
        return False
    axis = 0 if layer.type == "QLinearConv" else len(w.static_shape) - 1
    if not of_x.is_single or not of_y.is_single or not (of_w.is_single or of_w.fits(w, axis)):
        return False
    spelled = _Spelled(rewrite.graph, layer)
    operands = [spelled.dequantised(x, of_x, "x")]
    operands.append(spelled.dequantised(w, of_w, "w") if w.data is None else of_w.unfolded(w, axis, f"{layer.name}/w"))
    if bias is not None and bias.data is not None:  # counted in products of the two scales
        real = bias.data * (of_x.scale.astype(np.float64).reshape(()) * of_w.scale)
        operands.append(constant(f"{layer.name}/b", real, FLOAT32))
    spelled.finish(operands, of_y)
    rewrite.replace(layer, *spelled.layers)
    return True


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Constant scale and zero point, of one element or one for each channel."""

    scale: np.ndarray
    zero: np.ndarray

    @property
    def is_single(self) -> bool:
        return self.scale.size == self.zero.size == 1

    def fits(self, weights: Value, axis: int) -> bool:
        """Whether constant weights have as many channels along ``axis``."""
        return weights.is_constant and {self.scale.size, self.zero.size} <= {1, weights.static_shape[axis]}

    def unfolded(self, weights: Value, axis: int, name: str) -> Value:
        """Constants as float32, on their grid."""
        assert weights.data is not None
        along = [-1 if a == axis else 1 for a in range(len(weights.static_shape))]
        scale, zero = np.broadcast_arrays(self.scale.reshape(-1), self.zero.reshape(-1))
        whole = weights.data.astype(np.float32) - zero.astype(np.float32).reshape(along)
        made = constant(name, whole * scale.reshape(along), FLOAT32)
        single = QParams(scale.reshape(-1)[:1].reshape(()), zero.reshape(-1)[:1].reshape(()), None, on_grid=True)
        return replace(made, qparams=single if self.is_single else QParams(scale, zero, axis, on_grid=True))


def _numbers(layer: Layer, position: int) -> _Numbers | None:
    """The operands at ``position`` and behind it; None where they are not known, or float16."""
    scale, zero = layer.inputs[position : position + 2]
    if scale is None or zero is None or scale.data is None or zero.data is None or scale.dtype is not FLOAT32:
        return None
    return _Numbers(scale.data, zero.data)


class _Spelled:
    """The layers that take the place of one, named after it."""

    def __init__(self, graph: Graph, layer: Layer) -> None:
        self.graph, self.layer = graph, layer
        self.layers: list[Layer] = []

    def dequantised(self, x: Value, numbers: _Numbers, name: str) -> Value:
        scale, zero = numbers.scale.reshape(()), numbers.zero.reshape(())
        qparams = QParams(scale, zero, None, on_grid=True)
        real = Value(f"{self.layer.results[0].name}/{name}", FLOAT32, x.shape, qparams=qparams)
        self._append("DequantizeLinear", [x, *self._operands(numbers, name)], real)
        return real

    def finish(self, operands: list[Value], numbers: _Numbers) -> None:
        (result,) = self.layer.results
        real = Value(f"{result.name}/real", FLOAT32, result.shape)
        self._append(self.layer.type.removeprefix("QLinear"), operands, real, dict(self.layer.attrs))
        self._append("QuantizeLinear", [real, *self._operands(numbers, "y")], result)

    def _operands(self, numbers: _Numbers, name: str) -> tuple[Value, Value]:
        kind, prefix = DType.from_numpy(numbers.zero.dtype), f"{self.layer.name}/{name}"
        scale = constant(f"{prefix}_scale", numbers.scale.reshape(()), FLOAT32)
        return scale, constant(f"{prefix}_zero_point", numbers.zero.reshape(()), kind)

    def _append(self, type: str, inputs: list[Value], result: Value, attrs: dict[str, object] | None = None) -> None:
        name = self.layer.name if type == "QuantizeLinear" else f"{self.layer.name}/{len(self.layers)}"
        version = version_of(self.graph, type, 10)
        self.layers.append(Layer(name, type, tuple(inputs), (result,), attrs or {}, version=version))
