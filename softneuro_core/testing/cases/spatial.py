"""Operators with windows and images: convolution, pooling, normalisation over channels, resizing, padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from softneuro_core.testing.case import Case, Const, normal, single, uniform


def conv(
    name: str,
    shape: Sequence[int],
    filters: int,
    kernel: Sequence[int],
    *,
    group: int = 1,
    bias: bool = True,
    dtype: str = "float32",
    op: str = "Conv",
    **attrs: Any,
) -> Case:
    """Conv or ConvTranspose with constant weights; x (N, C, ...), ``filters`` output channels in all."""
    channels = shape[1]
    ends = (filters, channels // group) if op == "Conv" else (channels, filters // group)
    w = normal(*ends, *kernel, dtype=dtype, seed=1)
    b = Const(normal(filters, dtype=dtype, seed=2)) if bias else None
    return single(name, op, normal(*shape, dtype=dtype), Const(w), b, group=group, **attrs)


def cases() -> Iterator[Case]:
    yield from _conv()
    yield from _conv_shapes()
    yield from _conv_transpose()
    yield from _pools()
    yield from _norms()
    yield from _images()


def _conv() -> Iterator[Case]:
    for c, m in ((1, 17), (3, 8), (7, 1), (8, 16), (16, 7), (17, 3), (17, 17)):
        yield conv(f"conv-c{c}-m{m}", (1, c, 9, 7), m, (3, 3), pads=[1, 1, 1, 1])
        yield conv(f"conv-k1-c{c}-m{m}", (1, c, 5, 7), m, (1, 1))
    x = (1, 8, 9, 11)
    yield conv("conv-nobias", x, 8, (3, 3), bias=False)
    yield conv("conv-stride2", x, 16, (3, 3), pads=[1, 1, 1, 1], strides=[2, 2])
    yield conv("conv-stride2x1", x, 7, (3, 3), pads=[1, 1, 1, 1], strides=[2, 1])
    yield conv("conv-stride3-k2", x, 8, (2, 2), strides=[3, 3])
    yield conv("conv-k1-stride2", x, 17, (1, 1), strides=[2, 2])
    yield conv("conv-dilation2", x, 8, (3, 3), pads=[2, 2, 2, 2], dilations=[2, 2])
    yield conv("conv-dilation1x3", x, 5, (3, 3), pads=[1, 3, 1, 3], dilations=[1, 3])
    yield conv("conv-dilation2-stride2", x, 8, (3, 3), pads=[2, 2, 2, 2], dilations=[2, 2], strides=[2, 2])
    yield conv("conv-pad-asymmetric", x, 8, (3, 3), pads=[0, 1, 2, 1])
    yield conv("conv-pad-end-only", x, 8, (3, 3), pads=[0, 0, 1, 1], strides=[2, 2])
    yield conv("conv-pad-wide", x, 8, (3, 3), pads=[3, 4, 2, 3])
    yield conv("conv-same-upper", x, 8, (3, 3), auto_pad="SAME_UPPER", strides=[2, 2])
    yield conv("conv-same-lower", x, 8, (4, 2), auto_pad="SAME_LOWER", strides=[2, 2])
    yield conv("conv-valid", x, 8, (3, 3), auto_pad="VALID")
    yield conv("conv-group2", x, 6, (3, 3), group=2, pads=[1, 1, 1, 1])
    yield conv("conv-group4-k1", (1, 16, 5, 6), 8, (1, 1), group=4)
    for c in (1, 3, 8, 17, 32):
        yield conv(f"conv-depthwise-c{c}", (1, c, 8, 9), c, (3, 3), group=c, pads=[1, 1, 1, 1])
    yield conv("conv-depthwise-stride2", (2, 17, 9, 9), 17, (3, 3), group=17, pads=[0, 0, 1, 1], strides=[2, 2])
    yield conv("conv-depthwise-k5", (1, 8, 9, 9), 8, (5, 5), group=8, pads=[2, 2, 2, 2], bias=False)
    yield conv("conv-depthwise-dilation2", (1, 7, 11, 9), 7, (3, 3), group=7, pads=[2, 2, 2, 2], dilations=[2, 2])
    yield conv("conv-depthwise-multiplier2", (1, 7, 6, 5), 14, (3, 3), group=7, pads=[1, 1, 1, 1])


def _conv_shapes() -> Iterator[Case]:
    same = [1, 1, 1, 1]
    yield conv("conv-image1x1", (1, 8, 1, 1), 17, (3, 3), pads=same)
    yield conv("conv-image1x1-k1", (1, 7, 1, 1), 8, (1, 1))
    yield conv("conv-image1x33", (1, 3, 1, 33), 8, (1, 7), pads=[0, 3, 0, 3])
    yield conv("conv-image33x1", (1, 3, 33, 1), 8, (5, 1), pads=[2, 0, 2, 0])
    yield conv("conv-batch2", (2, 3, 8, 7), 8, (3, 3), pads=same)
    yield conv("conv-batch3-k1", (3, 17, 4, 5), 8, (1, 1))
    yield conv("conv-batch2-group2", (2, 8, 6, 5), 16, (3, 3), group=2, pads=same, strides=[2, 2])
    yield conv("conv-kernel-is-image", (2, 8, 4, 5), 10, (4, 5))
    yield conv("conv-k5", (1, 4, 12, 12), 8, (5, 5), pads=[2, 2, 2, 2])
    yield conv("conv-k7-stride2", (1, 3, 21, 19), 8, (7, 7), pads=[3, 3, 3, 3], strides=[2, 2])
    yield conv("conv-k1x7", (1, 8, 9, 9), 8, (1, 7), pads=[0, 3, 0, 3])
    yield conv("conv-k2", (1, 8, 9, 9), 8, (2, 2), pads=[0, 0, 1, 1])
    yield conv("conv-1d", (2, 7, 33), 8, (5,), pads=[2, 2])
    yield conv("conv-1d-stride4", (1, 1, 64), 16, (16,), strides=[4], pads=[6, 6])
    yield conv("conv-1d-dilation-causal", (1, 8, 40), 8, (3,), dilations=[4], pads=[8, 0])
    yield conv("conv-1d-depthwise", (1, 16, 20), 16, (9,), group=16, pads=[4, 4])
    yield conv("conv-3d", (1, 3, 5, 6, 7), 4, (3, 3, 3), pads=[1] * 6)
    yield conv("conv-float64", (1, 3, 7, 7), 8, (3, 3), pads=same, dtype="float64")
    yield conv("conv-float16", (1, 8, 7, 7), 8, (3, 3), pads=same, dtype="float16")
    half: dict[str, Any] = {"dtype": "float16", "pads": same}
    yield conv("conv-depthwise-float16", (1, 17, 8, 9), 17, (3, 3), group=17, **half)
    yield conv("conv-depthwise-stride2-float16", (2, 8, 9, 9), 8, (3, 3), group=8, strides=[2, 2], **half)
    yield conv("conv-group2-stride2-float16", (1, 8, 7, 9), 6, (3, 3), group=2, strides=[2, 2], **half)
    yield conv("conv-k1-float16", (2, 17, 5, 4), 8, (1, 1), dtype="float16")
    yield conv("conv-big", (1, 32, 28, 28), 32, (3, 3), pads=same)
    yield conv("conv-k1-big", (1, 64, 28, 28), 32, (1, 1))
    yield conv("conv-depthwise-big", (1, 32, 28, 28), 32, (3, 3), group=32, pads=same)
    yield single("conv-weights-computed", "Conv", normal(1, 3, 6, 6), normal(4, 3, 3, 3, seed=1), Const(normal(4)))
    yield single("conv-bias-computed", "Conv", normal(1, 3, 6, 6), Const(normal(4, 3, 3, 3, seed=1)), normal(4))


def _conv_transpose() -> Iterator[Case]:
    def up(name: str, *args: Any, **attrs: Any) -> Case:
        return conv(f"convtranspose-{name}", *args, op="ConvTranspose", **attrs)

    yield up("plain", (1, 8, 5, 6), 7, (3, 3))
    yield up("c17-batch2", (2, 17, 3, 4), 3, (2, 2), strides=[2, 2])
    yield up("stride2-same", (1, 4, 5, 5), 8, (3, 3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])
    yield up("pad-asymmetric", (1, 4, 6, 5), 8, (4, 3), strides=[2, 1], pads=[0, 1, 2, 1])
    yield up("dilation2", (1, 3, 6, 5), 4, (3, 3), dilations=[2, 2])
    yield up("group2", (1, 6, 4, 5), 8, (3, 3), group=2, strides=[2, 2], bias=False)
    yield up("depthwise", (1, 7, 4, 5), 7, (4, 4), group=7, strides=[2, 2], pads=[1, 1, 1, 1])
    yield up("1d", (1, 8, 9), 4, (5,), strides=[3])
    yield up("image1x1", (1, 8, 1, 1), 8, (4, 4))
    yield up("big", (1, 32, 14, 14), 32, (2, 2), strides=[2, 2])


def _pools() -> Iterator[Case]:
    for op, short in (("MaxPool", "maxpool"), ("AveragePool", "averagepool")):
        for c in (1, 3, 8, 17):
            yield single(f"{short}-c{c}", op, normal(1, c, 6, 7), kernel_shape=[2, 2], strides=[2, 2])
        x = normal(2, 5, 9, 8)
        yield single(f"{short}-k3-pad", op, x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        yield single(f"{short}-pad-asymmetric", op, x, kernel_shape=[3, 2], pads=[0, 1, 2, 0], strides=[1, 2])
        yield single(f"{short}-same-upper", op, x, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
        yield single(f"{short}-ceil", op, x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
        yield single(f"{short}-dilation2", op, x, kernel_shape=[2, 2], dilations=[2, 2])
        yield single(f"{short}-1d", op, normal(1, 7, 17), kernel_shape=[3], strides=[2])
        yield single(f"{short}-3d", op, normal(1, 2, 4, 5, 4), kernel_shape=[2, 2, 2], strides=[2, 2, 2])
        yield single(f"{short}-all-negative", op, -np.abs(x) - 1, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        for dtype in ("float64", "float16"):
            yield single(f"{short}-{dtype}", op, x.astype(dtype), kernel_shape=[2, 2])
        yield single(f"{short}-big", op, normal(1, 32, 32, 32), kernel_shape=[2, 2], strides=[2, 2])
    counted: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 0, 1, 2], "count_include_pad": 1}
    yield single("averagepool-count-pad", "AveragePool", normal(1, 5, 7, 6), **counted)
    yield single("maxpool-int8", "MaxPool", uniform(-128, 127, 1, 8, 6, 6, dtype="int8"), kernel_shape=[2, 2])
    yield single("maxpool-uint8", "MaxPool", uniform(0, 255, 1, 8, 6, 6, dtype="uint8"), kernel_shape=[2, 2])
    for op in ("GlobalAveragePool", "GlobalMaxPool"):
        short = op.lower()
        for c, hw in ((1, (1, 1)), (8, (7, 7)), (17, (3, 5))):
            yield single(f"{short}-c{c}", op, normal(2, c, *hw))
        yield single(f"{short}-1d", op, normal(1, 7, 33))
        yield single(f"{short}-float16", op, normal(1, 8, 5, 7, dtype="float16"))
        yield single(f"{short}-big", op, normal(1, 64, 16, 16))


def _norms() -> Iterator[Case]:
    def stats(c: int, dtype: str = "float32") -> list[Const]:
        arrays = [normal(c, dtype=dtype, seed=s) for s in (1, 2, 3)]
        return [Const(a) for a in (*arrays, uniform(0.1, 2, c, dtype=dtype))]

    for shape in ((3, 7), (2, 8, 5), (1, 17, 5, 3), (2, 3, 4, 5), (1, 3, 2, 3, 4), (1, 32, 32, 32)):
        end = "big" if shape[-1] == 32 else "x".join(map(str, shape))
        yield single(f"batchnorm-{end}", "BatchNormalization", normal(*shape), *stats(shape[1]), epsilon=1e-3)
    for dtype in ("float64", "float16"):
        yield single(f"batchnorm-{dtype}", "BatchNormalization", normal(1, 5, 3, 3, dtype=dtype), *stats(5, dtype))
    for shape in ((1, 3, 5, 4), (2, 17, 3, 3), (1, 8, 9)):
        affine = [Const(normal(shape[1], seed=s)) for s in (1, 2)]
        end = "x".join(map(str, shape))
        yield single(f"instancenorm-{end}", "InstanceNormalization", normal(*shape), *affine, epsilon=1e-5)
    half = [Const(normal(8, dtype="float16", seed=s)) for s in (1, 2)]
    yield single("instancenorm-float16", "InstanceNormalization", normal(1, 8, 5, 4, dtype="float16"), *half)
    yield single("lrn", "LRN", normal(1, 8, 4, 5), size=5, alpha=1e-2, beta=0.75, bias=1.0)
    yield single("lrn-even", "LRN", normal(2, 7, 3, 3), size=4)


def _images() -> Iterator[Case]:
    yield from _resize()
    x = normal(2, 3, 5, 4)
    for mode in ("constant", "reflect", "edge", "wrap"):
        pads = Const(np.array([0, 0, 1, 2, 0, 0, 2, 1]))
        yield single(f"pad-{mode}", "Pad", x, pads, mode=mode)
    yield single("pad-value", "Pad", x, Const(np.array([1, 0, 0, 1, 0, 2, 0, 0])), Const(np.float32(1.5)))
    yield single("pad-negative", "Pad", x, Const(np.array([0, 0, -1, 1, 0, 0, 2, -2])))
    axes = Const(np.array([-1, 1]))
    yield single("pad-axes", "Pad", x, Const(np.array([1, 2, 0, 1])), None, axes)
    yield single("pad-int64", "Pad", uniform(-9, 9, 3, 4, dtype="int64"), Const(np.array([1, 0, 0, 2])))
    yield single("pad-big", "Pad", normal(1, 32, 30, 30), Const(np.array([0, 0, 1, 1, 0, 0, 1, 1])))
    for mode in ("DCR", "CRD"):
        yield single(f"depthtospace-{mode.lower()}", "DepthToSpace", normal(2, 12, 3, 4), blocksize=2, mode=mode)
    yield single("spacetodepth", "SpaceToDepth", normal(2, 3, 4, 6), blocksize=2)


def _resize() -> Iterator[Case]:
    x = normal(1, 3, 5, 4)

    def scaled(name: str, scales: list[float], x: np.ndarray = x, **attrs: Any) -> Case:
        return single(f"resize-{name}", "Resize", x, None, Const(np.array(scales, np.float32)), **attrs)

    floor: dict[str, Any] = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    yield scaled("nearest2", [1, 1, 2, 2], **floor)
    yield scaled("nearest-c17", [1, 1, 2, 3], normal(2, 17, 3, 4), **floor)
    yield scaled("nearest-half-pixel", [1, 1, 1.5, 2.5], mode="nearest")
    yield scaled("nearest-down", [1, 1, 0.6, 0.5], mode="nearest")
    yield scaled("linear2", [1, 1, 2, 2], mode="linear")
    yield scaled("linear-align", [1, 1, 2, 3], mode="linear", coordinate_transformation_mode="align_corners")
    yield scaled("linear-asymmetric", [1, 1, 2, 2], mode="linear", coordinate_transformation_mode="asymmetric")
    yield scaled("linear-pytorch", [1, 1, 1.7, 2], mode="linear", coordinate_transformation_mode="pytorch_half_pixel")
    yield scaled("linear-down", [1, 1, 0.5, 0.75], mode="linear")
    yield scaled("linear-1d", [1, 1, 2.5], normal(1, 3, 7), mode="linear")
    yield scaled("cubic2", [1, 1, 2, 2], mode="cubic", cubic_coeff_a=-0.75)
    yield scaled("big", [1, 1, 2, 2], normal(1, 8, 24, 24), **floor)
    for mode in ("nearest", "linear"):
        twice = Const(np.array([1, 1, 2, 2], np.float32))
        yield single(f"upsample-{mode}", "Upsample", x, twice, opset=9, mode=mode)
    sizes = Const(np.array([1, 3, 7, 9]))
    yield single("resize-sizes-linear", "Resize", x, None, None, sizes, mode="linear")
    yield single("resize-sizes-nearest", "Resize", x, None, None, sizes, mode="nearest")
