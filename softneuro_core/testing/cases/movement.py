"""Operators that only move elements: exact in every dtype."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from softneuro_core.testing.case import Case, Const, normal, single, uniform


def ints(*values: int) -> Const:
    return Const(np.array(values, np.int64))


def of(dtype: str, *shape: int) -> np.ndarray:
    """Something of each dtype that shows a wrong move."""
    if dtype == "bool":
        return uniform(0, 1, *shape, dtype="int32").astype(bool)
    if dtype.startswith("float"):
        return normal(*shape, dtype=dtype)
    return uniform(0, 100, *shape, dtype=dtype)


DTYPES = ("float64", "float16", "int8", "uint8", "int32", "int64", "bool")


def cases() -> Iterator[Case]:
    yield from _concat_and_split()
    yield from _slice()
    yield from _transpose()
    yield from _reshapes()
    yield from _gather()
    yield from _expand_and_tile()


def _concat_and_split() -> Iterator[Case]:
    for axis, shapes in {
        0: ((1, 3, 4), (2, 3, 4)),
        1: ((2, 3, 5, 4), (2, 17, 5, 4), (2, 1, 5, 4)),
        -1: ((3, 7), (3, 1), (3, 8)),
        2: ((1, 3, 2, 5), (1, 3, 4, 5)),
    }.items():
        arrays = [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
        yield single(f"concat-axis{axis}", "Concat", *arrays, axis=axis)
    yield single("concat-one", "Concat", normal(3, 7), axis=1)
    yield single("concat-const", "Concat", normal(1, 5, 7), Const(normal(1, 3, 7, seed=1)), axis=1)
    for dtype in DTYPES:
        yield single(f"concat-{dtype}", "Concat", of(dtype, 2, 3), of(dtype, 2, 17), axis=1)
    yield single("concat-big", "Concat", normal(2, 32, 16, 16), normal(2, 17, 16, 16), axis=1)
    yield single("split-equal", "Split", normal(2, 8, 5), outputs=2, axis=1, num_outputs=2)
    yield single("split-uneven", "Split", normal(2, 7, 5), outputs=3, axis=1, num_outputs=3)
    yield single("split-sizes", "Split", normal(3, 17), ints(1, 9, 7), outputs=3, axis=-1)
    yield single("split-axis0", "Split", normal(5, 3), ints(2, 3), outputs=2)
    yield single("split-one-unused", "Split", normal(3, 8), ints(3, 5), outputs=["y0", ""], axis=1)
    yield single("split-attribute", "Split", normal(2, 6, 3), outputs=2, opset=11, axis=1, split=[2, 4])
    yield single("split-int64", "Split", of("int64", 3, 8), outputs=2, axis=1, num_outputs=2)
    yield single("split-big", "Split", normal(2, 64, 16, 16), outputs=2, axis=1, num_outputs=2)


def _slice() -> Iterator[Case]:
    x = normal(2, 9, 7, 5)
    for name, (starts, ends, axes, steps) in {
        "begin": ((1,), (4,), (1,), None),
        "two-axes": ((1, 2), (6, 5), (2, 3), None),
        "negative": ((-4, -3), (-1, 9999), (1, 3), None),
        "negative-axis": ((1,), (3,), (-1,), None),
        "step2": ((0, 1), (9, 7), (1, 2), (2, 3)),
        "reversed": ((-1,), (-9999,), (1,), (-1,)),
        "reversed-step2": ((6,), (0,), (2,), (-2,)),
        "whole": ((0,), (9999,), (0,), None),
    }.items():
        last = ints(*steps) if steps else None
        yield single(f"slice-{name}", "Slice", x, ints(*starts), ints(*ends), ints(*axes), last)
    yield single("slice-no-axes", "Slice", normal(5, 7), ints(1, 2), ints(4, 6))
    yield single("slice-attributes", "Slice", normal(5, 7), opset=9, starts=[1, -3], ends=[4, 7], axes=[0, 1])
    for dtype in DTYPES:
        yield single(f"slice-{dtype}", "Slice", of(dtype, 3, 17), ints(2), ints(16), ints(1), ints(3))
    yield single("slice-big", "Slice", normal(2, 64, 16, 16), ints(7), ints(50), ints(1))


def _transpose() -> Iterator[Case]:
    for shape, perm in (
        ((3, 7), (1, 0)),
        ((2, 5, 7), (0, 2, 1)),
        ((2, 5, 7), (2, 0, 1)),
        ((2, 3, 5, 7), (0, 2, 3, 1)),
        ((2, 5, 7, 3), (0, 3, 1, 2)),
        ((2, 3, 4, 5), (0, 2, 1, 3)),
        ((2, 3, 4, 5), (3, 2, 1, 0)),
        ((1, 17, 1, 8), (0, 3, 2, 1)),
        ((2, 3, 2, 4, 3), (0, 1, 4, 2, 3)),
    ):
        yield single(f"transpose-{len(shape)}d-{''.join(map(str, perm))}", "Transpose", normal(*shape), perm=perm)
    yield single("transpose-default", "Transpose", normal(2, 3, 5))
    for dtype in DTYPES:
        yield single(f"transpose-{dtype}", "Transpose", of(dtype, 3, 17), perm=[1, 0])
    yield single("transpose-big", "Transpose", normal(2, 32, 16, 17), perm=[0, 2, 3, 1])


def _reshapes() -> Iterator[Case]:
    x = normal(2, 6, 5)
    yield single("reshape-plain", "Reshape", x, ints(3, 4, 5))
    yield single("reshape-infer", "Reshape", x, ints(-1, 10))
    yield single("reshape-copy", "Reshape", x, ints(0, 3, -1))
    yield single("reshape-scalar", "Reshape", normal(1), Const(np.zeros(0, np.int64)))
    yield single("flatten-default", "Flatten", normal(2, 3, 4, 5))
    yield single("flatten-axis0", "Flatten", x, axis=0)
    yield single("flatten-axis-1", "Flatten", x, axis=-1)
    yield single("squeeze-axes", "Squeeze", normal(1, 7, 1, 5), ints(0, -2))
    yield single("squeeze-all", "Squeeze", normal(1, 7, 1, 5))
    yield single("squeeze-attribute", "Squeeze", normal(1, 7, 1), opset=11, axes=[0])
    yield single("unsqueeze", "Unsqueeze", normal(3, 7), ints(0, -1))
    yield single("unsqueeze-attribute", "Unsqueeze", normal(3, 7), opset=11, axes=[1])
    for dtype in ("int64", "bool", "float16"):
        yield single(f"reshape-{dtype}", "Reshape", of(dtype, 2, 6), ints(3, 4))
    yield single("reshape-big", "Reshape", normal(2, 32, 256), ints(2, 8, 4, 256))


def _gather() -> Iterator[Case]:
    x = normal(5, 7, 3)
    for axis in (0, 1, -1):
        yield single(f"gather-axis{axis}", "Gather", x, ints(2, 0, 1, -1, 2), axis=axis)
    yield single("gather-scalar", "Gather", x, Const(np.array(-2)), axis=1)
    yield single("gather-matrix", "Gather", x, Const(np.array([[0, 1], [4, -5]])), axis=0)
    yield single("gather-computed", "Gather", x, uniform(-5, 4, 2, 3, dtype="int64"), axis=0)
    yield single("gather-int32-indices", "Gather", x, uniform(0, 6, 4, dtype="int32"), axis=1)
    yield single("gather-embedding", "Gather", Const(normal(19, 8)), uniform(0, 18, 2, 5, dtype="int64"))
    yield single("gather-int64", "Gather", of("int64", 5, 3), ints(1, 3), axis=0)
    yield single("gather-big", "Gather", Const(normal(512, 64)), uniform(0, 511, 2, 64, dtype="int64"))
    yield single("gatherelements", "GatherElements", x, uniform(-7, 6, 5, 4, 3, dtype="int64"), axis=1)
    yield single("gathernd", "GatherND", x, Const(np.array([[0, 1], [4, 6], [-1, -1]])))
    updates = normal(2, 7, 3, seed=1)
    yield single("scatternd", "ScatterND", x, Const(np.array([[1], [3]])), updates)
    yield single("scatterelements", "ScatterElements", normal(3, 5), Const(np.array([[1, 3]])), normal(1, 2), axis=1)


def _expand_and_tile() -> Iterator[Case]:
    yield single("expand-row", "Expand", normal(1, 7), ints(3, 7))
    yield single("expand-rank", "Expand", normal(3, 1), ints(2, 1, 5))
    yield single("expand-same", "Expand", normal(3, 7), ints(1, 1))
    yield single("expand-bool", "Expand", of("bool", 3, 1), ints(3, 17))
    yield single("expand-big", "Expand", normal(1, 64, 1), ints(4, 64, 96))
    yield single("tile-both", "Tile", normal(3, 5), ints(2, 3))
    yield single("tile-once", "Tile", normal(2, 1, 7), ints(1, 4, 1))
    yield single("tile-int64", "Tile", of("int64", 2, 3), ints(2, 2))
