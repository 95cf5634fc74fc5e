"""What every pass needs to change a graph: matching by users and producers, replacing layers, redirecting values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from softneuro_core.export import schema_of
from softneuro_core.graph import Graph, Layer, Value
from softneuro_core.spec import FLOAT16, DType


class Rewrite:
    """Changes collected over one sweep of a graph. A layer takes part in one change at most; the rest waits for the
    next sweep, so every match is made on layers as they stand in the graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.outputs = set(graph.outputs)
        self.touched: set[Layer] = set()
        self._new: dict[Layer, tuple[Layer, ...]] = {}
        self._instead: dict[Value, Value] = {}

    def producer(self, value: Value | None, *types: str) -> Layer | None:
        """The layer that makes ``value``, if it is an untouched ONNX one of these types."""
        layer = None if value is None else self.graph.producers.get(value)
        if layer is None or layer in self.touched or layer.domain or (types and layer.type not in types):
            return None
        return layer

    def users(self, value: Value) -> tuple[Layer, ...]:
        return self.graph.consumers.get(value, ())

    def is_private(self, value: Value, user: Layer) -> bool:
        """Whether ``value`` is read by ``user`` alone (by its own inputs) and is no graph output."""
        return self.users(value) == (user,) and value not in self.outputs and value not in user.captures

    def replace(self, old: Layer, *new: Layer, also: Iterable[Layer] = ()) -> None:
        """Puts ``new`` in the place of ``old``; ``also`` are layers whose results the new ones no longer need."""
        self._new[old] = new
        self.touched.update((old, *also))
        for layer in also:
            self._new.setdefault(layer, ())

    def redirect(self, old: Value, new: Value) -> bool:
        """Lets readers of ``old`` (whose layer goes away) read ``new``. A graph output keeps its name, which is
        possible only if a layer makes ``new`` and it is no graph output itself; False if not."""
        if old in self.outputs:
            producer = self.graph.producers.get(new)
            if producer is None or new in self.outputs or new in self._instead or producer in self.touched:
                return False
            if any(new in user.captures for user in self.users(new)):
                return False
            renamed = replace(new, name=old.name)
            self._instead[new] = renamed
            self._instead[old] = renamed
            self.outputs.add(new)
            return True
        self._instead[old] = new
        return True

    def final(self, value: Value) -> Value:
        while value in self._instead:
            value = self._instead[value]
        return value

    def result(self) -> Graph:
        """The graph with all changes; the same object if there are none."""
        if not self._new and not self._instead:
            return self.graph
        layers = [self._finished(new) for old in self.graph.layers for new in self._new.get(old, (old,))]
        return self.graph.replace(layers, outputs=[self.final(v) for v in self.graph.outputs])

    def _finished(self, layer: Layer) -> Layer:
        inputs = tuple(None if v is None else self.final(v) for v in layer.inputs)
        outputs = tuple(None if v is None else self.final(v) for v in layer.outputs)
        captures = tuple(self.final(v) for v in layer.captures)
        if (inputs, outputs, captures) == (layer.inputs, layer.outputs, layer.captures):
            return layer
        return replace(layer, inputs=inputs, outputs=outputs, captures=captures)


MAX_SWEEPS = 50
"""Far above what any model needs (each sweep shortens the graph)."""


def sweep(graph: Graph, match: Callable[[Rewrite, Layer], bool], reverse: bool = False) -> Graph:
    """Applies ``match`` (True if it changed something) to every layer, again and again until nothing changes."""
    for _ in range(MAX_SWEEPS):
        rewrite = Rewrite(graph)
        found = False
        for layer in reversed(graph.layers) if reverse else graph.layers:
            if layer not in rewrite.touched and not layer.domain:
                found = match(rewrite, layer) or found
        if not found:
            return graph
        graph = rewrite.result()
    return graph


def version_of(graph: Graph, type: str, first: int = 1) -> int:
    """The version of an operator a rewrite should use: the model's own opset, or the first that has it."""
    version = max(graph.opsets.get("", first), first)
    schema = schema_of(type, version)
    return first if schema is None else schema.since_version


def scalar(value: Value | None) -> float | None:
    """The number a constant of one element holds."""
    if value is None or value.data is None or value.data.size != 1 or value.data.dtype == object:
        return None
    return float(value.data.reshape(()))


def is_near(found: float | None, wanted: float, dtype: DType) -> bool:
    """Whether a constant of the file is meant to be this number: files round to 5 digits, float16 to 3."""
    if found is None:
        return False
    return abs(found - wanted) <= (2e-3 if dtype is FLOAT16 else 5e-5) * max(abs(wanted), 1e-6)


def constant(name: str, array: np.ndarray, dtype: DType) -> Value:
    """A new constant value of the shape the array has (``np.ascontiguousarray`` would make vectors of scalars)."""
    array = np.asarray(array, dtype.numpy, order="C")
    array.flags.writeable = False
    return Value(name, dtype, array.shape, array)


def static_input(layer: Layer, position: int) -> Value | None:
    """The operand at this position, or None where it is absent."""
    return layer.inputs[position] if len(layer.inputs) > position else None


def ints(value: Value | None) -> Sequence[int] | None:
    """The numbers of a constant vector of integers."""
    if value is None or value.data is None:
        return None
    return [int(v) for v in value.data.reshape(-1)]
