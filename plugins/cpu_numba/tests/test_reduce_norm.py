"""Reductions, softmax and normalisation against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from harness import check, node, random, target
from softneuro_cpu_numba.storage import stores_bfloat

REDUCTIONS = [
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
]


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("axes", [(2, 3), (1,), (-1,), (0, 2), (1, 3), None])
def test_reduce(op, axes):
    for keepdims in (0, 1):
        for shape in ((2, 3, 4, 17), (1, 8, 7, 7)):
            if op == "ReduceSum":
                constants = {} if axes is None else {"a": np.array(axes, np.int64)}
                made = node(op, "xa" if axes else "x", "y", keepdims=keepdims)
            else:
                constants, made = {}, node(op, "x", "y", keepdims=keepdims, **({"axes": axes} if axes else {}))
            check([made], {"x": random(*shape)}, constants, expect=[f"cpu/{op.lower()}"])


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [(1, 17, 7, 7), (2, 8, 1, 1), (1, 3, 33)])
def test_global_pool(op, shape):
    if op == "GlobalMaxPool" and len(shape) == 3:
        pytest.skip("onnx.reference returns another shape")
    made = check([node(op, "x", "y")], {"x": random(*shape)}, expect=[f"cpu/{op.lower()}"])
    specs = [(str(offer.inputs[0]), str(offer.outputs[0])) for _, offer in made]
    wide = [(f"cpu:float32:{layout}",) * 2 for layout in ("NCHW", "NHWC")]
    narrow = [("cpu:bfloat16:NHWC", f"cpu:float32:{layout}") for layout in ("NHWC", "NCHW")]
    assert specs == wide + narrow * stores_bfloat(target())


def test_reduce_max_propagates_nan():
    x = random(2, 17)
    x[0, 3] = np.nan
    check([node("ReduceMax", "x", "y", axes=[1])], {"x": x}, expect=["cpu/reducemax"])


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_softmax(op, axis):
    for shape in ((2, 3, 17), (1, 1001, 3, 300), (1, 8, 1)):
        check([node(op, "x", "y", axis=axis)], {"x": random(*shape) * 5}, expect=[f"cpu/{op.lower()}"])
    check([node(op, "x", "y", axis=1)], {"x": random(2, 3, 8)}, opset=11, expect=[f"cpu/{op.lower()}"])


def test_softmax_of_large_numbers():
    check([node("Softmax", "x", "y")], {"x": random(3, 9) * 1e4}, expect=["cpu/softmax"])


@pytest.mark.parametrize("shape, axis", [((2, 7, 384), -1), ((3, 17), 1), ((2, 3, 8), 1)])
def test_layer_norm(shape, axis):
    tail = shape[axis:]
    constants = {"s": random(*tail), "b": random(*tail, seed=1)}
    check(
        [node("LayerNormalization", "xsb", "y", axis=axis)],
        {"x": random(*shape) + 3},
        constants,
        expect=["cpu/layernormalization"],
    )
    check([node("LayerNormalization", "xs", "y", axis=axis)], {"x": random(*shape)}, {"s": constants["s"]})


@pytest.mark.parametrize("shape", [(2, 7, 384), (5, 3), (1, 17), (13, 8)])
def test_layer_norm_of_a_sum(shape):
    constants = {"s": random(shape[-1]), "b": random(shape[-1], seed=1)}
    nodes = [node("Add", "xr", "t"), node("LayerNormalization", "tsb", "y")]
    inputs = {"x": random(*shape) + 3, "r": random(*shape, seed=2)}
    check(nodes, inputs, constants, expect=["cpu/layernormalization"])
    check([node("Add", "xx", "t"), nodes[1]], {"x": inputs["x"]}, constants, expect=["cpu/layernormalization"])


@pytest.mark.parametrize("op", ["Softmax", "LayerNormalization"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_with_what_is_not_finite_leaves_the_others_alone(op, bad):
    x = random(6, 19)
    x[4, 18] = bad
    constants = {} if op == "Softmax" else {"s": random(19)}
    check([node(op, ["x", *constants], "y")], {"x": x}, constants, expect=[f"cpu/{op.lower()}"])


def test_instance_norm():
    for shape in ((1, 8, 3), (3, 8, 2, 9)):
        constants = {"s": random(8), "b": random(8, seed=1)}
        check([node("InstanceNormalization", "xsb", "y")], {"x": random(*shape)}, constants)
    constants = {"s": random(8), "b": random(8, seed=1)}
    check(
        [node("InstanceNormalization", "xsb", "y")],
        {"x": random(2, 8, 5, 7)},
        constants,
        expect=["cpu/instancenormalization"],
    )


@pytest.mark.parametrize("shape", [(2, 8, 5, 7), (3, 8), (1, 8, 17)])
def test_batch_norm(shape):
    constants = {n: random(8, seed=i) for i, n in enumerate("sbmv")}
    constants["v"] = np.abs(constants["v"]) + np.float32(0.1)
    check(
        [node("BatchNormalization", "xsbmv", "y")],
        {"x": random(*shape)},
        constants,
        opset=15,
        expect=["cpu/batch_norm"],
    )
