"""The types of one layer's results from those of its operands, by onnx's own shape inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, checker, helper, numpy_helper, shape_inference

from softneuro_core.errors import ModelError
from softneuro_core.export import attribute_proto, layer_model, schema_of, type_proto
from softneuro_core.graph import Dim, Graph, Layer, Value
from softneuro_core.importer.build import value_of_type
from softneuro_core.spec import OBJECT, DType, QParams

if TYPE_CHECKING:
    from softneuro_core.importer.infer import Inference

Known = dict[Value, np.ndarray]
"""Data of values that are no constants but the same in every run."""

REFUSALS = (shape_inference.InferenceError, checker.ValidationError, ValueError, TypeError, RuntimeError)
"""All that onnx's inference raises for a node it cannot make sense of."""

GRAPH = onnx.defs.OpSchema.AttrType.GRAPH
MAX_DATA_ELEMENTS = 4096
"""Shapes, axes, pads: what inference reads is small; larger constants are weights."""


def output_values(walk: Inference, layer: Layer, declared: Sequence[Value | None]) -> list[Value | None]:
    """New values for the outputs of ``layer``: what inference finds, completed by what the file declares."""
    found = _inferred(walk, layer)
    return [
        None if old is None else _merged(old, found[i] if i < len(found) else None, layer)
        for i, old in enumerate(declared)
    ]


def _merged(old: Value, found: Value | None, layer: Layer) -> Value:
    qparams = old.qparams or layer_qparams(layer)
    if found is None:
        return Value(old.name, old.dtype, old.shape, qparams=qparams, type=old.type)
    if found.type is not None:
        return Value(old.name, OBJECT, None, type=found.type)
    dtype = found.dtype if found.dtype is not OBJECT else old.dtype
    return Value(old.name, dtype, merged_shape(found.shape, old.shape), qparams=qparams, type=found.type)


def merged_shape(found: tuple[Dim, ...] | None, declared: tuple[Dim, ...] | None) -> tuple[Dim, ...] | None:
    """What inference found, its gaps filled from the declaration where the ranks agree."""
    if found is None or declared is None or len(found) != len(declared):
        return declared if found is None else found
    return tuple(_known_dim(f, d) for f, d in zip(found, declared, strict=True))


def _known_dim(found: Dim, declared: Dim) -> Dim:
    if isinstance(found, int):
        return found
    return declared if isinstance(declared, int) or found is None else found


def _inferred(walk: Inference, layer: Layer) -> list[Value | None]:
    """One value (of no particular name) for each output position, None where nothing is known."""
    _check_attributes(walk, layer)
    if layer.type in ("If", "Loop") and not layer.domain:
        from softneuro_core.importer import bodies

        return bodies.result_values(walk, layer)
    operator = walk.operators.get(layer.op)
    if operator is not None and operator.shape_rule is not None:
        return _by_rule(walk, layer, operator.shape_rule)
    function = walk.graph.functions.get((layer.domain, layer.type))
    try:
        if function is not None:
            return _by_function(layer, function)
        return _by_schema(walk, layer)
    except REFUSALS as error:
        if walk.lenient and isinstance(error, shape_inference.InferenceError):
            walk.failed = True
            return []
        raise ModelError(f"{layer.op}: {_reason(error)}", file=walk.graph.name, layer=layer.name) from error


def _check_attributes(walk: Inference, layer: Layer) -> None:
    """Raises :class:`ModelError` for a required attribute that is missing, or a subgraph that is none."""
    schema = schema_of(layer.type, layer.version, layer.domain)
    for name, attribute in ({} if schema is None else schema.attributes).items():
        given = layer.attrs.get(name)
        if attribute.required and given is None:
            cause = f"{layer.op} lacks its attribute {name!r}"
        elif given is not None and (attribute.type == GRAPH) != isinstance(given, Graph):
            cause = f"attribute {name!r} of {layer.op} has the wrong type"
        else:
            continue
        raise ModelError(cause, file=walk.graph.name, layer=layer.name)


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:300]


def _by_rule(walk: Inference, layer: Layer, rule: Any) -> list[Value | None]:
    try:
        return [Value("", dtype, None if shape is None else tuple(shape)) for dtype, shape in rule(layer)]
    except ModelError as error:
        error.file = error.file or walk.graph.name
        raise
    except Exception as error:  # a plugin's rule may raise anything
        raise ModelError(f"{layer.op}: {_reason(error)}", file=walk.graph.name, layer=layer.name) from error


