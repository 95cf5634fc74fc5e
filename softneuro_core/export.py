"""Writes a Graph back as an ONNX model: for the reference evaluator, worker processes, Netron.

Owns the way back to ONNX; knows nothing of routines, plans or devices. A layer whose operator version the
model's opset does not have (a rewrite introduced it) is written as a call of a function of domain ``softneuro``;
the importer turns that call into the same layer again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

from softneuro_core.errors import ModelError
from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_core.spec import OBJECT, QParams

FUNCTION_DOMAIN = "softneuro"
IR_VERSION = 10
"""New enough for functions and every element type; older readers are not our concern here."""
EXTERNAL_FROM_BYTES = 4096
"""Constants at least this large go to the data file when a model is saved with external data."""
PACKED_BITS = {"int4": 4, "uint4": 4, "float4e2m1": 4, "int2": 2, "uint2": 2}
"""Types stored several to a byte in a file, one a byte in memory."""
ALIGNMENT = 4096
"""Of constants in the data file: a page, so that they can be mapped."""


def to_model(graph: Graph) -> onnx.ModelProto:
    """The graph as a model with every constant inside; raises :class:`ModelError` beyond protobuf's 2 GiB."""
    model = _Writer(graph).model()
    if sum(v.data.nbytes for v in graph.constants if v.data is not None) >= 2**31:
        raise ModelError(
            "the constants exceed the 2 GiB of one ONNX file", file=graph.name, remedy="save with external=True"
        )
    return model


def save(graph: Graph, path: str | Path, external: bool = False) -> None:
    """Writes the graph to ``path``; with ``external``, large constants to ``path`` + ``.data`` beside it.

    Loading the file with ``passes=False`` gives layers and values of the same names; external constants are then
    mapped, not copied.
    """
    path = Path(path)
    if not external:
        path.write_bytes(to_model(graph).SerializeToString())
        return
    data_path = path.with_name(path.name + ".data")
    with data_path.open("wb") as file:
        writer = _Writer(graph, _ExternalData(file, data_path.name))
        path.write_bytes(writer.model().SerializeToString())


def region_model(region: Region) -> onnx.ModelProto:
    """The layers of a region as a model: inputs are ``region.inputs`` (each value once), then outputs."""
    inputs = tuple(dict.fromkeys(region.inputs))
    parent = region.graph
    graph = Graph(region.layers, inputs, region.outputs, region.name, parent.opsets, parent.functions)
    return to_model(graph)


def layer_model(graph: Graph, layer: Layer) -> onnx.ModelProto:
    """One layer as a model without any data: each distinct operand, constant or not, is an input, in order."""
    operands = tuple(dict.fromkeys(layer.operands))
    alone = Graph((layer,), operands, layer.results, layer.name, graph.opsets, graph.functions)
    return _Writer(alone).model()


def type_proto(value: Value) -> onnx.TypeProto:
    """The ONNX type of a value; dimensions that depend on data are left open."""
    if value.type is not None:
        return value.type
    element = onnx.TensorProto.STRING if value.dtype is OBJECT else value.dtype.onnx
    return helper.make_tensor_type_proto(element, value.shape)


def attribute_proto(name: str, value: Any, kind: int | None = None) -> onnx.AttributeProto:
    """One attribute; ``kind`` (an ``AttributeProto.AttributeType``) decides where the Python value is ambiguous."""
    if isinstance(value, np.ndarray):
        return helper.make_attribute(name, numpy_helper.from_array(value))
    if kind == AttributeProto.FLOAT:
        value = float(value)
    elif kind == AttributeProto.FLOATS:
        value = [float(v) for v in value]
    if isinstance(value, tuple):
        value = list(value)
    if value == [] and kind is None:
        kind = AttributeProto.INTS
    return helper.make_attribute(name, value, attr_type=kind)


