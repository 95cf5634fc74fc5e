"""Graph, Layer, Value, Region: what is computed, in ONNX vocabulary. Knows nothing of routines or files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx

from softneuro_core.changes import NOTHING, Changes
from softneuro_core.errors import ModelError
from softneuro_core.spec import OBJECT, DType, QParams, TensorSpec, host

Dim = int | str | None
"""A concrete size, the name of a free dimension, or None for one that depends on data."""


@dataclass(eq=False, slots=True)
class Value:
    """One tensor (or host object) between layers; identity, not content, is its equality.

    ``shape`` is None when even the rank is unknown. ``data`` is set for constants, which have no spec:
    ``prepare`` reads them; a large one is a read-only view of the model's file, not always aligned. ``qparams`` are
    the numbers of a quantised value. ``type`` is the ONNX type of what dtype and shape cannot say: sequences,
    optionals, maps, sparse tensors.
    """

    name: str
    dtype: DType
    shape: tuple[Dim, ...] | None
    data: np.ndarray | None = None
    qparams: QParams | None = None
    type: onnx.TypeProto | None = None

    @property
    def is_constant(self) -> bool:
        return self.data is not None

    @property
    def is_static(self) -> bool:
        """True if the shape is known completely."""
        return self.shape is not None and all(isinstance(d, int) for d in self.shape)

    @property
    def is_object(self) -> bool:
        """Strings, sequences, optionals, and tensors whose shape depends on data: held by the host only."""
        return self.dtype is OBJECT or not self.is_static

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape, known to be complete; raises :class:`ModelError` if it is not."""
        if self.shape is None or not self.is_static:
            raise ModelError(f"the shape of value {self.name!r} is not known: {self.shape}")
        return self.shape  # type: ignore[return-value]

    @property
    def size(self) -> int:
        """Number of elements of a static value."""
        return int(np.prod(self.static_shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes in plain ONNX order."""
        return self.size * self.dtype.itemsize

    @property
    def host_spec(self) -> TensorSpec:
        """How the host holds it: what graph inputs, graph outputs and reference routines use."""
        return host(OBJECT if self.is_object else self.dtype)


@dataclass(eq=False, slots=True)
class Layer:
    """One ONNX node: operator type and domain, opset version of that domain, operands, attributes.

    ``inputs`` and ``outputs`` stand at their ONNX positions, None where an optional one is absent.
    ``attrs`` holds Python values; a subgraph attribute is a :class:`Graph` whose last inputs are the outer
    values it captures, listed in ``captures`` (together, in order of the subgraph attributes).
    """

    name: str
    type: str
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value | None, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""
    version: int = 1
    captures: tuple[Value, ...] = ()

    @property
    def op(self) -> str:
        """Operator name, qualified by the domain unless it is ONNX's own: ``Conv``, ``hello::Swish``."""
        return f"{self.domain}::{self.type}" if self.domain else self.type

    @property
    def operands(self) -> tuple[Value, ...]:
        """Everything read, by position: inputs that are present, then captures. May repeat a value."""
        return tuple(v for v in self.inputs if v is not None) + self.captures

    @property
    def results(self) -> tuple[Value, ...]:
        """Outputs that are present."""
        return tuple(v for v in self.outputs if v is not None)

    @property
    def bodies(self) -> dict[str, Graph]:
        """Subgraph attributes by name."""
        return {k: v for k, v in self.attrs.items() if isinstance(v, Graph)}

    def __repr__(self) -> str:
        return f"Layer({self.name}: {self.op})"


@dataclass(frozen=True, eq=False)
class Graph:
    """Layers in topological order. Never edited: a pass returns a new Graph that shares what is unchanged.

    ``functions`` are FunctionProtos of operators outside ONNX, by (domain, name); ``opsets`` the versions
    by domain. ``name`` is the file or graph name, for messages.
    """

    layers: tuple[Layer, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    name: str = "graph"
    opsets: Mapping[str, int] = field(default_factory=dict)
    functions: Mapping[tuple[str, str], onnx.FunctionProto] = field(default_factory=dict)
    origin: Graph | None = None
    """The graph as imported, before shapes were fixed: what :func:`softneuro_core.load` specialises."""
    changes: Changes = NOTHING
    """What a user let be changed of it since."""
    unchanged: Graph | None = None
    """The graph before that."""
    offsets: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Layer -> what a plan that rounds the layer is to add to each of its channels: ``Changes.shifts`` of that plan."""

    @cached_property
    def producers(self) -> dict[Value, Layer]:
        """The layer that makes each value; graph inputs and constants are absent."""
        return {v: layer for layer in self.layers for v in layer.results}

    @cached_property
    def consumers(self) -> dict[Value, tuple[Layer, ...]]:
        """The layers that read each value, each once, in topological order."""
        found: dict[Value, dict[Layer, None]] = {}
        for layer in self.layers:
            for value in layer.operands:
                found.setdefault(value, {})[layer] = None
        return {v: tuple(layers) for v, layers in found.items()}

    @cached_property
    def index(self) -> dict[Layer, int]:
        """Position of each layer in topological order."""
        return {layer: i for i, layer in enumerate(self.layers)}

    @cached_property
    def layer_by_name(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def values(self) -> tuple[Value, ...]:
        """Every value, each once: inputs, constants and results in the order they appear."""
        found = dict.fromkeys(self.inputs)
        for layer in self.layers:
            found.update(dict.fromkeys(layer.operands + layer.results))
        found.update(dict.fromkeys(self.outputs))
        return tuple(found)

    @property
    def constants(self) -> tuple[Value, ...]:
        return tuple(v for v in self.values if v.is_constant)

    @property
    def free_dims(self) -> dict[str, tuple[Dim, ...] | None]:
        """Inputs whose shape is not complete, with their shapes."""
        return {v.name: v.shape for v in self.inputs if not v.is_static and v.dtype is not OBJECT}

    def replace(
        self,
        layers: Iterable[Layer] | None = None,
        inputs: Iterable[Value] | None = None,
        outputs: Iterable[Value] | None = None,
        origin: Graph | None = None,
    ) -> Graph:
        """A new graph with the given parts in place of this one's."""
        return Graph(
            self.layers if layers is None else tuple(layers),
            self.inputs if inputs is None else tuple(inputs),
            self.outputs if outputs is None else tuple(outputs),
            self.name,
            self.opsets,
            self.functions,
            origin or self.origin,
            self.changes,
            self.unchanged,
            self.offsets,
        )

    def check(self) -> Graph:
        """Raises :class:`ModelError` unless every value is made once, before it is read; returns self."""
        known: set[Value] = set(self.inputs)
        names: set[str] = set()
        for layer in self.layers:
            if layer.name in names:
                raise ModelError("two layers have this name", file=self.name, layer=layer.name)
            names.add(layer.name)
            for value in layer.operands:
                if value not in known and not value.is_constant:
                    raise ModelError(f"reads {value.name!r} before it is made", file=self.name, layer=layer.name)
            for value in layer.results:
                if value in known:
                    raise ModelError(f"value {value.name!r} is made twice", file=self.name, layer=layer.name)
            known.update(layer.results)
        for value in self.outputs:
            if value not in known and not value.is_constant:
                raise ModelError(f"output {value.name!r} is never made", file=self.name)
        return self


@dataclass(frozen=True, eq=False)
class Region:
    """Layers one routine computes together, in topological order; the last is the exit.

    Rule for authors: no value made inside is used outside, except the results of the exit. (A graph output
    and a value captured by a subgraph count as used outside.) From it follows that any set of disjoint
    regions runs in the order of their exits.
    """

    graph: Graph
    layers: tuple[Layer, ...]

    @property
    def exit(self) -> Layer:
        return self.layers[-1]

    @cached_property
    def inputs(self) -> tuple[Value, ...]:
        """Operands from outside that are not constants, by position in the layers: parallel to
        ``Offer.inputs``. A value read twice stands twice (it may be wanted in two specs)."""
        inner = {v for layer in self.layers for v in layer.results}
        return tuple(v for layer in self.layers for v in layer.operands if v not in inner and not v.is_constant)

    @cached_property
    def outputs(self) -> tuple[Value, ...]:
        """Results of the exit, parallel to ``Offer.outputs``."""
        return self.exit.results

    @cached_property
    def constants(self) -> tuple[Value, ...]:
        """Constants read, each once."""
        return tuple(dict.fromkeys(v for layer in self.layers for v in layer.operands if v.is_constant))

    @property
    def name(self) -> str:
        return "+".join(layer.name for layer in self.layers)

    def is_legal(self) -> bool:
        """The rule of the class docstring, and that each layer but the exit feeds a later one of them."""
        inside = set(self.layers)
        outputs = set(self.graph.outputs)
        for layer in self.layers[:-1]:
            for value in layer.results:
                users = self.graph.consumers.get(value, ())
                if value in outputs or not users or not inside.issuperset(users):
                    return False
                if any(value in user.captures for user in users):
                    return False
        return len(inside) == len(self.layers)


def chains(graph: Graph, exit: Layer, pattern: Sequence[str]) -> Iterator[tuple[Layer, ...]]:
    """Every chain of layers whose operators are ``pattern`` and whose last layer is ``exit``."""
    if exit.op != pattern[-1]:
        return
    if len(pattern) == 1:
        yield (exit,)
        return
    for value in dict.fromkeys(exit.operands):
        producer = graph.producers.get(value)
        if producer is not None:
            for head in chains(graph, producer, pattern[:-1]):
                yield (*head, exit)
