"""From a ModelProto to a Graph as it stands in the file: names, scopes, constants, bodies.

Owns ONNX's scoping and versions; no shape is worked out and no layer rewritten here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, inliner

from softneuro_core.errors import ModelError
from softneuro_core.export import FUNCTION_DOMAIN, QUANTISATION_KEYS, schema_of
from softneuro_core.graph import Graph, Layer, Value
from softneuro_core.importer.order import topological
from softneuro_core.importer.read import ReadModel
from softneuro_core.importer.signature import signature_problem
from softneuro_core.importer.unknown import all_nodes, check_operators
from softneuro_core.operators import Operator
from softneuro_core.spec import OBJECT, DType, QParams

_WRAPPED = re.compile(r"([A-Za-z][A-Za-z0-9]*)_(\d+)(?:_\d+)?")


def build_graph(read: ReadModel, operators: Mapping[str, Operator]) -> Graph:
    """The graph of a model; raises :class:`ModelError` (structure) or its subclass for unknown operators."""
    read = _inlined(read, operators)
    proto = read.proto
    opsets = {_domain(o.domain): o.version for o in proto.opset_import} or {"": 1}
    functions = {(_domain(f.domain), f.name): f for f in proto.functions}
    kept = {key: f for key, f in functions.items() if wrapped_operator(*key) is None}
    domains = {_domain(node.domain) for node in all_nodes(proto.graph.node)}
    for operator in operators.values():
        if operator.function is not None:
            kept.setdefault((operator.domain, operator.name), operator.function)
        if operator.domain in domains:
            opsets.setdefault(operator.domain, operator.version)
    check_operators(proto, opsets, kept, operators, read.name)
    builder = _Builder(read, opsets, kept)
    graph, _ = builder.graph(proto.graph, None, "")
    used = _used_functions(proto.graph, kept)
    return Graph(graph.layers, graph.inputs, graph.outputs, read.name, opsets, used).check()


def wrapped_operator(domain: str, name: str) -> tuple[str, int] | None:
    """The operator and version a function of export's own domain stands for, or None."""
    match = _WRAPPED.fullmatch(name) if domain == FUNCTION_DOMAIN else None
    if match is None or schema_of(match[1], int(match[2])) is None:
        return None
    return match[1], int(match[2])


Functions = Mapping[tuple[str, str], onnx.FunctionProto]


def _used_functions(graph: onnx.GraphProto, functions: Functions) -> dict[tuple[str, str], onnx.FunctionProto]:
    """Those of the functions the graph calls, and those they call."""
    used: dict[tuple[str, str], onnx.FunctionProto] = {}
    pending = list(all_nodes(graph.node))
    while pending:
        node = pending.pop()
        key = (_domain(node.domain), node.op_type)
        if key in functions and key not in used:
            used[key] = functions[key]
            pending += all_nodes(functions[key].node)
    return used


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _inlined(read: ReadModel, operators: Mapping[str, Operator]) -> ReadModel:
    """The model with its local functions written out, less those somebody here knows as operators."""
    known = {(o.domain, o.name) for o in operators.values()}
    foreign = [
        (f.domain, f.name)
        for f in read.proto.functions
        if f.domain != FUNCTION_DOMAIN and (f.domain, f.name) not in known
    ]
    if not foreign:
        return read
    try:
        proto = inliner.inline_selected_functions(read.proto, foreign)
    except Exception as error:  # a C++ exception of any kind: functions that do not fit their calls
        raise ModelError(f"its local functions cannot be written out: {error}", file=read.name) from error
    return replace(read, proto=proto)


@dataclass
class _Scope:
    """Values by name in one graph; ``captured`` maps outer values to the body inputs that stand for them."""

    outer: _Scope | None
    values: dict[str, Value] = field(default_factory=dict)
    captured: dict[Value, Value] = field(default_factory=dict)

    def find(self, name: str) -> Value | None:
        """The value of this name; one of an outer scope becomes an input here (constants are shared)."""
        if name in self.values:
            return self.values[name]
        found = self.outer.find(name) if self.outer else None
        if found is None or found.is_constant:
            return found
        inner = Value(found.name, found.dtype, found.shape, type=found.type)
        self.values[name] = self.captured[found] = inner
        return inner