@cache
def schema_of(type: str, version: int, domain: str = "") -> onnx.defs.OpSchema | None:
    """The schema in force at this opset version, or None; a deprecated one gives way to the last that was not."""
    try:
        schema = onnx.defs.get_schema(type, version, domain)
    except onnx.defs.SchemaError:
        return None
    if schema.deprecated:
        return schema_of(type, schema.since_version - 1, domain) if schema.since_version > 1 else None
    return schema


def _all_layers(graph: Graph) -> Iterator[Layer]:
    for layer in graph.layers:
        yield layer
        for body in layer.bodies.values():
            yield from _all_layers(body)


def _means_the_same(layer: Layer, version: int) -> bool:
    """Whether the operator of this layer is the same one at opset ``version``."""
    at = schema_of(layer.type, version, layer.domain)
    own = schema_of(layer.type, layer.version, layer.domain)
    return at is own or (at is not None and own is not None and at.since_version == own.since_version)


def choose_opsets(graph: Graph) -> dict[str, int]:
    """Versions by domain under which most layers mean what they mean here: the graph's own if they fit, else the
    lowest newer ones that fit all, else the graph's own (the rest is written as functions)."""
    layers: dict[str, list[Layer]] = {"": []}
    for layer in _all_layers(graph):
        layers.setdefault(layer.domain, []).append(layer)
    chosen = dict(graph.opsets)
    for domain, members in layers.items():
        needed = max((layer.version for layer in members), default=1)
        own = graph.opsets.get(domain, needed)
        newest = max(own, onnx.defs.onnx_opset_version()) if not domain else max(own, needed)
        fits = (v for v in [own, *range(needed, newest + 1)] if all(_means_the_same(la, v) for la in members))
        chosen[domain] = next(fits, own)
    return chosen


@dataclass(slots=True)
class _ExternalData:
    """The data file of a model being written."""

    file: Any
    name: str

    def put(self, tensor: onnx.TensorProto, array: np.ndarray) -> None:
        self.file.seek(-self.file.tell() % ALIGNMENT, 1)
        offset = self.file.tell()
        self.file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, text in (("location", self.name), ("offset", str(offset)), ("length", str(array.nbytes))):
            tensor.external_data.add(key=key, value=text)


