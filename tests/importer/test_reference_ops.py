"""The operators put in place of onnx.reference's: equal to its own where that is right, right where it is not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from evaluate import model, run_graph
from onnx import helper
from onnx.reference import ReferenceEvaluator

from softneuro_core.builtin.reference import ReferenceRoutine
from softneuro_core.builtin.reference_ops import replacements
from softneuro_core.device import HostDevice, ObjectBuffer, Target
from softneuro_core.graph import Region
from softneuro_core.importer import load

RNG = np.random.default_rng(3)


def single(kind: str, *arrays: np.ndarray, opset: int, **attributes: object) -> onnx.ModelProto:
    """A model of one node on inputs of these shapes and types; its output has no declared shape."""
    names = [f"i{i}" for i in range(len(arrays))]
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in zip(names, arrays, strict=True)
    ]
    node = helper.make_node(kind, names, ["y"], **attributes)
    graph = helper.make_graph([node], "g", infos, [onnx.ValueInfoProto(name="y")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def ours(kind: str, *arrays: np.ndarray, opset: int, **attributes: object) -> np.ndarray:
    graph = load(single(kind, *arrays, opset=opset, **attributes), passes=False)
    return run_graph(graph, dict(zip((v.name for v in graph.inputs), arrays, strict=True)))["y"]


def theirs(kind: str, *arrays: np.ndarray, opset: int, **attributes: object) -> np.ndarray:
    proto = single(kind, *arrays, opset=opset, **attributes)
    feeds = dict(zip((i.name for i in proto.graph.input), arrays, strict=True))
    return ReferenceEvaluator(proto).run(None, feeds)[0]


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [3, 3], "strides": [2, 2]},
        {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
        {"kernel_shape": [2, 3], "dilations": [2, 2], "strides": [1, 2]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"kernel_shape": [2, 2]},
    ],
)
@pytest.mark.parametrize("shape", [(1, 2, 8, 9), (2, 3, 11, 7)])
def test_max_pool_is_onnx_own(attributes: dict[str, object], shape: tuple[int, ...]) -> None:
    x = RNG.standard_normal(shape).astype(np.float32)
    np.testing.assert_array_equal(
        ours("MaxPool", x, opset=13, **attributes), theirs("MaxPool", x, opset=13, **attributes)
    )


@pytest.mark.parametrize("groups, into, out_of", [(1, 3, 4), (2, 3, 2), (5, 1, 1), (3, 1, 2)])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"strides": [2, 1, 3], "pads": [1, 0, 2]},
        {"dilations": [2, 1, 2], "pads": [0, 1, 1]},
        {"strides": [2, 3, 2], "auto_pad": "SAME_UPPER"},
        {"strides": [1, 3, 2], "auto_pad": "SAME_LOWER"},
        {"auto_pad": "VALID"},
    ],
)
def test_conv_is_onnx_own(attributes: dict[str, object], rank: int, groups: int, into: int, out_of: int) -> None:
    x = RNG.standard_normal((2, groups * into, *(7, 9, 8)[:rank])).astype(np.float32)
    w = RNG.standard_normal((groups * out_of, into, *(3, 2, 3)[:rank])).astype(np.float32)
    bias = RNG.standard_normal(groups * out_of).astype(np.float32)
    given = {n: v[:rank] if isinstance(v, list) else v for n, v in attributes.items()} | {"group": groups}
    if "pads" in given:
        given["pads"] = [*attributes["pads"][:rank], *attributes["pads"][::-1][:rank]]  # type: ignore[index]
    for operands in ((x, w), (x, w, bias)):
        mine, its = (run("Conv", *operands, opset=13, **given) for run in (ours, theirs))
        np.testing.assert_allclose(mine, its, rtol=1e-5, atol=1e-5)


def test_max_pool_of_integers_and_other_ranks() -> None:
    x = RNG.integers(-128, 128, (1, 2, 7)).astype(np.int8)
    y = ours("MaxPool", x, opset=13, kernel_shape=[3], pads=[1, 1])
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1)), constant_values=-128)
    np.testing.assert_array_equal(y, np.stack([padded[..., i : i + 7] for i in range(3)]).max(0))
    z = RNG.standard_normal((1, 1, 4, 5, 6)).astype(np.float32)
    np.testing.assert_array_equal(
        ours("MaxPool", z, opset=13, kernel_shape=[2, 2, 2]), theirs("MaxPool", z, opset=13, kernel_shape=[2, 2, 2])
    )


@pytest.mark.parametrize("kind", ["Conv", "MatMul"])
def test_half_precision_products_round_once(kind: str) -> None:
    shapes = ((1, 16, 9, 9), (8, 16, 3, 3)) if kind == "Conv" else ((5, 200), (200, 7))
    a, b = (RNG.standard_normal(s).astype(np.float16) for s in shapes)
    exact = theirs(kind, a.astype(np.float64), b.astype(np.float64), opset=13)
    found = ours(kind, a, b, opset=13)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, exact, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"strides": [2, 3]},
        {"strides": [2, 2], "pads": [1, 0, 1, 1], "output_padding": [1, 1]},
        {"dilations": [2, 1], "strides": [1, 2]},
        {"strides": [2, 2], "output_shape": [9, 9]},
    ],
)
def test_conv_transpose_of_groups_is_that_of_its_parts(attributes: dict[str, object]) -> None:
    x = RNG.standard_normal((2, 6, 4, 4)).astype(np.float32)
    w = RNG.standard_normal((6, 2, 3, 3)).astype(np.float32)
    parts = [theirs("ConvTranspose", x[:, i : i + 3], w[i : i + 3], opset=13, **attributes) for i in (0, 3)]
    found = ours("ConvTranspose", x, w, opset=13, group=2, **attributes)
    np.testing.assert_allclose(found, np.concatenate(parts, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
def test_softmax_before_opset_13_counts_as_a_matrix(kind: str, axis: int | None) -> None:
    x = RNG.standard_normal((2, 3, 4)).astype(np.float32)
    split = 1 if axis is None else axis % 3
    flat = x.reshape(int(np.prod(x.shape[:split])), -1)
    wanted = theirs(kind, flat, opset=13, axis=1).reshape(x.shape)
    found = ours(kind, x, opset=11, **({} if axis is None else {"axis": axis}))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_batch_normalization_of_opset_9_uses_the_stored_statistics() -> None:
    x = RNG.standard_normal((2, 3, 4)).astype(np.float32)
    s, b, m, v = (RNG.uniform(0.5, 2, 3).astype(np.float32) for _ in range(4))
    wanted = theirs("BatchNormalization", x, s, b, m, v, opset=15)
    for opset in (7, 9):
        np.testing.assert_allclose(ours("BatchNormalization", x, s, b, m, v, opset=opset), wanted, rtol=1e-5)


def test_quantise_saturates_what_is_far_outside() -> None:
    x = np.array([-1e30, -3e9, -1, 0, 2.5, 3e9, 1e30, np.inf, -np.inf], np.float32)
    for opset in (10, 13, 19, 21, 23, 25):
        y = ours("QuantizeLinear", x, np.array(0.5, np.float32), np.array(10, np.uint8), opset=opset)
        assert y.tolist() == [0, 0, 8, 10, 15, 255, 255, 255, 0], opset


def test_dequantise_of_opset_10() -> None:
    x = np.array([[1, 255], [7, 0]], np.uint8)
    y = ours("DequantizeLinear", x, np.array(0.5, np.float32), np.array(3, np.uint8), opset=10)
    assert y.tolist() == [[-1, 126], [2, -1.5]]


def test_broadcasting_of_opset_6() -> None:
    x, c = np.ones((2, 3, 4), np.float32), np.arange(3, dtype=np.float32)
    assert ours("Add", x, c, opset=6, broadcast=1, axis=1)[0, :, 0].tolist() == [1, 2, 3]


def test_linear_upsampling_of_opset_9() -> None:
    x = np.array([[[[0, 4]]]], np.float32)
    text = (
        'g (float[1,1,1,2] x) => (float[1,1,1,4] y) <float[4] s = {1,1,1,2}> { y = Upsample <mode = "linear"> (x, s) }'
    )
    assert run_graph(load(model(text, opset=9)), {"x": x})["y"].tolist() == [[[[0, 2, 4, 4]]]]


def test_resize_of_opset_10() -> None:
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    y = ours("Resize", x, np.array([1, 1, 2, 1.5], np.float32), opset=10)
    assert y[0, 0].tolist() == [[0, 0, 1], [0, 0, 1], [2, 2, 3], [2, 2, 3]]


def test_clip_dropout_and_reshape_of_opset_1() -> None:
    x = np.array([-2, 0, 3], np.float32)
    assert ours("Clip", x, opset=1, min=-1.0, max=2.0).tolist() == [-1, 0, 2]
    assert ours("Dropout", x, opset=1, is_test=1).tolist() == x.tolist()
    assert ours("Reshape", x, opset=1, shape=[3, 1]).shape == (3, 1)


def test_each_operator_has_one_replacement_at_every_opset() -> None:
    for version in range(1, onnx.defs.onnx_opset_version() + 1):
        names = [cls.__name__ for cls in replacements({"": version})]
        assert len(names) == len(set(names)), version


def test_unknown_old_versions_are_all_computed() -> None:
    """Every ONNX operator at every version it was defined at has an implementation, but for those named."""
    missing = set()
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain or schema.deprecated or schema.has_function or schema.has_context_dependent_function:
            continue
        if schema.name in {cls.__name__ for cls in replacements({"": schema.since_version})}:
            continue
        try:
            onnx.reference.ops.load_op("", schema.name, schema.since_version)
        except (RuntimeError, NotImplementedError):
            missing.add(schema.name)
    assert not missing


def test_operators_onnx_reference_does_not_have() -> None:
    x = RNG.standard_normal((2, 3, 6, 6)).astype(np.float32)
    np.testing.assert_allclose(
        ours("GlobalLpPool", x, opset=13, p=3)[..., 0, 0], (abs(x) ** 3).sum((2, 3)) ** (1 / 3), rtol=1e-5
    )
    rois = np.array([[1, 0, 0, 5, 5], [0, 2, 1, 3, 4]], np.float32)
    pooled = ours("MaxRoiPool", x, rois, opset=13, pooled_shape=[2, 2])
    np.testing.assert_array_equal(pooled[0], x[1].reshape(3, 2, 3, 2, 3).max((2, 4)))
    np.testing.assert_array_equal(pooled[1], x[0, :, 1:5, 2:4].reshape(3, 2, 2, 2).max(2))
    odds = np.log(np.array([[0.2, 0.5, 0.3]], np.float32))
    drawn = ours("Multinomial", odds, opset=13, sample_size=20000, seed=1.0)
    np.testing.assert_allclose(np.bincount(drawn[0]) / 20000, [0.2, 0.5, 0.3], atol=0.02)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_elements_of_more_than_toy_size(axis: int) -> None:
    data = RNG.standard_normal((100, 130)).astype(np.float32)
    indices = RNG.integers(-100, 100, (90, 120))
    found = ours("GatherElements", data, indices, opset=13, axis=axis)
    rows, columns = np.indices(indices.shape)
    wanted = data[indices, columns] if axis == 0 else data[rows, indices]
    np.testing.assert_array_equal(found, wanted)


def test_a_host_object_does_not_share_the_arena() -> None:
    """A sequence outlives the buffer its elements came from, which the next step overwrites."""
    graph = load(model("g (float[3] x) => (seq(float[3]) y) { y = SequenceConstruct(x) }"))
    device = HostDevice()
    routine, target = ReferenceRoutine(), Target(device, 1, device.isa)
    region = Region(graph, graph.layers)
    (offer,) = routine.offers(region, target)
    source, result = device.buffer(device.alloc(64), 0, (3,), np.dtype(np.float32)), ObjectBuffer()
    call = routine.prepare(region, offer, target).bind([source], [result], None)
    source.array[:] = 1
    call.run()
    source.array[:] = 2
    assert [a.tolist() for a in result.value] == [[1, 1, 1]]
