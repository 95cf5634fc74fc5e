"""Loop and Scan where ``onnx.reference`` deviates: stacked outputs, absent conditions, directions, axes, batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_loop import Loop as OnnxLoop
from onnx.reference.ops.op_scan import Scan as OnnxScan

Array = np.ndarray


def _stacked(parts: Sequence[Array], like: onnx.TypeProto | None, axis: int = 0) -> Array:
    """Parts along a new axis; without any, an empty array of the type the body declares."""
    if parts:
        return np.stack(parts, axis)
    tensor = onnx.TypeProto.Tensor() if like is None else like.tensor_type
    element = tensor.elem_type or onnx.TensorProto.FLOAT
    dims = [d.dim_value for d in tensor.shape.dim]
    dims.insert(axis if axis >= 0 else len(dims) + 1 + axis, 0)
    return np.empty(dims, onnx.helper.tensor_dtype_to_np_dtype(element))


class Loop(OnnxLoop):
    """onnx's joins scan outputs along an axis they have (a scalar's get one too many), fails for a loop without a
    turn, and takes an absent condition for False."""

    op_domain = ""

    def _run(
        self, trip: Array | None = None, condition: Array | None = None, *carried: Any,
        context: Mapping[str, Any] | None = None, **_: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        body = self.body
        names, count = body.input_names, len(carried)
        turns: list[list[Array]] = [[] for _ in body.output_names[1 + count :]]
        goes_on = condition is None or bool(np.all(condition))
        number = 0
        while goes_on and (trip is None or number < int(np.asarray(trip).item())):
            feeds = dict(context or {})
            feeds[names[0]] = np.array(number, np.int64)
            feeds[names[1]] = np.array(True)
            feeds.update(zip(names[2:], carried, strict=False))
            results = body.run(None, feeds)
            goes_on = bool(np.all(results[0]))
            carried = tuple(results[1 : 1 + count])
            for collected, value in zip(turns, results[1 + count :], strict=True):
                collected.append(value)
            number += 1
        types = (body.output_types or [None] * len(body.output_names))[1 + count :]
        stacked = (_stacked(parts, like) for parts, like in zip(turns, types, strict=True))
        return self._check_and_fix_outputs((*carried, *stacked))


class Scan(OnnxScan):
    """onnx's has neither directions, nor axes other than the first, nor empty sequences."""

    op_domain = ""

    def __init__(self, node: onnx.NodeProto, run_params: dict[str, Any]) -> None:
        OpRun.__init__(self, node, run_params)  # not onnx's: it refuses what is computed here

    def _run(self, *operands: Any, context: Mapping[str, Any] | None = None, **_: Any) -> tuple[Any, ...]:
        return self._check_and_fix_outputs(self._scanned(operands, context))

    def _scanned(self, operands: Sequence[Any], context: Mapping[str, Any] | None) -> tuple[Any, ...]:
        body, scans = self.body, int(self.num_scan_inputs)
        states, inputs = list(operands[:-scans]), operands[-scans:]
        axes = _filled(getattr(self, "scan_input_axes", None), scans)
        backward = _filled(getattr(self, "scan_input_directions", None), scans)
        length = inputs[0].shape[axes[0]]
        collected: list[list[Array]] = [[] for _ in body.output_names[len(states) :]]
        for turn in range(length):
            feeds = dict(context or {})
            places = [length - 1 - turn if b else turn for b in backward]
            slices = [np.take(x, p, a) for x, p, a in zip(inputs, places, axes, strict=True)]
            feeds.update(zip(body.input_names, [*states, *slices], strict=False))
            results = body.run(None, feeds)
            states = results[: len(states)]
            for parts, value in zip(collected, results[len(states) :], strict=True):
                parts.append(value)
        return (*states, *self._joined(collected, len(states)))

    def _joined(self, collected: list[list[Array]], states: int) -> list[Array]:
        axes = _filled(getattr(self, "scan_output_axes", None), len(collected))
        backward = _filled(getattr(self, "scan_output_directions", None), len(collected))
        types = (self.body.output_types or [None] * (states + len(collected)))[states:]
        return [
            _stacked(parts[::-1] if b else parts, like, axis)
            for parts, like, axis, b in zip(collected, types, axes, backward, strict=True)
        ]


class BatchedScan(Scan):
    """Version 8: a batch axis in front of everything, and the lengths of its sequences as first operand."""

    def _run(self, *operands: Any, context: Mapping[str, Any] | None = None, **_: Any) -> tuple[Any, ...]:
        lengths, rest = operands[0], operands[1:]
        made = []
        for item in range(rest[0].shape[0]):
            length = None if lengths is None else int(lengths[item])
            states = [x[item] for x in rest[: -self.num_scan_inputs]]
            inputs = [x[item][:length] for x in rest[-self.num_scan_inputs :]]
            backward = _filled(getattr(self, "directions", None), len(inputs))
            inputs = [x[::-1] if b else x for x, b in zip(inputs, backward, strict=True)]
            made.append(self._scanned([*states, *inputs], context))
        longest = rest[-1].shape[1]
        results = [
            np.stack([_padded(part, longest) if i >= len(states) else part for part in parts])
            for i, parts in enumerate(zip(*made, strict=True))
        ]
        return self._check_and_fix_outputs(tuple(results))


BatchedScan.__name__ = "Scan"


def _padded(array: Array, length: int) -> Array:
    return np.pad(array, [(0, length - array.shape[0])] + [(0, 0)] * (array.ndim - 1))


def _filled(given: Sequence[int] | None, count: int) -> list[int]:
    return list(given) if given else [0] * count


CONTROL: list[tuple[int, int, type[OpRun]]] = [(1, 10**6, Loop), (8, 8, BatchedScan), (9, 10**6, Scan)]
"""(first opset, last opset, class)"""
