"""Convolutions against the reference at awkward sizes."""

from __future__ import annotations

import numpy as np
import pytest
from harness import check, graph_of, node, offers_of, random, run_first, run_offer
from softneuro_cpu_numba.rows import lines_ahead

CASES = [
    # batch, in, out, size, kernel, attributes
    (1, 3, 8, (9, 9), (3, 3), {"pads": [1, 1, 1, 1]}),
    (1, 3, 16, (11, 8), (3, 3), {"pads": [0, 1, 2, 0], "strides": [2, 2]}),
    (2, 8, 17, (7, 7), (3, 3), {"pads": [1, 1, 1, 1]}),
    (1, 7, 24, (10, 12), (3, 3), {"dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    (1, 16, 16, (5, 5), (1, 1), {}),
    (2, 17, 8, (6, 7), (1, 1), {}),
    (1, 8, 32, (8, 8), (1, 1), {"strides": [2, 2]}),
    (1, 1, 1, (1, 1), (1, 1), {}),
    (1, 16, 7, (1, 1), (1, 1), {}),
    (1, 8, 12, (6, 6), (3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    (2, 6, 6, (6, 6), (3, 3), {"group": 3}),
    (1, 3, 5, (9, 9), (5, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 1]}),
    (1, 3, 5, (8, 9), (4, 4), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    (1, 3, 5, (8, 9), (3, 3), {"auto_pad": "VALID"}),
    (1, 4, 9, (20,), (5,), {"pads": [3, 1], "strides": [2]}),
    (2, 3, 4, (16,), (3,), {"dilations": [3]}),
    (1, 40, 40, (3, 3), (3, 3), {"pads": [1, 1, 1, 1]}),
    (1, 3, 8, (2, 2), (5, 5), {"pads": [4, 4, 4, 4]}),
]


@pytest.mark.parametrize("batch, cin, cout, size, kernel, attrs", CASES)
def test_conv(batch, cin, cout, size, kernel, attrs):
    groups = attrs.get("group", 1)
    constants = {"w": random(cout, cin // groups, *kernel), "b": random(cout, seed=1)}
    made = check(
        [node("Conv", "xwb", "y", **attrs)], {"x": random(batch, cin, *size)}, constants, expect=["cpu/conv_direct"]
    )
    layouts = {str(o.outputs[0].layout) for name, o in made if name == "cpu/conv_direct"}
    assert layouts == ({"NCHW", "NHWC"} if set(kernel) == {1} and "strides" not in attrs else {"NHWC"})


@pytest.mark.parametrize("kernel, routine", [(1, "cpu/conv_direct"), (3, "cpu/winograd")])
def test_weights_that_stream(kernel: int, routine: str) -> None:
    """Panels are asked for while those before them are used; that changes no result."""
    weights = random(1040, 512, 1, 1) if kernel == 1 else random(120, 144, 3, 3)
    nodes, x = [node("Conv", "xw", "y", pads=[kernel // 2] * 4)], random(1, weights.shape[1], 13, 14)
    check(nodes, {"x": x}, {"w": weights}, expect=[routine])
    assert lines_ahead((6, 4), 16, 182, 1040 * 512 * 4) == 1
    assert lines_ahead((6, 4), 16, 12, 1040 * 512 * 4) == 2
    assert not any(
        lines_ahead(*few) for few in [((6, 4), 16, 6, 1 << 30), ((6, 4), 16, 99, 1000), ((12, 2), 16, 99, 1 << 30)]
    )


@pytest.mark.parametrize("cout", range(1, 8))
@pytest.mark.parametrize("residual", [False, True])
def test_fewer_output_channels_than_lanes(cout, residual):
    nodes, inputs = [node("Conv", "xw", "c", pads=[1] * 4)], {"x": random(2, 5, 6, 7)}
    if residual:
        nodes += [node("Add", "cr", "y")]
        inputs["r"] = random(2, cout, 6, 7, seed=3)
    check(nodes, inputs, {"w": random(cout, 5, 3, 3)}, expect=["cpu/conv_direct"])


@pytest.mark.parametrize("cin", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("width, pads", [(40, [1, 1, 1, 1]), (33, [0, 3, 0, 0]), (7, [1, 0, 1, 2]), (3, [2, 2, 2, 2])])
def test_planes_are_interleaved(cin, width, pads):
    conv = node("Conv", "xw", "y", pads=pads, strides=[2, 1])
    made = check([conv], {"x": random(2, cin, 9, width)}, {"w": random(16, cin, 3, 3)}, expect=["cpu/conv_direct"])
    assert {str(o.inputs[0].layout) for _, o in made} >= ({"NHWC", "NCHW"} if cin <= 4 else {"NHWC"})


@pytest.mark.parametrize("tail", ["Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "none"])
@pytest.mark.parametrize("residual", [False, True])
def test_conv_epilogue(tail, residual):
    nodes = [node("Conv", "xw", "c", pads=[1, 1, 1, 1])]
    inputs = {"x": random(1, 5, 6, 7)}
    if residual:
        nodes.append(node("Add", ["c", "r"], "s"))
        inputs["r"] = random(1, 9, 6, 7, seed=3)
    if tail != "none":
        nodes.append(node(tail, ["s" if residual else "c"], "y"))
    check(nodes, inputs, {"w": random(9, 5, 3, 3)}, expect=["cpu/conv_direct"])


def test_conv_clip_bounds():
    check(
        [node("Conv", "xw", "c"), node("Clip", ["c", "lo", "hi"], "y")],
        {"x": random(1, 5, 6, 7)},
        {"w": random(9, 5, 3, 3), "lo": random(seed=1) * 0, "hi": random() * 0 + 1},
        expect=["cpu/conv_direct"],
    )


def test_conv_propagates_nan():
    x = random(1, 3, 6, 6)
    x[0, 1, 2, 3] = float("nan")
    check([node("Conv", "xw", "c"), node("Relu", "c", "y")], {"x": x}, {"w": random(4, 3, 3, 3)})


@pytest.mark.parametrize("size, cin, cout, groups", [((9, 8), 17, 7, 1), ((6, 6), 8, 12, 2)])
@pytest.mark.parametrize("kernel", [(3, 3), (1, 1)])
def test_im2col_and_blas(size, cin, cout, groups, kernel):
    constants = {"w": random(cout, cin * 4 // groups, *kernel), "b": random(cout, seed=1)}
    nodes = [node("Conv", "xwb", "c", group=groups), node("Add", "cr", "s"), node("Relu", "s", "y")]
    made = [n - k + 1 for n, k in zip(size, kernel, strict=True)]
    inputs = {"x": random(2, cin * 4, *size), "r": random(2, cout, *made, seed=2)}
    check(nodes, inputs, constants, expect=["cpu/conv_im2col"])


TRANSPOSED = [
    ((5, 6), (3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
    ((5, 6), (2, 2), {"strides": [2, 2]}),
    ((4, 4), (4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((4, 5), (3, 3), {"dilations": [2, 2]}),
    ((7,), (5,), {"strides": [3], "pads": [1, 2]}),
    ((4, 4), (3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((3, 5), (5, 2), {"strides": [2, 1], "pads": [4, 0, 1, 1]}),
    ((1, 1), (4, 4), {"strides": [4, 4]}),
]


@pytest.mark.parametrize("size, kernel, attrs", TRANSPOSED)
def test_conv_transpose(size, kernel, attrs):
    constants = {"w": random(4, 3, *kernel), "b": random(3, seed=1)}
    transposed = node("ConvTranspose", "xwb", "c", **attrs)
    made = check([transposed, node("Relu", "c", "y")], {"x": random(2, 4, *size)}, constants)
    layouts = {str(o.outputs[0].layout) for name, o in made if name == "cpu/conv_transpose"}
    assert layouts == ({"NCHW"} if "dilations" in attrs else {"NCHW", "NHWC"})


@pytest.mark.parametrize("size, kernel, attrs", TRANSPOSED)
def test_grouped_conv_transpose_is_two_ungrouped_ones(size, kernel, attrs):
    """onnx.reference cannot compute groups, so each half stands for itself."""
    x, w = random(2, 4, *size), random(4, 3, *kernel)
    grouped = graph_of([node("ConvTranspose", "xw", "y", group=2, **attrs)], {"x": x}, {"w": w})
    whole = run_first(grouped, [x])
    for routine, region, offer in offers_of(grouped):
        np.testing.assert_allclose(run_offer(routine, region, offer, [x]), whole, rtol=1e-5, atol=1e-5)
    for half in (slice(0, 2), slice(2, 4)):
        part = graph_of([node("ConvTranspose", "xw", "y", **attrs)], {"x": x[:, half]}, {"w": w[half]})
        channels = slice(0, 3) if half.start == 0 else slice(3, 6)
        np.testing.assert_array_equal(whole[:, channels], run_first(part, [x[:, half]]))