class _Builder:
    def __init__(self, read: ReadModel, opsets: dict[str, int], functions: Functions) -> None:
        self.read = read
        self.opsets = opsets
        self.functions = functions
        self.layer_names: set[str] = set()

    def graph(self, proto: onnx.GraphProto, outer: _Scope | None, path: str) -> tuple[Graph, tuple[Value, ...]]:
        """A graph and the outer values its last inputs stand for."""
        scope = _Scope(outer)
        self._constants(proto, scope)
        inputs = self._inputs(proto, scope)
        types = {info.name: info.type for info in [*proto.value_info, *proto.output]}
        layers = []
        for number, node in topological(proto, self.read.name):
            if node.op_type == "Constant" and _domain(node.domain) == "":
                self._constant_node(node, scope)
            else:
                layers.append(self._layer(node, number, scope, types, path))
        _read_annotations(proto, scope)
        outputs = tuple(self._required(scope, info.name, "graph output") for info in proto.output)
        if outer is None and not outputs:
            raise ModelError("the graph has no outputs", file=self.read.name)
        inputs += tuple(scope.captured.values())
        return Graph(tuple(layers), inputs, outputs, proto.name, self.opsets, self.functions), tuple(scope.captured)

    def _constants(self, proto: onnx.GraphProto, scope: _Scope) -> None:
        for tensor in proto.initializer:
            array = self.read.tensor(tensor)
            scope.values[tensor.name] = constant(tensor.name, array, DType.from_onnx(tensor.data_type))
        for sparse in proto.sparse_initializer:
            array = self.read.sparse(sparse)
            scope.values[sparse.values.name] = constant(sparse.values.name, array)

    def _inputs(self, proto: onnx.GraphProto, scope: _Scope) -> tuple[Value, ...]:
        inputs = []
        for info in proto.input:
            if info.name in scope.values:
                if scope.values[info.name].is_constant:
                    continue  # an initialiser listed as input, as IR 3 wants it
                raise ModelError(f"two inputs are called {info.name!r}", file=self.read.name)
            if scope.outer is None and info.type.WhichOneof("value") is None:
                raise ModelError(f"input {info.name!r} has no type", file=self.read.name)
            scope.values[info.name] = value_of_type(info.name, info.type)
            inputs.append(scope.values[info.name])
        return tuple(inputs)

    def _required(self, scope: _Scope, name: str, reader: str) -> Value:
        value = scope.find(name)
        if value is None:
            raise ModelError(f"{reader} reads {name!r}, which nothing makes", file=self.read.name)
        return value

    def _constant_node(self, node: onnx.NodeProto, scope: _Scope) -> None:
        if len(node.output) != 1 or len(node.attribute) != 1:
            raise ModelError("a Constant needs one output and one value", file=self.read.name, layer=node.name)
        (name,) = node.output
        attribute = node.attribute[0]
        if attribute.name == "sparse_value":
            array = self.read.sparse(attribute.sparse_tensor)
        elif attribute.name == "value":
            array = self.read.tensor(attribute.t)
        else:
            kinds: dict[str, type] = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64}
            kinds |= {"value_ints": np.int64, "value_string": object, "value_strings": object}
            array = np.array(self._attribute(attribute), kinds.get(attribute.name))
        if name in scope.values:
            raise ModelError(f"value {name!r} is made twice", file=self.read.name, layer=node.name)
        scope.values[name] = constant(name, array)

    def _layer(
        self, node: onnx.NodeProto, number: int, scope: _Scope, types: Mapping[str, onnx.TypeProto], path: str
    ) -> Layer:
        name = self._unique(node.name or f"{path}{node.op_type}_{number}")
        inputs = tuple(self._required(scope, i, f"layer {name}") if i else None for i in node.input)
        attrs: dict[str, Any] = {}
        captures: list[Value] = []
        for attribute in node.attribute:
            if attribute.name == "consumed_inputs":
                continue  # a hint of opset 1 without meaning
            if attribute.type == AttributeProto.GRAPH:
                attrs[attribute.name], captured = self.graph(attribute.g, scope, f"{name}/")
                captures += captured
            else:
                attrs[attribute.name] = self._attribute(attribute)
        outputs = tuple(self._made(scope, o, types, name) if o else None for o in node.output)
        kind, domain, version = self._operator(node)
        schema = schema_of(kind, version, domain)
        inputs = _trimmed(inputs, 0 if schema is None else schema.min_input)
        layer = Layer(name, kind, inputs, _trimmed(outputs), attrs, domain, version, tuple(captures))
        problem = signature_problem(layer, node)
        if problem is not None:
            raise ModelError(problem, file=self.read.name, layer=name)
        return layer

    def _operator(self, node: onnx.NodeProto) -> tuple[str, str, int]:
        """Type, domain, and the version that defined this operator last under the model's opset."""
        domain = _domain(node.domain)
        wrapped = wrapped_operator(domain, node.op_type)
        if wrapped is not None and (domain, node.op_type) not in self.functions:
            return wrapped[0], "", wrapped[1]
        version = self.opsets.get(domain, 1)
        schema = schema_of(node.op_type, version, domain)
        return node.op_type, domain, version if schema is None else schema.since_version

    def _made(self, scope: _Scope, name: str, types: Mapping[str, onnx.TypeProto], layer: str) -> Value:
        if name in scope.values:
            raise ModelError(f"value {name!r} is made twice", file=self.read.name, layer=layer)
        declared = types.get(name)
        value = Value(name, OBJECT, None) if declared is None else value_of_type(name, declared)
        scope.values[name] = value
        return value

    def _unique(self, name: str) -> str:
        found, count = name, 0
        while found in self.layer_names:
            count += 1
            found = f"{name}_{count}"
        self.layer_names.add(found)
        return found

    def _attribute(self, attribute: onnx.AttributeProto) -> Any:
        """An attribute as int, float, str (bytes if it is no text), tuple, array, or onnx's own message."""
        kind = attribute.type
        if kind == AttributeProto.TENSOR:
            return self.read.tensor(attribute.t)
        if kind == AttributeProto.SPARSE_TENSOR:
            return self.read.sparse(attribute.sparse_tensor)
        if kind == AttributeProto.TYPE_PROTO:
            return attribute.tp
        try:
            value = onnx.helper.get_attribute_value(attribute)
        except (ValueError, AssertionError) as error:  # onnx asserts that the type is one it knows
            raise ModelError(f"attribute {attribute.name!r} is damaged: {error}", file=self.read.name) from error
        if isinstance(value, bytes):
            return _text(value)
        if isinstance(value, Sequence) or kind in _LISTS:
            return tuple(_text(v) if isinstance(v, bytes) else v for v in value)
        return value


