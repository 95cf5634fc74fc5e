"""Shapes of every value from those of the inputs, folding constants on the way, layer by layer.

Owns the walk; one layer's types come from :mod:`types`, bodies from :mod:`bodies`. Knows nothing of routines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from softneuro_core.builtin.reference import LayerEvaluator
from softneuro_core.errors import InputError, ModelError, RunError, UnsupportedOperatorError
from softneuro_core.graph import Dim, Graph, Layer, Value
from softneuro_core.importer.limits import MAX_TOTAL_BYTES, may_fold
from softneuro_core.importer.types import Known, layer_qparams, output_values
from softneuro_core.importer.validate import check_operand_sizes
from softneuro_core.operators import Operator
from softneuro_core.spec import OBJECT, DType


def infer(
    graph: Graph,
    shapes: Mapping[str, Sequence[int]],
    operators: Mapping[str, Operator] | None = None,
    fold: bool = True,
) -> Graph:
    """A new graph with every shape that follows from the inputs'; constants and unchanged parts are shared.

    With ``fold`` layers whose operands are all constant become constants (within the limits of
    :mod:`limits`) and an If whose condition is constant becomes its branch; without, every layer stays, but shape
    arithmetic is still followed. Raises :class:`InputError` for shapes that do not fit the inputs,
    :class:`ModelError` naming the layer whose operands do not fit it.
    """
    inputs = fixed_inputs(graph, shapes)
    walk = Inference(graph, operators or {}, fold)
    walk.bind(graph.inputs, inputs)
    walk.bindings = _bindings(graph.inputs, inputs)
    layers = walk.layers(graph.layers)
    outputs = [walk.now(v) for v in graph.outputs]
    outputs = [_named(new, old.name) for new, old in zip(outputs, graph.outputs, strict=True)]
    return graph.replace(layers, inputs, outputs)


def _named(new: Value, name: str) -> Value:
    """A folded graph output under the name the user knows."""
    return new if new.name == name or not new.is_constant else replace(new, name=name)


def fixed_inputs(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> tuple[Value, ...]:
    """The graph's inputs with these shapes; a named dimension fixed once is fixed wherever it stands."""
    by_name = {v.name: v for v in graph.inputs}
    for name in shapes:
        if name not in by_name:
            raise InputError(f"there is no input {name!r}", file=graph.name, remedy="inputs: " + ", ".join(by_name))
    bound: dict[str, int] = {}
    for value in graph.inputs:
        if value.name in shapes:
            _bind_shape(graph, value, [int(d) for d in shapes[value.name]], bound)
    return tuple(_fixed(v, shapes.get(v.name), bound) for v in graph.inputs)


def _bind_shape(graph: Graph, value: Value, shape: Sequence[int], bound: dict[str, int]) -> None:
    declared = value.shape if value.shape is not None else (None,) * len(shape)
    wrong = len(declared) != len(shape) or any(d < 0 for d in shape)
    for given, dim in zip(shape, declared, strict=False):
        if isinstance(dim, str):
            dim = bound.setdefault(dim, given)
        wrong = wrong or (dim is not None and dim != given)
    if wrong:
        shown = "x".join("?" if d is None else str(d) for d in declared)
        raise InputError(f"input {value.name!r} is {shown}, not {'x'.join(map(str, shape))}", file=graph.name)


def _fixed(value: Value, shape: Sequence[int] | None, bound: Mapping[str, int]) -> Value:
    if shape is not None:
        return replace(value, shape=tuple(int(d) for d in shape))
    if value.shape is None:
        return value
    dims = tuple(bound.get(d, d) if isinstance(d, str) else d for d in value.shape)
    return value if dims == value.shape else replace(value, shape=dims)


def _bindings(old: Sequence[Value], new: Sequence[Value]) -> dict[str, int]:
    """Values of the named dimensions that the new inputs fix."""
    pairs = zip(old, new, strict=True)
    dims = (pair for before, after in pairs for pair in zip(before.shape or (), after.shape or (), strict=False))
    return {name: dim for name, dim in dims if isinstance(name, str) and isinstance(dim, int)}


