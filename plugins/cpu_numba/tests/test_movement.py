"""Copies of every kind against the reference, and the adapters."""

from __future__ import annotations

import numpy as np
import pytest
from harness import DEVICE, check, graph_of, node, random, target
from softneuro_cpu_numba.adapters import CastBfloat, ToOtherLayout

from softneuro_core.device import Target
from softneuro_core.graph import Value
from softneuro_core.rig import Rig
from softneuro_core.spec import BFLOAT16, FLOAT32, DType, TensorSpec


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "float16"])
def test_transpose(dtype):
    for shape, perm in [
        ((2, 3, 4, 5), (0, 2, 3, 1)),
        ((1, 17, 9, 8), (0, 3, 1, 2)),
        ((3, 16), (1, 0)),
        ((2, 2, 24, 5, 5), (0, 2, 1, 3, 4)),
    ]:
        check([node("Transpose", "x", "y", perm=perm)], {"x": random(*shape, dtype=dtype)}, expect=["cpu/transpose"])


def test_transpose_to_the_other_layout_is_free():
    made = check([node("Transpose", "x", "y", perm=(0, 3, 1, 2))], {"x": random(1, 6, 7, 3)})
    free = [o for _, o in made if o.inplace == 0]
    assert [(str(o.inputs[0].layout), str(o.outputs[0].layout)) for o in free] == [("NCHW", "NHWC")]


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_concat(axis):
    shapes = [[2, 3, 4, 5] for _ in range(3)]
    for i, shape in enumerate(shapes):
        shape[axis] = 2 + 3 * i
    inputs = {n: random(*s, seed=i) for i, (n, s) in enumerate(zip("abc", shapes, strict=True))}
    check([node("Concat", "abc", "y", axis=axis)], inputs, expect=["cpu/concat"])
    constants = {"b": inputs.pop("b")}
    check([node("Concat", "abc", "y", axis=axis)], inputs, constants, expect=["cpu/concat"])


def test_concat_of_one_value_twice():
    check([node("Concat", "aa", "y", axis=1)], {"a": random(1, 3, 8)}, expect=["cpu/concat"])


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_split(axis):
    x = random(2, 8, 8, 8)
    check([node("Split", "xs", "abc", axis=axis)], {"x": x}, {"s": ints(1, 4, 3)}, expect=["cpu/split"])
    check([node("Split", "x", "ab", axis=axis)], {"x": x}, opset=11, expect=["cpu/split"])


@pytest.mark.parametrize(
    "starts, ends, axes, steps",
    [
        ((1,), (3,), (1,), (1,)),
        ((0, 1), (9, -1), (2, 3), (2, 1)),
        ((-1,), (-99,), (2,), (-2,)),
        ((0,), (2**62,), (3,), (3,)),
    ],
)
def test_slice(starts, ends, axes, steps):
    constants = {n: ints(*v) for n, v in zip("seat", (starts, ends, axes, steps), strict=True)}
    check([node("Slice", "xseat", "y")], {"x": random(2, 5, 6, 7)}, constants, expect=["cpu/slice"])


@pytest.mark.parametrize("pads", [(0, 0, 1, 2, 0, 0, 3, 0), (1, 2, 3, 4, 4, 3, 2, 1), (0, 0, 0, 0, 0, 0, 0, 1)])
def test_pad(pads):
    constants = {"p": ints(*pads), "v": np.float32(1.5).reshape(())}
    check([node("Pad", "xpv", "y")], {"x": random(1, 3, 4, 5)}, constants, expect=["cpu/pad"])


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
@pytest.mark.parametrize("pads", [(0, 0, 1, 2, 0, 0, 3, 0), (0, 0, 0, 2, 0, 0, 0, 4)])
def test_pad_from_the_source(mode, pads):
    pad = node("Pad", "xp", "y", mode=mode)
    check([pad], {"x": random(1, 3, 4, 5)}, {"p": ints(*pads)}, opset=19, expect=["cpu/pad"])


