"""Convolutions and pooling between grids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from softneuro_core.testing.case import Case
from softneuro_qint8.cases.sketch import INT8, SHIFTED, UINT8, Numbers, Sketch


def cases() -> Iterator[Case]:
    yield from _convolutions()
    yield from _transposed()
    yield from _depthwise()
    yield from _pools()


def _conv(name: str, x: tuple[int, ...], w: tuple[int, ...], *, source: Numbers = UINT8, **attrs: Any) -> Case:
    made = Sketch()
    operands = made.real(source, *x), made.weights(*w), made.bias(w[0])
    made.quantised(made.layer("Conv", *operands, **attrs))
    return made.case(f"qconv-{name}")


def _convolutions() -> Iterator[Case]:
    yield _conv("3x3", (2, 8, 9, 7), (17, 8, 3, 3), pads=[1, 1, 1, 1])
    yield _conv("odd-channels", (1, 3, 11, 9), (16, 3, 3, 3), source=SHIFTED, pads=[0, 1, 1, 0], strides=[2, 2])
    yield _conv("image", (2, 3, 20, 37), (40, 3, 7, 7), source=INT8, pads=[3, 3, 3, 3], strides=[2, 2])
    yield _conv("two-channels", (1, 2, 6, 18), (17, 2, 1, 1))
    yield _conv("one-channel", (1, 1, 7, 29), (9, 1, 3, 3), pads=[1, 2, 1, 1])
    yield _conv("seven-channels", (2, 7, 4, 13), (9, 7, 1, 3), source=INT8, pads=[0, 1, 0, 1])
    yield _conv("1x1", (2, 16, 6, 5), (33, 16, 1, 1), source=INT8)
    yield _conv("1x1-strided", (1, 17, 7, 9), (8, 17, 1, 1), strides=[2, 2])
    yield _conv("1x1-strided-words", (1, 20, 7, 9), (40, 20, 1, 1), source=INT8, strides=[2, 2])
    yield _conv("3x3-strided-words", (1, 8, 19, 35), (20, 8, 3, 3), source=SHIFTED, strides=[2, 2], pads=[1, 1, 1, 1])
    yield _conv("groups", (1, 12, 8, 8), (6, 6, 3, 3), group=2, pads=[0, 1, 1, 0])
    yield _conv("narrow", (1, 33, 5, 6), (3, 33, 2, 3), dilations=[2, 1], pads=[1, 1, 1, 1])
    yield _conv("dilated", (1, 40, 4, 4), (40, 40, 3, 3), source=SHIFTED, dilations=[1, 2], pads=[1, 2, 1, 2])
    yield _conv("multiplier", (1, 8, 5, 5), (16, 1, 3, 3), group=8)
    yield _conv("1d", (2, 9, 11), (7, 9, 3), pads=[1, 1])
    yield _conv("one-pixel", (1, 40, 1, 1), (130, 40, 1, 1))
    yield _conv("big", (1, 32, 17, 15), (64, 32, 3, 3), pads=[1, 1, 1, 1])
    made = Sketch()
    conv = made.layer("Conv", made.on_grid(SHIFTED, 1, 6, 5, 4), made.weights(9, 6, 3, 3, per_channel=False))
    made.quantised(made.layer("Clip", conv, made.constant(np.float32(-0.5)), made.constant(np.float32(1.1))), UINT8)
    yield made.case("qconv-kept-clip")
    made = Sketch()
    conv = made.layer("Conv", made.real(SHIFTED, 1, 6, 5, 4), made.weights(9, 6, 3, 3, dtype="uint8"))
    made.quantised(made.layer("Relu", conv), SHIFTED)
    yield made.case("qconv-uint8-relu")


def _transposed() -> Iterator[Case]:
    ways: dict[str, tuple[Numbers, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
        "2x2": (UINT8, (2, 16, 5, 7), (16, 33, 2, 2), {"strides": [2, 2]}),
        "overlapping": (SHIFTED, (1, 12, 4, 5), (12, 8, 3, 4), {"strides": [1, 2], "pads": [1, 0, 0, 1]}),
        "odd-channels": (INT8, (1, 5, 6, 3), (5, 40, 3, 3), {"strides": [2, 2], "output_padding": [1, 0]}),
        "1d": (UINT8, (2, 8, 9), (8, 17, 4), {"strides": [2]}),
    }
    for name, (source, x, w, attrs) in ways.items():
        made = Sketch()
        operands = made.real(source, *x), made.weights(*w, axis=1), made.bias(w[1])
        made.quantised(made.layer("Relu", made.layer("ConvTranspose", *operands, **attrs)), SHIFTED)
        yield made.case(f"qconv-transpose-{name}")
    made = Sketch()
    up = made.layer("ConvTranspose", made.laid(UINT8, 1, 36, 9, 11), made.weights(36, 24, 2, 2, axis=1), strides=[2, 2])
    made.may_be_rounded(up, INT8)
    yield made.case("laid-conv-transpose")


def _depthwise() -> Iterator[Case]:
    yield _conv("depthwise", (2, 24, 9, 7), (24, 1, 3, 3), group=24, pads=[1, 1, 1, 1])
    yield _conv("depthwise-strided", (1, 33, 8, 8), (33, 1, 3, 3), source=INT8, group=33, strides=[2, 2])
    yield _conv("depthwise-narrow", (1, 3, 9, 8), (3, 1, 3, 3), source=SHIFTED, group=3, pads=[0, 0, 1, 1])
    yield _conv("depthwise-wide", (1, 16, 6, 14), (16, 1, 2, 9), group=16, dilations=[2, 1], pads=[1, 4, 1, 4])
    yield _conv("depthwise-5x5-big", (1, 48, 19, 17), (48, 1, 5, 5), group=48, pads=[2, 2, 2, 2])


def _pool(name: str, op: str, shape: tuple[int, ...], source: Numbers, result: Numbers, **attrs: Any) -> Case:
    made = Sketch()
    made.quantised(made.layer(op, made.real(source, *shape), **attrs), result)
    return made.case(f"qpool-{name}")


def _pools() -> Iterator[Case]:
    padded = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}
    yield _pool("average", "AveragePool", (2, 17, 9, 7), UINT8, SHIFTED, kernel_shape=[2, 3])
    yield _pool("average-pads", "AveragePool", (1, 8, 9, 7), SHIFTED, INT8, **padded)
    yield _pool("average-counted", "AveragePool", (1, 8, 9, 7), SHIFTED, INT8, count_include_pad=1, **padded)
    yield _pool("global", "GlobalAveragePool", (2, 33, 9, 11), UINT8, UINT8)
    yield _pool("max", "MaxPool", (1, 16, 9, 7), INT8, INT8, **padded)
    yield _pool("max-regrid", "MaxPool", (1, 5, 8, 8), UINT8, SHIFTED, kernel_shape=[2, 2], strides=[2, 2])
    yield _pool("global-max", "GlobalMaxPool", (1, 24, 5, 6), SHIFTED, SHIFTED)
    yield _pool("1d", "AveragePool", (2, 9, 11), SHIFTED, INT8, kernel_shape=[3])
