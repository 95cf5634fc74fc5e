"""Operators that treat elements alike: activations, arithmetic, comparisons, logic, casts, selection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from softneuro_core.testing.case import Case, Const, normal, single, uniform

SHAPES = ((), (1,), (17,), (3, 7), (2, 7, 5), (2, 17, 5, 3), (1, 3, 2, 4, 5))
BIG = (4, 16, 17, 33)
SWISH_OPSET = 24
"""Where ONNX first has Swish."""

UNARY: dict[str, list[dict[str, Any]]] = {
    "Relu": [{}],
    "LeakyRelu": [{}, {"alpha": 0.3}],
    "ThresholdedRelu": [{"alpha": 0.5}],
    "Elu": [{"alpha": 1.5}],
    "Celu": [{"alpha": 0.7}],
    "Selu": [{}],
    "Sigmoid": [{}],
    "HardSigmoid": [{}, {"alpha": 1 / 6, "beta": 0.5}],
    "HardSwish": [{}],
    "Tanh": [{}],
    "Softplus": [{}],
    "Softsign": [{}],
    "Mish": [{}],
    "Gelu": [{}, {"approximate": "tanh"}],
    "Exp": [{}],
    "Erf": [{}],
    "Sin": [{}],
    "Cos": [{}],
    "Abs": [{}],
    "Neg": [{}],
    "Sign": [{}],
    "Floor": [{}],
    "Ceil": [{}],
    "Round": [{}],
    "Identity": [{}],
}
POSITIVE = ("Log", "Sqrt", "Reciprocal")
NAN_SAFE = ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "Exp", "Abs", "Neg", "Identity", "HardSigmoid", "HardSwish")
INTEGER = ("Abs", "Neg", "Sign", "Relu", "Identity")


def cases() -> Iterator[Case]:
    yield from _unary()
    yield from _clip_and_prelu()
    yield from _binary()
    yield from _logic()
    yield from _cast()


def _label(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _unary() -> Iterator[Case]:
    for op, variants in UNARY.items():
        for number, attrs in enumerate(variants):
            name = f"{op.lower()}{number or ''}"
            for shape in SHAPES if number == 0 else SHAPES[-2:]:
                yield single(f"{name}-{_label(shape)}", op, 3 * normal(*shape), **attrs)
        yield single(f"{op.lower()}-float64", op, 3 * normal(3, 7, dtype="float64"), **variants[0])
        yield single(f"{op.lower()}-float16", op, normal(2, 8, 5, dtype="float16"), **variants[0])
        yield single(f"{op.lower()}-big", op, 3 * normal(*BIG), **variants[0])
    for op in POSITIVE:
        for shape in SHAPES:
            yield single(f"{op.lower()}-{_label(shape)}", op, uniform(0.05, 5, *shape))
        yield single(f"{op.lower()}-big", op, uniform(0.05, 5, *BIG))
    for op in NAN_SAFE:
        yield single(f"{op.lower()}-nan", op, _special(op))
    for op in INTEGER:
        yield single(f"{op.lower()}-int32", op, uniform(-9, 9, 3, 17, dtype="int32"))
    for shape in SHAPES:
        yield single(f"swish-{_label(shape)}", "Swish", 3 * normal(*shape), opset=SWISH_OPSET)
    yield single("swish-alpha", "Swish", 3 * normal(2, 17, 5, 3), opset=SWISH_OPSET, alpha=1.702)
    yield single("swish-big", "Swish", 3 * normal(*BIG), opset=SWISH_OPSET)
    yield single("round-ties", "Round", np.arange(-4, 4.5, 0.5, dtype=np.float32))
    for op in ("IsNaN", "IsInf"):
        yield single(f"{op.lower()}-c17", op, np.array([0, np.nan, np.inf, -np.inf, 1] * 4, np.float32))


def _special(op: str) -> np.ndarray:
    """NaN everywhere in a vector; infinities where the operator has a limit there."""
    x = normal(3, 17)
    x[0, ::4], x[2, 16] = np.nan, np.nan
    if op not in ("HardSwish",):  # 0 * inf there
        x[1, 3], x[1, 4] = np.inf, -np.inf
    return x


def _clip_and_prelu() -> Iterator[Case]:
    low, high = Const(np.float32(-0.5)), Const(np.float32(6))
    for shape in SHAPES:
        yield single(f"clip-{_label(shape)}", "Clip", 5 * normal(*shape), low, high)
    yield single("clip-min-only", "Clip", normal(2, 17, 5, 3), low)
    yield single("clip-max-only", "Clip", 5 * normal(2, 17, 5, 3), None, high)
    yield single("clip-computed", "Clip", normal(3, 17), np.array(-0.3, np.float32), np.array(0.4, np.float32))
    yield single("clip-int64", "Clip", uniform(-9, 9, 3, 7, dtype="int64"), Const(np.array(-2)), Const(np.array(5)))
    yield single("clip-attributes", "Clip", 5 * normal(2, 7, 3), opset=6, min=-0.25, max=2.0)
    yield single("clip-nan", "Clip", _special("Clip"), low, high)
    yield single("clip-big", "Clip", 5 * normal(*BIG), low, high)
    for slope in ((17, 1, 1), (1,), (1, 17, 1, 1), (17, 5, 3)):
        yield single(f"prelu-{_label(slope)}", "PRelu", normal(2, 17, 5, 3), Const(uniform(0.05, 0.5, *slope)))
    yield single("prelu-big", "PRelu", normal(*BIG), Const(uniform(0.05, 0.5, 16, 1, 1)))


PAIRS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "same": ((2, 17, 5, 3), (2, 17, 5, 3)),
    "vector": ((17,), (17,)),
    "scalar": ((2, 7, 5), ()),
    "channel": ((2, 17, 5, 3), (17, 1, 1)),
    "channel4": ((2, 8, 5, 3), (1, 8, 1, 1)),
    "row": ((3, 7), (7,)),
    "column": ((3, 7), (3, 1)),
    "image": ((2, 3, 4, 5), (2, 1, 4, 5)),
    "pixelwise": ((2, 8, 3, 4), (2, 8, 1, 1)),
    "both": ((1, 17, 1, 3), (2, 1, 5, 1)),
    "rank5": ((1, 3, 2, 4, 5), (3, 1, 4, 5)),
}


def _binary() -> Iterator[Case]:
    for op in ("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "PRelu"):
        for label, (a, b) in PAIRS.items():
            if op == "PRelu" and label in ("both", "rank5"):
                continue  # its slope broadcasts one way only
            yield single(f"{op.lower()}-{label}", op, *_numbers(op, a, b))
        yield (
            single(f"{op.lower()}-big", op, *_numbers(op, BIG, BIG))
            if op != "PRelu"
            else single("prelu-computed-big", op, *_numbers(op, BIG, BIG))
        )
        if op != "PRelu":
            yield from _binary_constants(op)
    for op in ("Add", "Sub", "Mul", "Div", "Min", "Max", "Mod"):
        for dtype in ("int32", "int64"):
            x, y = uniform(-40, 40, 3, 17, dtype=dtype), uniform(1, 7, 3, 17, dtype=dtype, seed=1)
            yield single(f"{op.lower()}-{dtype}", op, np.abs(x) if op == "Div" else x, y)
    yield single("mod-fmod", "Mod", normal(3, 7), uniform(0.5, 2, 3, 7), fmod=1)
    yield single("max-three", "Max", normal(3, 1, 7), normal(1, 5, 7, seed=1), Const(normal(7)))
    yield single("sum-three", "Sum", normal(2, 8, 3), normal(2, 8, 3, seed=1), normal(2, 8, 3, seed=2))
    yield single("add-nan", "Add", _special("Add"), Const(normal(17)))


def _binary_constants(op: str) -> Iterator[Case]:
    for label in ("scalar", "channel", "row"):
        a, b = _numbers(op, *PAIRS[label])
        yield single(f"{op.lower()}-const-{label}", op, a, Const(b))
        yield single(f"{op.lower()}-const-first-{label}", op, Const(b), np.abs(a) + 0.5 if op in ("Pow", "Div") else a)
    double = [x.astype(np.float64) for x in _numbers(op, (3, 7), (3, 7))]
    yield single(f"{op.lower()}-float64", op, *double)


def _numbers(op: str, a: tuple[int, ...], b: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    if op == "Pow":
        return uniform(0.2, 2, *a), uniform(-1, 2, *b, seed=1)
    return normal(*a), uniform(0.5, 2, *b, seed=1) if op == "Div" else normal(*b, seed=1)


def _logic() -> Iterator[Case]:
    def bits(*shape: int, seed: int = 0) -> np.ndarray:
        return uniform(0, 1, *shape, dtype="int32", seed=seed).astype(bool)

    for op in ("And", "Or", "Xor"):
        yield single(f"{op.lower()}-same", op, bits(3, 17), bits(3, 17, seed=1))
        yield single(f"{op.lower()}-both", op, bits(3, 1), bits(1, 17, seed=1))
    yield single("not-c17", "Not", bits(3, 17))
    for op in ("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"):
        a, b = (uniform(-2, 2, 3, 17, dtype="int64", seed=s) for s in (0, 1))
        yield single(f"{op.lower()}-float32", op, a.astype(np.float32), b.astype(np.float32))
        yield single(f"{op.lower()}-int64", op, a, b)
        yield single(f"{op.lower()}-row", op, normal(2, 3, 7), Const(normal(7)))
        yield single(f"{op.lower()}-big", op, normal(*BIG), Const(normal(1)))
    yield single("equal-bool", "Equal", bits(3, 7), bits(3, 7, seed=1))
    for label, (c, x, y) in {
        "same": ((3, 17), (3, 17), (3, 17)),
        "broadcast": ((2, 1, 5), (1, 7, 1), (2, 7, 5)),
        "scalar": ((3, 7), (3, 7), ()),
        "big": (BIG, BIG, BIG),
    }.items():
        yield single(f"where-{label}", "Where", bits(*c), normal(*x), normal(*y, seed=1))
    yield single("where-int64", "Where", bits(3, 7), Const(np.array(-1)), uniform(0, 9, 3, 7, dtype="int64"))


def _cast() -> Iterator[Case]:
    from softneuro_core.spec import DType

    for source, target in (
        ("float32", "float64"),
        ("float32", "float16"),
        ("float16", "float32"),
        ("float64", "float32"),
        ("float32", "int32"),
        ("float32", "int64"),
        ("float32", "bool"),
        ("int64", "float32"),
        ("int32", "int64"),
        ("int64", "int32"),
        ("bool", "float32"),
        ("uint8", "float32"),
        ("int8", "int32"),
    ):
        x = uniform(0, 90, 3, 17, dtype="int32") if source != "float32" else 20 * normal(3, 17)
        to = DType.parse(target).onnx
        yield single(f"cast-{source}-{target}", "Cast", x.astype(DType.parse(source).numpy), to=to)
    yield single("cast-big", "Cast", uniform(0, 9, *BIG, dtype="int64"), to=DType.parse("float32").onnx)