@dataclass(slots=True)
class _Names:
    """Names of values in one scope; a body sees those around it and shadows none."""

    outer: _Names | None = None
    names: dict[Value, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def find(self, value: Value) -> str | None:
        if value in self.names:
            return self.names[value]
        return self.outer.find(value) if self.outer else None

    def is_taken(self, name: str) -> bool:
        return name in self.taken or (self.outer is not None and self.outer.is_taken(name))

    def of(self, value: Value | None) -> str:
        if value is None:
            return ""
        found = self.find(value)
        if found is None:
            base = found = value.name or "value"
            count = 0
            while self.is_taken(found):
                count += 1
                found = f"{base}_{count}"
            self.names[value] = found
            self.taken.add(found)
        return found


class _Writer:
    """Turns one graph into a model."""

    def __init__(self, graph: Graph, external: _ExternalData | None = None) -> None:
        self.graph = graph
        self.external = external
        self.opsets = choose_opsets(graph)
        self.functions = dict(graph.functions)

    def model(self) -> onnx.ModelProto:
        proto = self.graph_proto(self.graph, self.graph.inputs, _Names())
        used = {layer.domain for layer in _all_layers(self.graph)} | {"", *self.graph.opsets}
        used |= {domain for domain, _ in self.functions}
        versions = {domain: self.opsets.get(domain, 1) for domain in sorted(used)}
        for function in self.functions.values():
            for imported in function.opset_import:
                versions.setdefault(imported.domain, imported.version)
        imports = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
        functions = list(self.functions.values())
        made = helper.make_model(proto, opset_imports=imports, functions=functions, producer_name="softneuro")
        made.ir_version = IR_VERSION if max(versions[""], 1) <= 22 else onnx.IR_VERSION
        return made

    def graph_proto(self, graph: Graph, inputs: tuple[Value, ...], names: _Names) -> onnx.GraphProto:
        proto = onnx.GraphProto(name=graph.name or "graph")
        for value in inputs:
            proto.input.add(name=names.of(value)).type.CopyFrom(type_proto(value))
        for value in _stored_constants(graph, names):
            proto.initializer.append(self.tensor(value, names))
        for layer in graph.layers:
            proto.node.append(self.node(layer, names))
        for value in graph.outputs:
            proto.output.add(name=names.of(value)).type.CopyFrom(type_proto(value))
        for value in graph.values:
            if value.qparams is not None:
                _annotate(proto, names.of(value), value.qparams)
        outputs = set(graph.outputs)
        for layer in graph.layers:
            for value in layer.results:
                if value not in outputs and (value.shape is not None or value.type is not None):
                    proto.value_info.add(name=names.of(value)).type.CopyFrom(type_proto(value))
        return proto

    def tensor(self, value: Value, names: _Names) -> onnx.TensorProto:
        assert value.data is not None
        if self.external is None or value.data.dtype == object or value.data.nbytes < EXTERNAL_FROM_BYTES:
            return constant_proto(value, names.of(value))
        tensor = onnx.TensorProto(name=names.of(value), data_type=value.dtype.onnx, dims=value.data.shape)
        if value.dtype.name in PACKED_BITS:
            return constant_proto(value, names.of(value))
        self.external.put(tensor, value.data)
        return tensor

    def node(self, layer: Layer, names: _Names) -> onnx.NodeProto:
        wrapped = not _means_the_same(layer, self.opsets.get(layer.domain, 1)) and not layer.bodies
        inputs = [names.of(v) for v in layer.inputs]
        attributes = self.attributes(layer, names)
        outputs = [names.of(v) for v in layer.outputs]
        if not wrapped:
            node = onnx.NodeProto(name=layer.name, op_type=layer.type, domain=layer.domain)
        else:
            node = onnx.NodeProto(name=layer.name, op_type=self.wrapper(layer, attributes), domain=FUNCTION_DOMAIN)
        node.input.extend(inputs)
        node.output.extend(outputs)
        node.attribute.extend(attributes)
        return node

    def attributes(self, layer: Layer, names: _Names) -> list[onnx.AttributeProto]:
        schema = schema_of(layer.type, layer.version, layer.domain)
        kinds = {} if schema is None else {k: a.type.value for k, a in schema.attributes.items()}
        captures = capture_counts(layer)
        taken = 0
        made = []
        for key, value in layer.attrs.items():
            if isinstance(value, Graph):
                outer = layer.captures[taken : taken + captures[key]]
                taken += captures[key]
                made.append(helper.make_attribute(key, self.body(value, outer, names)))
            else:
                made.append(attribute_proto(key, value, kinds.get(key)))
        return made

    def body(self, body: Graph, captured: tuple[Value, ...], outer: _Names) -> onnx.GraphProto:
        formal = len(body.inputs) - len(captured)
        names = _Names(outer)
        for inner, value in zip(body.inputs[formal:], captured, strict=True):
            names.names[inner] = outer.of(value)
        return self.graph_proto(body, body.inputs[:formal], names)

    def wrapper(self, layer: Layer, attributes: list[onnx.AttributeProto]) -> str:
        """Adds the function that stands for this operator at its own version; returns its name."""
        function = wrapper_function(layer, attributes)
        _lower_opset(function, self.opsets.get("", 1))
        base = function.name
        count = 0
        while (FUNCTION_DOMAIN, function.name) in self.functions:
            if self.functions[FUNCTION_DOMAIN, function.name] == function:
                return function.name
            count += 1
            function.name = f"{base}_{count}"
        self.functions[FUNCTION_DOMAIN, function.name] = function
        return function.name


QUANTISATION_KEYS = ("SCALE_TENSOR", "ZERO_POINT_TENSOR", "AXIS", "ON_GRID")
"""Of ONNX's tensor annotations; the last two are ours, absent for a value quantised as a whole, or not on its grid."""


def _annotate(proto: onnx.GraphProto, name: str, qparams: QParams) -> None:
    """Keeps the numbers of a quantised value beside the graph, as ONNX's own annotation."""
    annotation = proto.quantization_annotation.add(tensor_name=name)
    axis = None if qparams.axis is None else np.array(qparams.axis, np.int64)
    on_grid = np.array(1, np.int64) if qparams.on_grid else None
    for key, array in zip(QUANTISATION_KEYS, (qparams.scale, qparams.zero_point, axis, on_grid), strict=True):
        if array is not None:
            stored = numpy_helper.from_array(np.asarray(array), f"{name}/{key}")
            proto.initializer.append(stored)
            annotation.quant_parameter_tensor_names.add(key=key, value=stored.name)


def constant_proto(value: Value, name: str) -> onnx.TensorProto:
    """A constant as a TensorProto."""
    assert value.data is not None
    if value.dtype is OBJECT:
        tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.STRING, dims=value.data.shape)
        tensor.string_data.extend(s if isinstance(s, bytes) else str(s).encode() for s in value.data.ravel())
        return tensor
    return numpy_helper.from_array(np.asarray(value.data), name)


