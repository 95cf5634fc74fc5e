"""Several layers at once: what routines for regions, and the fusing passes, are for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from onnx import NodeProto, helper

from softneuro_core.testing.case import Case, Const, Operand, chain, normal, uniform
from softneuro_core.testing.cases.pointwise import SWISH_OPSET

X, W, B = (1, 8, 9, 7), (17, 8, 3, 3), (17,)
node = helper.make_node


def cases() -> Iterator[Case]:
    yield from _after_conv()
    yield from _residual()
    yield from _inverted_residual()
    yield from _after_matmul()
    yield from _pointwise()


ACTIVATIONS: dict[str, tuple[Sequence[NodeProto], dict[str, Operand]]] = {
    "relu": ((node("Relu", ["c"], ["y"]),), {}),
    "clip": ((node("Clip", ["c", "low", "high"], ["y"]),), {"low": Const(np.float32(0)), "high": Const(np.float32(6))}),
    "leakyrelu": ((node("LeakyRelu", ["c"], ["y"], alpha=0.1),), {}),
    "prelu": ((node("PRelu", ["c", "slope"], ["y"]),), {"slope": Const(uniform(0.05, 0.5, 17, 1, 1))}),
    "sigmoid": ((node("Sigmoid", ["c"], ["y"]),), {}),
    "tanh": ((node("Tanh", ["c"], ["y"]),), {}),
    "hardsigmoid": ((node("HardSigmoid", ["c"], ["y"]),), {}),
    "hardswish": ((node("HardSwish", ["c"], ["y"]),), {}),
    "gelu": ((node("Gelu", ["c"], ["y"]),), {}),
    "silu": ((node("Sigmoid", ["c"], ["s"]), node("Mul", ["c", "s"], ["y"])), {}),
}


def _after_conv() -> Iterator[Case]:
    weights = {"w": Const(normal(*W, seed=1)), "b": Const(normal(*B, seed=2))}
    conv = node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1])
    for name, (tail, more) in ACTIVATIONS.items():
        yield chain(f"conv-{name}", [conv, *tail], x=normal(*X), **weights, **more)
    swish = [conv, node("Swish", ["c"], ["y"])]
    yield chain("conv-swish", swish, x=normal(*X), **weights).at_opset(SWISH_OPSET)
    strided = node("Conv", ["x", "w", "b"], ["c"], pads=[0, 1, 2, 1], strides=[2, 1])
    relu = node("Relu", ["c"], ["y"])
    yield chain("conv-relu-pad-asymmetric-batch2", [strided, relu], x=normal(2, 8, 9, 7), **weights)
    half = {n: Const(c.array.astype(np.float16)) for n, c in weights.items()}
    yield chain("conv-relu-float16", [conv, relu], x=normal(*X, dtype="float16"), **half)
    plain = node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1])
    yield chain("conv-relu-nobias", [plain, relu], x=normal(*X), w=weights["w"])
    depthwise = node("Conv", ["x", "w"], ["c"], group=17, pads=[1, 1, 1, 1])
    yield chain("conv-depthwise-relu", [depthwise, relu], x=normal(1, 17, 9, 7), w=Const(normal(17, 1, 3, 3, seed=1)))
    stats = {n: Const(normal(17, seed=i)) for i, n in enumerate(("scale", "shift", "mean"))}
    batchnorm = node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"])
    stats["var"] = Const(uniform(0.1, 2, 17))
    tail = [batchnorm, node("Relu", ["n"], ["y"])]
    yield chain("conv-batchnorm-relu", [conv, *tail], x=normal(*X), **weights, **stats)
    pool = node("MaxPool", ["r"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    yield chain("conv-relu-maxpool", [conv, node("Relu", ["c"], ["r"]), pool], x=normal(*X), **weights)
    pad = node("Pad", ["x", "pads"], ["p"])
    valid = node("Conv", ["p", "w", "b"], ["y"])
    pads = Const(np.array([0, 0, 0, 1, 0, 0, 2, 1]))
    yield chain("pad-conv", [pad, valid], x=normal(*X), pads=pads, **weights)
    big = {"w": Const(normal(32, 32, 3, 3, seed=1)), "b": Const(normal(32, seed=2))}
    yield chain("conv-relu-big", [conv, relu], x=normal(1, 32, 28, 28), **big)


def _residual() -> Iterator[Case]:
    operands: dict[str, Operand] = {"x": normal(*X), "w": Const(normal(*W, seed=1)), "b": Const(normal(*B, seed=2))}
    operands["r"] = normal(1, 17, 9, 7, seed=3)
    conv = node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1])
    for order, reads in (("", ["c", "r"]), ("-first", ["r", "c"])):
        yield chain(f"conv-add{order}", [conv, node("Add", reads, ["y"])], **operands)
        tail = [node("Add", reads, ["a"]), node("Relu", ["a"], ["y"])]
        yield chain(f"conv-add-relu{order}", [conv, *tail], **operands)
    row = {**operands, "r": normal(1, 17, 1, 1, seed=3)}
    yield chain("conv-add-broadcast", [conv, node("Add", ["c", "r"], ["y"])], **row)
    own = {"x": normal(1, 8, 9, 7), "w": Const(normal(8, 8, 3, 3, seed=1)), "b": Const(normal(8, seed=2))}
    same = [conv, node("Add", ["c", "x"], ["a"]), node("Relu", ["a"], ["y"])]
    yield chain("conv-add-own-input-relu", same, **own)


def _inverted_residual() -> Iterator[Case]:
    """Sandler et al., CVPR 2018: 1x1, depthwise, 1x1; squeeze-and-excite (Hu et al., CVPR 2018) before the last."""
    expand, slide = node("Conv", ["x", "w", "b"], ["c"]), node("Conv", ["r", "d"], ["s"], group=17, pads=[1, 1, 1, 1])
    weights = {"w": Const(normal(17, 8, 1, 1, seed=1)), "b": Const(normal(*B, seed=2))}
    window = Const(normal(17, 1, 3, 3, seed=3))
    pair = [expand, node("Relu", ["c"], ["r"]), slide, node("Relu", ["s"], ["y"])]
    yield chain("conv-depthwise", pair, x=normal(*X), **weights, d=window)
    halved = node("Conv", ["c", "d"], ["y"], group=17, strides=[2, 2], pads=[1, 1, 1, 1])
    plain = [node("Conv", ["x", "w"], ["c"]), halved]
    yield chain("conv-depthwise-plain", plain, x=normal(2, 8, 9, 7), w=weights["w"], d=window)
    scaled = [node("Mul", ["x", "e"], ["m"]), node("Conv", ["m", "w", "b"], ["c"])]
    operands = {"x": normal(*X), "e": uniform(0.05, 1, 1, 8, 1, 1), **weights}
    yield chain("conv-scaled", [*scaled, node("Relu", ["c"], ["y"])], **operands)
    added = [*scaled, node("Add", ["c", "z"], ["y"])]
    yield chain("conv-scaled-add", added, **operands, z=normal(1, 17, 9, 7, seed=5))


def _after_matmul() -> Iterator[Case]:
    matmul, add = node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["c"])
    operands = {"x": normal(2, 5, 8), "w": Const(normal(8, 17, seed=1)), "b": Const(normal(17, seed=2))}
    yield chain("matmul-add", [matmul, add], **operands)
    for name, (tail, more) in ACTIVATIONS.items():
        if name != "prelu":
            yield chain(f"matmul-add-{name}", [matmul, add, *tail], **operands, **more)
    gemm = node("Gemm", ["x", "w", "b"], ["c"])
    flat = {**operands, "x": normal(5, 8)}
    for name in ("relu", "clip", "sigmoid"):
        tail, more = ACTIVATIONS[name]
        yield chain(f"gemm-{name}", [gemm, *tail], **flat, **more)
    half, one, root = (Const(np.float32(v)) for v in (0.5, 1.0, 2**0.5))
    gelu = [
        node("Div", ["c", "root"], ["d"]),
        node("Erf", ["d"], ["e"]),
        node("Add", ["e", "one"], ["f"]),
        node("Mul", ["c", "f"], ["g"]),
        node("Mul", ["g", "half"], ["y"]),
    ]
    yield chain("matmul-add-gelu-spelled-out", [matmul, add, *gelu], **operands, half=half, one=one, root=root)


def _pointwise() -> Iterator[Case]:
    a, b = normal(2, 17, 5, 3), normal(2, 17, 5, 3, seed=1)
    yield chain("add-relu", [node("Add", ["a", "b"], ["c"]), node("Relu", ["c"], ["y"])], a=a, b=b)
    scale, shift = Const(normal(17, 1, 1)), Const(normal(17, 1, 1, seed=1))
    affine = [node("Mul", ["a", "scale"], ["m"]), node("Add", ["m", "shift"], ["y"])]
    yield chain("mul-add", affine, a=a, scale=scale, shift=shift)
    yield chain(
        "mul-add-relu",
        [affine[0], node("Add", ["m", "shift"], ["c"]), node("Relu", ["c"], ["y"])],
        a=a,
        scale=scale,
        shift=shift,
    )
    silu = [node("Sigmoid", ["a"], ["s"]), node("Mul", ["a", "s"], ["y"])]
    yield chain("silu", silu, a=a)
    yield chain("silu-big", silu, a=normal(4, 16, 17, 33))
