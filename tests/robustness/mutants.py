"""Mutants of real model files, by seed: damaged bytes, and damaged meaning. Imports nothing of SoftNeuro."""

from __future__ import annotations

import random
from collections.abc import Callable

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, TensorProto, helper

EXTREMES = (0, 1, -1, 2, 7, -7, 255, 2**31 - 1, -(2**31), 2**62, -(2**62))
FLOATS = (0.0, -1.0, 1e38, float("inf"), float("-inf"), float("nan"))
OPERATORS = (
    *("Conv", "Relu", "Add", "MatMul", "Gemm", "Reshape", "Transpose", "Concat", "Split", "Slice", "Gather", "Pad"),
    *("Resize", "MaxPool", "AveragePool", "Softmax", "ReduceMean", "LSTM", "If", "Loop", "Tile", "Expand", "Range"),
    *("ConstantOfShape", "NonZero", "TopK", "OneHot", "Einsum", "QuantizeLinear", "Cast", "Clip", "NotAnOperator"),
)


def mutant(source: bytes, seed: int) -> bytes:
    """The ``seed``-th mutant of a model file: one to three mutations."""
    rng = random.Random(seed)
    made = source
    for _ in range(rng.randint(1, 3)):
        made = _damage_bytes(made, rng) if rng.random() < 0.25 else _damage_meaning(made, rng)
    return made


def _damage_bytes(source: bytes, rng: random.Random) -> bytes:
    data = bytearray(source)
    if not data:
        return source
    at = rng.randrange(min(len(data), 20_000))  # structure stands in front of and between the weights
    kind = rng.randrange(5)
    if kind == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[at : at + rng.randint(1, 40)]
    elif kind == 2:
        data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 20)))
    elif kind == 3:
        del data[at:]
    else:
        data[at : at + 8] = data[rng.randrange(len(data)) :][:8]
    return bytes(data)


def _damage_meaning(source: bytes, rng: random.Random) -> bytes:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(source)
    except DecodeError:
        return _damage_bytes(source, rng)
    if not model.graph.node:
        return _damage_bytes(source, rng)
    rng.choice(MUTATIONS)(model, rng)
    return model.SerializeToString()


def _node(model: onnx.ModelProto, rng: random.Random) -> onnx.NodeProto:
    return rng.choice(model.graph.node)


def _other_operator(model: onnx.ModelProto, rng: random.Random) -> None:
    _node(model, rng).op_type = rng.choice(OPERATORS)


def _other_domain(model: onnx.ModelProto, rng: random.Random) -> None:
    _node(model, rng).domain = rng.choice(["", "com.microsoft", "ai.onnx.ml", "nowhere"])


def _other_operand(model: onnx.ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    names = [n for other in model.graph.node for n in (*other.input, *other.output)] + ["", "no such value"]
    side = node.input if rng.random() < 0.7 else node.output
    if side and rng.random() < 0.6:
        side[rng.randrange(len(side))] = rng.choice(names)
    elif side and rng.random() < 0.5:
        del side[rng.randrange(len(side))]
    else:
        side.append(rng.choice(names))


def _other_attribute(model: onnx.ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    if not node.attribute:
        node.attribute.append(helper.make_attribute(rng.choice(["axis", "pads", "mode", "to"]), rng.choice(EXTREMES)))
        return
    attribute = rng.choice(node.attribute)
    if attribute.type == AttributeProto.INTS and attribute.ints and rng.random() < 0.7:
        attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(EXTREMES)
    elif attribute.type == AttributeProto.INTS:
        attribute.ints.append(rng.choice(EXTREMES))
    elif attribute.type == AttributeProto.INT:
        attribute.i = rng.choice(EXTREMES)
    elif attribute.type == AttributeProto.FLOAT:
        attribute.f = rng.choice(FLOATS)
    elif attribute.type == AttributeProto.STRING:
        attribute.s = rng.choice([b"", b"SAME_UPPER", b"\xff\xfe", b"linear"])
    elif rng.random() < 0.5:
        attribute.type = rng.choice([AttributeProto.INT, AttributeProto.TENSOR, AttributeProto.GRAPH])
    else:
        node.attribute.remove(attribute)


def _other_constant(model: onnx.ModelProto, rng: random.Random) -> None:
    if not model.graph.initializer:
        return
    constant = rng.choice(model.graph.initializer)
    kind = rng.randrange(4)
    if kind == 0 and constant.dims:
        constant.dims[rng.randrange(len(constant.dims))] = rng.choice(EXTREMES)
    elif kind == 1:
        constant.data_type = rng.choice([0, TensorProto.INT64, TensorProto.STRING, TensorProto.FLOAT16, 99])
    elif kind == 2:
        constant.raw_data = constant.raw_data[: rng.randrange(len(constant.raw_data) + 1)]
    else:
        constant.name = rng.choice(["", "renamed", model.graph.node[0].output[0] if model.graph.node[0].output else ""])


def _other_input(model: onnx.ModelProto, rng: random.Random) -> None:
    if not model.graph.input:
        return
    tensor = rng.choice(model.graph.input).type.tensor_type
    if tensor.shape.dim and rng.random() < 0.7:
        rng.choice(tensor.shape.dim).dim_value = rng.choice(EXTREMES)
    elif rng.random() < 0.5:
        tensor.elem_type = rng.choice([0, TensorProto.STRING, TensorProto.INT64, TensorProto.DOUBLE, 77])
    else:
        tensor.ClearField("shape")


def _other_opset(model: onnx.ModelProto, rng: random.Random) -> None:
    if model.opset_import and rng.random() < 0.8:
        model.opset_import[0].version = rng.choice([0, 1, 5, 6, 9, 10, 13, 18, 22, 99, -3])
    else:
        del model.opset_import[:]


def _other_order(model: onnx.ModelProto, rng: random.Random) -> None:
    nodes = list(model.graph.node)
    rng.shuffle(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _cycle(model: onnx.ModelProto, rng: random.Random) -> None:
    first, last = model.graph.node[0], model.graph.node[-1]
    if first.input and last.output:
        first.input[0] = last.output[0]


MUTATIONS: tuple[Callable[[onnx.ModelProto, random.Random], None], ...] = (
    *(_other_operator, _other_domain, _other_operand, _other_operand, _other_attribute, _other_attribute),
    *(_other_constant, _other_constant, _other_input, _other_opset, _other_order, _cycle),
)