@dataclass
class Inference:
    """One walk over a graph (or the body of a layer): old values to new ones, and what is known of their data."""

    graph: Graph
    operators: Mapping[str, Operator]
    fold: bool
    current: dict[Value, Value] = field(default_factory=dict)
    known: Known = field(default_factory=dict)
    bindings: dict[str, int] = field(default_factory=dict)
    lenient: bool = False
    """In a body: a branch that is never taken may not fit (silero_vad's 8 kHz branch); its shapes stay unknown."""
    failed: bool = False
    """In a body: some layer cannot run with these shapes, so what the body would make does not matter."""
    folded_bytes: int = 0
    impossible: set[str] = field(default_factory=set)
    """Names of the bodies of the layer at hand that failed in this sense."""

    def bind(self, old: Sequence[Value], new: Sequence[Value]) -> None:
        self.current.update(zip(old, new, strict=True))

    def now(self, value: Value) -> Value:
        return self.current.get(value, value)

    def data(self, value: Value) -> np.ndarray | None:
        return value.data if value.data is not None else self.known.get(value)

    def layers(self, layers: Sequence[Layer]) -> list[Layer]:
        """The layers with shapes, less those folded away."""
        made: list[Layer] = []
        for layer in layers:
            made += self.layer(layer)
        return made

    def layer(self, old: Layer) -> list[Layer]:
        from softneuro_core.importer import bodies

        inputs = tuple(None if v is None else self.now(v) for v in old.inputs)
        layer = replace(old, inputs=inputs, captures=tuple(self.now(v) for v in old.captures))
        if layer.bodies:
            branch = bodies.constant_branch(self, layer) if self.fold else None
            if branch is not None:
                return bodies.inlined(self, old, layer, branch)
            layer = bodies.with_known_captures(layer)
            layer = bodies.inferred(self, layer)
        results = output_values(self, layer, [self.declared(v) for v in old.outputs])
        layer = self.checked(replace(layer, outputs=tuple(results)))
        self.bind([v for v in old.outputs if v is not None], layer.results)
        return self.folded(old, layer)

    def checked(self, layer: Layer) -> Layer:
        """The layer, its weights fitting its data; in a body that cannot run its results get no shape at all, so
        that no kernel is planned for them."""
        try:
            check_operand_sizes(layer, self.graph.name)
        except ModelError:
            if not self.lenient:
                raise
            self.failed = True
            return replace(layer, outputs=tuple(v and replace(v, shape=None) for v in layer.outputs))
        return layer

    def declared(self, value: Value | None) -> Value | None:
        """The value as the file declares it, with named dimensions filled in."""
        if value is None or value.shape is None or not self.bindings:
            return value
        dims: tuple[Dim, ...] = tuple(self.bindings.get(d, d) if isinstance(d, str) else d for d in value.shape)
        return replace(value, shape=dims)

    def folded(self, old: Layer, layer: Layer) -> list[Layer]:
        arrays = self.compute(layer)
        if arrays is None:
            return [layer]
        olds = [v for v in old.outputs if v is not None]
        for before, value, array in zip(olds, layer.results, arrays, strict=True):
            if self.fold:
                dtype = value.dtype if value.dtype is not OBJECT else DType.from_numpy(array.dtype)
                qparams = layer_qparams(layer)
                self.current[before] = Value(value.name, dtype, array.shape, array, qparams or value.qparams)
            else:
                self.known[value] = array
        return [] if self.fold else [layer]

    def compute(self, layer: Layer) -> list[np.ndarray] | None:
        """The results of a layer if they are the same in every run and cheap enough to make now."""
        if layer.type in ("Shape", "Size") and not layer.domain:
            return _shape_arithmetic(layer)
        operands = layer.operands
        arrays = [self.data(v) for v in operands]
        if any(a is None for a in arrays) or not may_fold(layer, operands, layer.results):
            return None
        if self.folded_bytes > MAX_TOTAL_BYTES:
            return None
        variable = [a for a, v in zip(arrays, operands, strict=True) if not v.is_constant]
        try:
            results = LayerEvaluator(self.graph, layer, self.operators)(variable)
        except (RunError, UnsupportedOperatorError):
            return None  # it stays a layer and is reported when it runs
        if not all(isinstance(r, np.ndarray) for r in results):
            return None
        self.folded_bytes += sum(r.nbytes for r in results)
        return [_frozen(r) for r in results]


def _frozen(array: Any) -> np.ndarray:
    array = np.ascontiguousarray(array) if array.ndim else np.asarray(array)
    if not array.flags.owndata:
        array = array.copy()
    array.flags.writeable = False
    return array


def _shape_arithmetic(layer: Layer) -> list[np.ndarray] | None:
    """Shape and Size of a value whose asked dimensions are known."""
    value = layer.inputs[0] if layer.inputs else None
    if value is None:
        raise ModelError(f"{layer.type} needs an input", layer=layer.name)
    if value.shape is None or value.type is not None:
        return None
    if layer.type == "Size":
        return [_frozen(np.array(value.size, np.int64))] if value.is_static else None
    rank = len(value.shape)
    start, stop, _ = slice(layer.attrs.get("start", 0), layer.attrs.get("end")).indices(rank)
    dims = value.shape[start : max(start, stop)]
    if not all(isinstance(d, int) for d in dims):
        return None
    return [_frozen(np.array(dims, np.int64))]
