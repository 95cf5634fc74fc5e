"""From ONNX nodes to a Graph, for cases: no importer and no passes, so a kit failure is never theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from softneuro_core.errors import ModelError
from softneuro_core.graph import Dim, Graph, Layer, Value
from softneuro_core.operators import Operator
from softneuro_core.spec import OBJECT, DType

OPSET = 21


def build_graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, np.ndarray],
    constants: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    operators: Mapping[str, Operator] | None = None,
    opset: int = OPSET,
) -> Graph:
    """A Graph of these nodes, which stand in topological order; dtypes and shapes of inputs from their arrays.

    ``operators`` (by ``domain::name``) defines what is not ONNX's own. Raises :class:`ModelError` if the shape
    of a value cannot be inferred.
    """
    operators = operators or {}
    values = {n: Value(n, DType.from_numpy(a.dtype), a.shape) for n, a in inputs.items()}
    values |= {n: Value(n, DType.from_numpy(a.dtype), a.shape, a) for n, a in constants.items()}
    opsets = {"": opset} | {o.domain: o.version for o in operators.values()}
    functions = {(o.domain, o.name): o.function for o in operators.values() if o.function is not None}
    layers = []
    for i, node in enumerate(nodes):
        layer = _layer(node, f"{node.op_type}_{i}", values, opsets[node.domain], operators.get(_key(node)), functions)
        values.update({v.name: v for v in layer.results})
        layers.append(layer)
    made = [values[n] for n in outputs]
    graph_inputs = [values[n] for n in inputs]
    return Graph(tuple(layers), tuple(graph_inputs), tuple(made), "case", opsets, functions)


def _key(node: onnx.NodeProto) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def _layer(
    node: onnx.NodeProto,
    name: str,
    values: Mapping[str, Value],
    version: int,
    operator: Operator | None,
    functions: Mapping[tuple[str, str], onnx.FunctionProto],
) -> Layer:
    operands = tuple(values[n] if n else None for n in node.input)
    attrs = {a.name: _attribute(a) for a in node.attribute}
    drafts = tuple(Value(n, OBJECT, None) if n else None for n in node.output)
    draft = Layer(name, node.op_type, operands, drafts, attrs, node.domain, version)
    types: Sequence[tuple[DType, Sequence[Dim] | None]]
    if operator is not None and operator.shape_rule is not None:
        types = operator.shape_rule(draft)
    else:
        types = _infer(node, operands, version, functions)
    outputs = tuple(
        Value(n, dtype, None if shape is None else tuple(shape)) if n else None
        for n, (dtype, shape) in zip(node.output, types, strict=True)
    )
    return Layer(name, node.op_type, operands, outputs, attrs, node.domain, version)


def _attribute(attribute: onnx.AttributeProto) -> Any:
    """The Python value of an attribute: text as str, lists as tuples, tensors as arrays."""
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, (str, int, float)):
        return value
    return tuple(v.decode() if isinstance(v, bytes) else v for v in value)


def _infer(
    node: onnx.NodeProto,
    operands: Sequence[Value | None],
    version: int,
    functions: Mapping[tuple[str, str], onnx.FunctionProto],
) -> list[tuple[DType, tuple[int, ...]]]:
    """dtype and shape of each output, by ONNX's own inference (constants given as initialisers)."""
    present = {v.name: v for v in operands if v is not None}
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(v.name, v.dtype.onnx, v.static_shape) for v in present.values()],
        [onnx.ValueInfoProto(name=n) for n in node.output if n],
        [onnx.numpy_helper.from_array(v.data, v.name) for v in present.values() if v.data is not None],
    )
    opsets = [helper.make_opsetid("", version if not node.domain else OPSET)]
    if node.domain:
        opsets.append(helper.make_opsetid(node.domain, version))
    model = helper.make_model(graph, opset_imports=opsets, functions=list(functions.values()))
    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise ModelError(f"case {node.op_type}: {str(error).strip()}") from error
    known = {v.name: v.type.tensor_type for v in inferred.graph.output}
    return [_type_of(node, known[n]) if n else (DType.from_onnx(0), ()) for n in node.output]


def _type_of(node: onnx.NodeProto, tensor: onnx.TypeProto.Tensor) -> tuple[DType, tuple[int, ...]]:
    dims = tensor.shape.dim
    if not tensor.elem_type or not tensor.HasField("shape") or any(not d.HasField("dim_value") for d in dims):
        raise ModelError(f"case {node.op_type}: the shape of {list(node.output)} cannot be inferred")
    return DType.from_onnx(tensor.elem_type), tuple(d.dim_value for d in dims)