def _stored_constants(graph: Graph, names: _Names) -> list[Value]:
    """Constants this scope must hold itself, each once."""
    return [v for v in graph.constants if names.find(v) is None]


def capture_counts(layer: Layer) -> Mapping[str, int]:
    """How many of ``layer.captures`` belong to each body, by attribute name, in order.

    All bodies of one ONNX operator have the same number of formal inputs (If: none; Loop and Scan have one body).
    """
    bodies = layer.bodies
    if not bodies:
        return {}
    formal = (sum(len(b.inputs) for b in bodies.values()) - len(layer.captures)) // len(bodies)
    return {name: len(body.inputs) - formal for name, body in bodies.items()}


def wrapper_function(layer: Layer, attributes: list[onnx.AttributeProto]) -> onnx.FunctionProto:
    """A function of domain ``softneuro`` named ``TYPE_VERSION`` with the meaning of this layer.

    Its body is the one ONNX defines for the operator where there is one, else the operator itself at its own
    opset. Attribute values are part of the body, and named so that the importer finds them on the call.
    """
    inputs = [f"i{i}" for i in range(len(layer.inputs))]
    outputs = [f"o{i}" for i in range(len(layer.outputs))]
    node = onnx.NodeProto(op_type=layer.type, domain=layer.domain, input=inputs, output=outputs, attribute=attributes)
    body = _defined_body(layer, node)
    if body is not None:
        function = body
        del function.attribute[:], function.attribute_proto[:]
    else:
        function = onnx.FunctionProto(input=inputs, output=outputs, node=[node])
        function.opset_import.append(helper.make_opsetid(layer.domain, layer.version))
    function.domain, function.name = FUNCTION_DOMAIN, f"{layer.type}_{layer.version}"
    function.attribute.extend(a.name for a in attributes)
    return function


def _lower_opset(function: onnx.FunctionProto, version: int) -> None:
    """Imports the model's own opset into the function if that has every operator of the body: onnx's checker wants
    one meaning of an operator in a whole model."""
    if all(not node.domain and schema_of(node.op_type, version) is not None for node in function.node):
        for imported in function.opset_import:
            imported.version = min(imported.version, version)


def _defined_body(layer: Layer, node: onnx.NodeProto) -> onnx.FunctionProto | None:
    schema = schema_of(layer.type, layer.version, layer.domain)
    if schema is None or None in layer.inputs or None in layer.outputs:
        return None
    if len(layer.inputs) != len(schema.inputs) or len(layer.outputs) != len(schema.outputs):
        return None
    if schema.has_function and not node.attribute:
        return onnx.FunctionProto.FromString(schema.function_body.SerializeToString())
    if not schema.has_context_dependent_function:
        return None
    types = [type_proto(v).SerializeToString() for v in layer.operands]
    text = schema.get_context_dependent_function(node.SerializeToString(), types)
    return onnx.FunctionProto.FromString(text) if text else None