def _read_annotations(proto: onnx.GraphProto, scope: _Scope) -> None:
    """Gives values the quantisation numbers the file notes beside the graph."""
    for annotation in proto.quantization_annotation:
        value = scope.values.get(annotation.tensor_name)
        named = {entry.key: scope.values.get(entry.value) for entry in annotation.quant_parameter_tensor_names}
        scale, zero, axis, on_grid = (getattr(named.get(key), "data", None) for key in QUANTISATION_KEYS)
        if value is not None and scale is not None and zero is not None:
            along = None if axis is None else int(axis.reshape(-1)[0])
            value.qparams = QParams(scale.astype(np.float32), zero, along, on_grid is not None)


_LISTS = (AttributeProto.INTS, AttributeProto.FLOATS, AttributeProto.STRINGS, AttributeProto.TENSORS)


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _trimmed(values: Iterable[Value | None], least: int = 0) -> tuple[Value | None, ...]:
    """Without absent operands at the end, which mean the same as none, but for the ``least`` an operator has."""
    kept = list(values)
    while len(kept) > least and kept[-1] is None:
        kept.pop()
    return tuple(kept)


def constant(name: str, array: np.ndarray, dtype: DType | None = None) -> Value:
    """A constant value holding ``array``, read-only from now on."""
    array = np.asarray(array)
    array.flags.writeable = False
    return Value(name, dtype or DType.from_numpy(array.dtype), array.shape, array)


def value_of_type(name: str, proto: onnx.TypeProto) -> Value:
    """A value of an ONNX type: a tensor by dtype and shape, anything else as a host object that keeps its type."""
    if proto.WhichOneof("value") != "tensor_type":
        kept = onnx.TypeProto()
        kept.CopyFrom(proto)
        return Value(name, OBJECT, None, type=kept if proto.WhichOneof("value") else None)
    tensor = proto.tensor_type
    dims = tuple(_dim(d) for d in tensor.shape.dim) if tensor.HasField("shape") else None
    return Value(name, DType.from_onnx(tensor.elem_type), dims)


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return dim.dim_value
    return dim.dim_param or None