def test_reshape_family():
    x = {"x": random(2, 3, 4, 5)}
    check([node("Reshape", "xs", "y")], x, {"s": ints(2, 12, 5)}, expect=["cpu/reshape"])
    check([node("Reshape", "xs", "y")], x, {"s": ints(120)}, expect=["cpu/reshape"])
    check([node("Flatten", "x", "y")], x, expect=["cpu/flatten"])
    check([node("Squeeze", "xa", "y")], {"x": random(1, 3, 1, 5)}, {"a": ints(0, 2)}, expect=["cpu/squeeze"])
    check([node("Unsqueeze", "xa", "y")], {"x": random(3, 5)}, {"a": ints(0, 3)}, expect=["cpu/unsqueeze"])


def test_expand():
    check([node("Expand", "xs", "y")], {"x": random(3, 1)}, {"s": ints(2, 3, 17)}, expect=["cpu/expand"])


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode):
    x = {"x": random(2, 12, 3, 5)}
    check([node("DepthToSpace", "x", "y", blocksize=2, mode=mode)], x, expect=["cpu/depthtospace"])
    check([node("SpaceToDepth", "x", "y", blocksize=2)], {"x": random(2, 3, 6, 4)}, expect=["cpu/spacetodepth"])


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int64", "bfloat16"])
@pytest.mark.parametrize(
    "shape", [(1, 3, 8, 8), (2, 17, 5, 9), (1, 32, 7), (1, 16, 56, 56), (2, 8, 2, 3, 4), (1, 1, 1, 1)]
)
def test_layout_adapter_round_trip(shape, dtype):
    kind = DType.parse(dtype)
    value = Value("x", kind, shape)
    plain, last = TensorSpec("cpu", kind), TensorSpec.parse(f"cpu:{dtype}:NHWC")
    x = random(*shape, dtype="float32").astype(kind.numpy)
    adapter = ToOtherLayout()
    for src, dst in ((plain, last), (last, plain)):
        assert adapter.accepts(src, dst, value)
        kernel = adapter.prepare(src, dst, value, target())
        rig = Rig(kernel, [(value, src)], [(value, dst)], {"cpu": DEVICE}, routine_device="cpu")
        rig.load([x])
        rig.run()
        assert rig.zones_intact() is None
        np.testing.assert_array_equal(rig.outputs()[0], x)


def test_layout_adapter_declines_matrices():
    value = graph_of([node("Relu", "x", "y")], {"x": random(3, 4)}).inputs[0]
    assert not ToOtherLayout().accepts(TensorSpec.parse("cpu:float32"), TensorSpec.parse("cpu:float32:NHWC"), value)


@pytest.mark.parametrize("shape", [(), (5,), (3, 100), (1, 3, 8, 8), (2, 17, 50, 33)])
@pytest.mark.parametrize("features", [DEVICE.isa, "SSE2"])
def test_bfloat16_adapter_rounds_as_ml_dtypes_does(shape, features):
    """Half to even, NaN and infinities kept; widening is exact."""
    value, wide, narrow = Value("x", FLOAT32, shape), TensorSpec("cpu", FLOAT32), TensorSpec("cpu", BFLOAT16)
    x = random(*shape)
    flat = x.reshape(-1)
    odd = np.array([0x3F808000, 0x3F818000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F7FFFFF, 0x80000000], np.uint32)
    flat[: odd.size] = odd.view(np.float32)[: flat.size]
    held = x.astype(BFLOAT16.numpy)
    for src, dst, wanted in ((wide, narrow, held), (narrow, wide, held.astype(np.float32))):
        kernel = CastBfloat().prepare(src, dst, value, Target(DEVICE, 1, features))
        rig = Rig(kernel, [(value, src)], [(value, dst)], {"cpu": DEVICE}, routine_device="cpu")
        rig.load([x])
        rig.run()
        assert rig.zones_intact() is None
        np.testing.assert_array_equal(rig.outputs()[0].astype(np.float32), wanted.astype(np.float32))


def test_bfloat16_adapter_declines_other_types():
    adapter, value = CastBfloat(), Value("x", FLOAT32, (1, 3, 4, 4))
    assert not adapter.accepts(TensorSpec.parse("cpu:float32"), TensorSpec.parse("cpu:float16"), value)
    assert not adapter.accepts(TensorSpec.parse("cpu:float32"), TensorSpec.parse("cpu:bfloat16:NHWC"), value)
