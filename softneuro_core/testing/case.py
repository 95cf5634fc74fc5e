"""A case: ONNX nodes with operands, from which a region is made. What plugin authors write for their operators."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import helper

from softneuro_core.graph import Graph, Region, Value
from softneuro_core.operators import Operator
from softneuro_core.spec import QParams
from softneuro_core.testing.build import OPSET, build_graph


@dataclass(frozen=True, slots=True)
class Const:
    """Marks an operand that is known when the routine is prepared: weights, axes, sizes."""

    array: Any
    """An array, or a number numpy made."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "array", np.asarray(self.array))


T = TypeVar("T")
REBIRTHS = 2000
"""The allocator hands a freed place out again soon; this many small objects take less than a millisecond."""

Operand = np.ndarray | Const | None
"""An activation, a constant, or an optional input that is absent."""


@dataclass(frozen=True, eq=False)
class Case:
    """One or several nodes in topological order, with arrays for everything they read.

    ``name`` is the id in reports (letters, digits, ``-_.``), unique among the cases of a run. ``outputs``
    defaults to what the last node makes. ``qparams`` gives scale and zero point of values by name, for routines
    with quantised specs.
    """

    name: str
    nodes: tuple[onnx.NodeProto, ...]
    inputs: Mapping[str, np.ndarray]
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    opset: int = OPSET
    qparams: Mapping[str, QParams] = field(default_factory=dict)

    @property
    def ops(self) -> frozenset[str]:
        """Operators that occur, qualified by domain unless it is ONNX's own."""
        return frozenset(f"{n.domain}::{n.op_type}" if n.domain else n.op_type for n in self.nodes)

    def graph(self, operators: Mapping[str, Operator] | None = None) -> Graph:
        """The nodes as a Graph; raises :class:`ModelError` if a shape cannot be inferred."""
        outputs = self.outputs or tuple(n for n in self.nodes[-1].output if n)
        known = {op: o for op, o in (operators or {}).items() if op in self.ops}
        graph = build_graph(self.nodes, self.inputs, self.constants, outputs, known, self.opset)
        for value in graph.values:
            value.qparams = self.qparams.get(value.name)
        return graph

    def region(self, operators: Mapping[str, Operator] | None = None) -> Region:
        """All nodes as one region."""
        graph = self.graph(operators)
        return Region(graph, graph.layers)

    def arrays(self, region: Region) -> list[np.ndarray]:
        """The input arrays, parallel to ``region.inputs``."""
        return [self.inputs[v.name] for v in region.inputs]

    def with_inputs(self, seed: int) -> Case:
        """The same case on other inputs of the same kind: each array's own elements, shuffled."""
        return replace(self, inputs={n: _shuffled(a, seed, n) for n, a in self.inputs.items()})

    def with_constants(self, turns: int, identities: frozenset[int] = frozenset()) -> Case:
        """The same case with the elements of every float constant moved on by ``turns`` places.

        The new arrays take one of ``identities`` (``id`` of arrays that are gone) where they can.
        """
        moved = {}
        for name, array in self.constants.items():
            moved[name] = first_with_id(lambda like=array: np.empty_like(like), identities)  # type: ignore[misc]
            moved[name][...] = np.roll(array, turns) if array.dtype.kind == "f" else array
        return replace(self, constants=moved)

    def astype(self, dtype: np.dtype) -> Case:
        """The same case with every floating-point operand in ``dtype``."""

        def cast(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {n: a.astype(dtype) if _is_float(a.dtype) else a for n, a in arrays.items()}

        return replace(self, inputs=cast(self.inputs), constants=cast(self.constants))

    def rounded(self, dtypes: Mapping[str, np.dtype]) -> Case:
        """The same case with inputs as these narrower types hold them, still in their own type."""
        inputs = {n: a.astype(dtypes[n]).astype(a.dtype) if n in dtypes else a for n, a in self.inputs.items()}
        return replace(self, inputs=inputs)

    def renamed(self, name: str) -> Case:
        return replace(self, name=name)

    def at_opset(self, opset: int) -> Case:
        return replace(self, opset=opset)


def _is_float(dtype: np.dtype) -> bool:
    return dtype.kind == "f" or "float" in dtype.name


def _shuffled(array: np.ndarray, seed: int, name: str) -> np.ndarray:
    order = np.random.default_rng([seed, zlib.crc32(name.encode())]).permutation(array.size)
    return array.reshape(-1)[order].reshape(array.shape)


def first_with_id(make: Callable[[], T], identities: frozenset[int]) -> T:
    """What ``make`` gives, tried until it lies where an object of one of these ids was (or long enough)."""
    tried = [make()]
    while identities and len(tried) < REBIRTHS and id(tried[-1]) not in identities:
        tried.append(make())
    return tried[-1]


def single(
    name: str,
    op: str,
    *operands: Operand,
    outputs: int | Sequence[str] = 1,
    domain: str = "",
    opset: int = OPSET,
    **attrs: Any,
) -> Case:
    """A case of one node: ``single("snake-c17", "Snake", normal(1, 17, 5), domain="hello", alpha=0.5)``.

    Operands stand at their ONNX positions; ``outputs`` is their number, or their names with ``""`` for one that
    is absent.
    """
    operands = tuple(np.asarray(o) if isinstance(o, np.generic) else o for o in operands)
    names = [f"y{i}" for i in range(outputs)] if isinstance(outputs, int) else list(outputs)
    inputs = {f"x{i}": o for i, o in enumerate(operands) if isinstance(o, np.ndarray)}
    constants = {f"x{i}": o.array for i, o in enumerate(operands) if isinstance(o, Const)}
    reads = ["" if o is None else f"x{i}" for i, o in enumerate(operands)]
    while reads and not reads[-1]:
        reads.pop()
    node = helper.make_node(op, reads, names, domain=domain, **attrs)
    return Case(name, (node,), inputs, constants, opset=opset)


def chain(name: str, nodes: Iterable[onnx.NodeProto], **operands: Any) -> Case:
    """A case of several nodes; operands (arrays or :class:`Const`) by the names the nodes use."""
    inputs = {n: o for n, o in operands.items() if isinstance(o, np.ndarray)}
    constants = {n: o.array for n, o in operands.items() if isinstance(o, Const)}
    return Case(name, tuple(nodes), inputs, constants)


def model_cases(graph: Graph, seed: int = 0) -> list[Case]:
    """One case for every layer of a real model that has static shapes and no subgraph, on random inputs.

    Layers that differ in name only come once. Floats are normal, integers small, truth values even.
    """
    from softneuro_core.export import region_model

    found: dict[bytes, Case] = {}
    for layer in graph.layers:
        if layer.bodies or any(v.is_object for v in layer.operands + layer.results):
            continue
        model = region_model(Region(graph, (layer,))).graph
        node = model.node[0]
        inputs = {v.name: _random(v, seed) for v in layer.operands if not v.is_constant}
        constants = {v.name: v.data for v in layer.operands if v.data is not None}
        shapes = ",".join(f"{v.dtype}{v.static_shape}" for v in layer.operands)
        plain = onnx.NodeProto(op_type=node.op_type, domain=node.domain, attribute=node.attribute)
        key = plain.SerializeToString() + shapes.encode()
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in layer.name)
        found.setdefault(key, Case(name, (node,), inputs, constants, opset=graph.opsets.get("", OPSET)))
    return list(found.values())


def _random(value: Value, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, zlib.crc32(value.name.encode())])
    shape, dtype = value.static_shape, value.dtype.numpy
    if value.dtype.is_float:
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, 2 if dtype == np.bool_ else 4, shape).astype(dtype)


def normal(*shape: int, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    """Reproducible normal numbers of this shape."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def uniform(low: float, high: float, *shape: int, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    """Reproducible numbers between ``low`` and ``high``; for integer types both may occur."""
    rng = np.random.default_rng([seed, *shape])
    if np.dtype(dtype).kind in "iu":
        return rng.integers(int(low), int(high), shape, endpoint=True).astype(dtype)
    return rng.uniform(low, high, shape).astype(dtype)
