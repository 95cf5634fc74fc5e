"""Grids of integers laid over real values that the model itself does not round: what a plan may store them on.

Such a value's numbers (``Value.qparams``) are not ``on_grid``: storing it loses something, and only a user who allows
the integers' dtype gets it. Weights are rounded by channel, symmetric, as every routine may work out again; what
activations lie on comes from data (``softneuro_core.calibration``) and travels with the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from softneuro_core.encoding import decode, encode
from softneuro_core.errors import PlanError
from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_core.spec import FLOAT32, NCHW, DType, QParams, TensorSpec

Grids = Mapping[str, tuple[float, int, str]]
"""Value name -> scale, zero point, integer dtype; by tensor."""
MOST_WEIGHT = 127
"""Of 8 bits with a sign; -128 is left out so that a weight and its negative round alike."""


def is_laid(value: Value) -> bool:
    """Whether the value is real and only some plans put it on its grid."""
    return value.dtype is FLOAT32 and value.qparams is not None and not value.qparams.on_grid


def grids_of(graph: Graph) -> dict[str, tuple[float, int, str]]:
    """The grids laid over a graph's activations."""
    found = {}
    for value in graph.values:
        if is_laid(value) and not value.is_constant and value.qparams is not None:
            zero = np.asarray(value.qparams.zero_point)
            found[value.name] = (float(value.qparams.scale), int(zero), zero.dtype.name)
    return found


def restore_grids(graph: Graph, grids: Grids) -> None:
    """Lays a plan's grids over its graph; raises :class:`PlanError` for a value not there or already on another."""
    values = {value.name: value for value in graph.values} if grids else {}
    for name, (scale, zero, dtype) in grids.items():
        if name not in values:
            raise PlanError(f"the plan has a grid for value {name!r}, which the model does not have", file=graph.name)
        numbers = QParams(np.asarray(scale, np.float32), np.asarray(zero, DType.parse(dtype).numpy))
        before = values[name].qparams
        if before is not None and not _same(before, numbers):
            cause = f"value {name!r} already lies on another grid than the plan's"
            raise PlanError(cause, file=graph.name, remedy="load the model anew for a plan of another calibration")
        values[name].qparams = numbers
    if grids:
        lay_weights(graph, graph.changes.per_tensor)


def _same(one: QParams, other: QParams) -> bool:
    return bool(np.array_equal(one.scale, other.scale) and np.array_equal(one.zero_point, other.zero_point))


def lay_weights(graph: Graph, per_tensor: bool = False) -> None:
    """8-bit grids over constant weights of Conv, ConvTranspose (of one group), Gemm and MatMul: one for each output
    channel, or one for all.

    Raises :class:`PlanError` where they already lie on grids of the other kind.
    """
    for layer in graph.layers:
        grid = weight_grid(layer, per_tensor)
        if grid is None:
            continue
        weights = layer.inputs[1]
        assert weights is not None
        if weights.qparams is not None and (weights.qparams.axis is None) != per_tensor:
            cause = f"weights {weights.name!r} already lie on grids of another kind, by tensor or by channel"
            raise PlanError(cause, file=graph.name, remedy="load the model anew for a plan of another calibration")
        weights.qparams = weights.qparams or grid


def weight_grid(layer: Layer, per_tensor: bool) -> QParams | None:
    """The grid of a layer's constant weights; None where it has none of float32, or the model itself has one."""
    axis = _channel_axis(layer)
    weights = layer.inputs[1] if axis is not None else None
    if weights is None or weights.data is None or weights.dtype is not FLOAT32 or not weights.size:
        return None
    if weights.qparams is not None and not is_laid(weights):
        return None
    others = tuple(a for a in range(weights.data.ndim) if a != axis or per_tensor)
    largest = np.maximum(weights.data.max(axis=others), -weights.data.min(axis=others)).astype(np.float32)
    scale = np.where(largest > 0, largest / MOST_WEIGHT, 1.0).astype(np.float32)
    return QParams(scale, np.zeros(scale.shape, np.int8), None if per_tensor else axis)


def _channel_axis(layer: Layer) -> int | None:
    """Which axis of a layer's second operand counts output channels; None where it is no product of ours."""
    if layer.op == "Conv":
        return 0
    if layer.op == "ConvTranspose" and int(layer.attrs.get("group", 1)) == 1:
        return 1
    if layer.op in ("Gemm", "MatMul") and layer.inputs[1] is not None and len(layer.inputs[1].shape or ()) == 2:
        return 0 if layer.attrs.get("transB") else 1
    return None


def on_its_grid(array: np.ndarray, value: Value) -> np.ndarray:
    """What is left of a value's numbers on its grid."""
    assert value.qparams is not None
    spec = TensorSpec("cpu", DType.parse(np.asarray(value.qparams.zero_point).dtype.name), NCHW)
    return decode(encode(array, value, spec), value, spec)


@contextmanager
def rounded_constants(region: Region) -> Iterator[None]:
    """A region whose laid constants hold what is left of them on their grids: what an integer kernel computes with."""
    kept = [(value, value.data) for value in region.constants if is_laid(value)]
    try:
        for value, data in kept:
            assert data is not None
            value.data = on_its_grid(data, value)
        yield
    finally:
        for value, data in kept:
            value.data = data
