"""float16 layers by their float32 routines: operands widened before, the result narrowed behind.

Arithmetic is float32 throughout, so results are at least as exact as a float16 engine's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from softneuro_core.device import Buffer, Target
from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_core.pages import ALIGNMENT
from softneuro_core.routine import Call, Kernel, Offer, Routine
from softneuro_core.spec import BFLOAT16, FLOAT16, FLOAT32, NCHW, TensorSpec
from softneuro_cpu_numba.elementwise import HALF_ERROR, Leaf, map_kernel
from softneuro_cpu_numba.native import In, NativeKernel


def widened(region: Region) -> Region | None:
    """The same region in float32, None unless every operand and result is float16 of known shape."""
    values = [v for layer in region.layers for v in (*layer.operands, *layer.results)]
    if any(v.dtype is not FLOAT16 and not (v.is_constant and not v.dtype.is_float) for v in values):
        return None
    if any(v.is_object for v in values):
        return None
    twins = {v: _twin(v) for v in dict.fromkeys(values)}

    def moved(operands: Sequence[Value | None]) -> tuple[Value | None, ...]:
        return tuple(None if v is None else twins[v] for v in operands)

    layers = tuple(replace(layer, inputs=moved(layer.inputs), outputs=moved(layer.outputs)) for layer in region.layers)
    inputs = tuple(dict.fromkeys(twins[v] for v in region.inputs))
    graph = Graph(layers, inputs, tuple(twins[v] for v in region.outputs), region.graph.name, region.graph.opsets)
    return Region(graph, layers)


def _twin(value: Value) -> Value:
    if value.dtype is not FLOAT16:
        return value
    return Value(value.name, FLOAT32, value.shape, None if value.data is None else value.data.astype(np.float32))


@dataclass(frozen=True, slots=True)
class HalfKernel:
    """Widen every input into scratch, run the float32 kernel there, narrow the results."""

    inner: Kernel
    widen: tuple[NativeKernel, ...]
    narrow: tuple[NativeKernel, ...]
    inputs: tuple[int, ...]
    """Bytes of each widened input."""
    outputs: tuple[int, ...]

    @property
    def scratch(self) -> int:
        return sum(map(_padded, (*self.inputs, *self.outputs))) + self.inner.scratch

    @property
    def constant_bytes(self) -> int:
        return self.inner.constant_bytes

    def bind(self, inputs: Sequence[Any], outputs: Sequence[Any], scratch: Buffer | None) -> Call:
        assert scratch is not None
        device, at = scratch.device, scratch.offset
        wide: list[Buffer] = []
        for buffer, nbytes in zip((*inputs, *outputs), (*self.inputs, *self.outputs), strict=True):
            wide.append(device.buffer(scratch.memory, at, buffer.shape, np.dtype(np.float32)))
            at += _padded(nbytes)
        ins, outs = wide[: len(inputs)], wide[len(inputs) :]
        rest = device.buffer(scratch.memory, at, (self.inner.scratch,), np.dtype(np.uint8))
        calls = [k.bind([a], [b], None) for k, a, b in zip(self.widen, inputs, ins, strict=True)]
        calls.append(self.inner.bind(ins, outs, rest))
        calls += [k.bind([a], [b], None) for k, a, b in zip(self.narrow, outs, outputs, strict=True)]
        runs = [call.run for call in calls]

        def run() -> None:
            for step in runs:
                step()

        return Call(run)


def _padded(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


class Half(Routine):
    """Another routine of this plugin, for the same layers in float16."""

    def __init__(self, routine: Routine) -> None:
        self._routine = routine
        self.name, self.pattern = f"{routine.name}_fp16", routine.pattern

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        result = next(iter(exit.results), None)
        return self._routine.regions(graph, exit) if result is not None and result.dtype is FLOAT16 else ()

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        twin = widened(region)
        for offer in () if twin is None else self._routine.offers(twin, target):
            if any(spec.dtype is BFLOAT16 for spec in (*offer.inputs, *offer.outputs)):
                continue  # another way to store what is float32 here
            yield Offer(  # where operands may lie is promised by the inner routine, not by what widens them
                tuple(_narrowed(s) for s in offer.inputs),
                tuple(_narrowed(s) for s in offer.outputs),
                offer.params,
                accuracy=max(HALF_ERROR, offer.accuracy),
                deterministic=offer.deterministic,
                flops=offer.flops,
                bytes=offer.bytes,
                uses=offer.uses,
            )

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        twin = widened(region)
        assert twin is not None
        specs = [tuple(TensorSpec(s.device, FLOAT32, s.layout) for s in side) for side in (offer.inputs, offer.outputs)]
        inner = self._routine.prepare(twin, replace(offer, inputs=specs[0], outputs=specs[1]), target)
        return HalfKernel(
            inner,
            tuple(_cast(v, "float16", "float32") for v in region.inputs),
            tuple(_cast(v, "float32", "float16") for v in region.outputs),
            tuple(4 * v.size for v in region.inputs),
            tuple(4 * v.size for v in region.outputs),
        )


def _narrowed(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(spec.device, FLOAT16, spec.layout)


def _cast(value: Value, source: str, out: str) -> NativeKernel:
    shape = (value.size,)
    return map_kernel(shape, NCHW, out, [Leaf(shape, NCHW, source, In(0))], ("r = a0",))