def _by_function(layer: Layer, function: onnx.FunctionProto) -> list[Value | None]:
    types = [onnx.TypeProto() if v is None else type_proto(v) for v in layer.inputs]
    types += [onnx.TypeProto()] * (len(function.input) - len(types))
    attributes = [attribute_proto(k, v) for k, v in layer.attrs.items()]
    found = shape_inference.infer_function_output_types(function, types, attributes)
    return [value_of_type("", t) for t in found]


def _by_schema(walk: Inference, layer: Layer) -> list[Value | None]:
    schema = schema_of(layer.type, layer.version, layer.domain)
    if schema is None:
        return []
    node, operands = _node(walk, layer)
    types = {name: type_proto(v) for name, v in operands.items() if _has_type(v)}
    if any(name and name not in types for name in node.input):
        return []  # an operand of unknown type: nothing can be said
    data = {}
    for name, value in operands.items():
        array = walk.data(value)
        if array is not None and array.size <= MAX_DATA_ELEMENTS and array.dtype != object:
            if layer.type == "Range" and array.size == 1:
                array = array.reshape(())  # scalars of rank one are common; inference insists on rank zero
                types[name] = helper.make_tensor_type_proto(value.dtype.onnx, ())
            data[name] = numpy_helper.from_array(np.asarray(array), name)
    versions = {"": schema.since_version} | {d: v for d, v in walk.graph.opsets.items() if d != layer.domain}
    versions[layer.domain] = schema.since_version if not layer.bodies else walk.graph.opsets.get(layer.domain, 1)
    imports = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
    found = shape_inference.infer_node_outputs(schema, node, types, data, opset_imports=imports)
    return [value_of_type("", found[name]) if name in found else None for name in node.output]


def _has_type(value: Value) -> bool:
    """Whether anything is known of the value: an object without type and shape may be anything."""
    return value.type is not None or value.dtype is not OBJECT or value.shape is not None


def _node(walk: Inference, layer: Layer) -> tuple[onnx.NodeProto, dict[str, Value]]:
    """The layer as a node, and its operands by the names used there."""
    if layer.bodies:
        model = layer_model(walk.graph, layer)
        return model.graph.node[0], dict(
            zip((i.name for i in model.graph.input), dict.fromkeys(layer.operands), strict=True)
        )
    names = {v: f"v{i}" for i, v in enumerate(dict.fromkeys(layer.operands))}
    schema = schema_of(layer.type, layer.version, layer.domain)
    kinds = {} if schema is None else {k: a.type.value for k, a in schema.attributes.items()}
    node = onnx.NodeProto(op_type=layer.type, domain=layer.domain, name=layer.name)
    node.input.extend(names[v] if v is not None else "" for v in layer.inputs)
    node.output.extend(f"o{i}" if v is not None else "" for i, v in enumerate(layer.outputs))
    node.attribute.extend(attribute_proto(k, v, kinds.get(k)) for k, v in layer.attrs.items())
    return node, {name: v for v, name in names.items()}


NUMBERS_AT = {"QuantizeLinear": 1, "DequantizeLinear": 1, "QLinearConv": 6, "QLinearMatMul": 6}
"""Where scale and zero point of the result stand among the inputs."""


def layer_qparams(layer: Layer) -> QParams | None:
    """Scale and zero point of what quantising layers make, and of what DequantizeLinear makes (which lies on that grid
    exactly), where they are constants."""
    if layer.type not in NUMBERS_AT or layer.domain or any(layer.attrs.get(k) for k in ("block_size", "precision")):
        return None
    source, first = layer.inputs[0], NUMBERS_AT[layer.type]
    scale, zero = (layer.inputs[i] if i < len(layer.inputs) else None for i in (first, first + 1))
    if source is None or scale is None or scale.data is None or (zero is not None and zero.data is None):
        return None
    kind = source.dtype
    if layer.type != "DequantizeLinear":
        kind = DType.from_onnx(layer.attrs.get("output_dtype") or TensorProto.UINT8)
    zeros = np.zeros(scale.data.shape, kind.numpy) if zero is None or zero.data is None else zero.data
    axis = layer.attrs.get("axis", 1) if scale.data.ndim else None
    return QParams(scale.data.astype(np.float32), zeros, axis, on_grid=layer.type == "DequantizeLinear")
