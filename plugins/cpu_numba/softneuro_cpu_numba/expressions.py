"""What elementwise operators mean, as expressions over ``{0}``, ``{1}`` ...: one table for the whole family."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from softneuro_core.graph import Layer
from softneuro_cpu_numba.epilogues import activation_of

FLOATS = ("float32", "float64", "float16")
INTEGERS = ("int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64")


@dataclass(frozen=True, slots=True)
class Operator:
    """``text`` of the result, the element types it holds for, and its error (float32, relative)."""

    text: str
    dtypes: tuple[str, ...] = FLOATS
    error: float = 1e-6


_NUMBERS = FLOATS + INTEGERS
_COMPARED = (*_NUMBERS, "bool")
OPERATORS = {
    "Add": Operator("({0} + {1})", _NUMBERS),
    "Sub": Operator("({0} - {1})", _NUMBERS),
    "Mul": Operator("({0} * {1})", _NUMBERS),
    "Div": Operator("({0} / {1})"),
    "Pow": Operator("({0} ** {1})", ("float32", "float64"), 1e-5),
    "PRelu": Operator("({0} * {1} if {0} < 0 else {0})"),
    "Relu": Operator("(f(0) if {0} < f(0) else {0})"),
    "Neg": Operator("(-{0})", (*FLOATS, "int64", "int32", "int16", "int8")),
    "Abs": Operator("abs({0})", (*FLOATS, "int64", "int32", "int16", "int8")),
    "Reciprocal": Operator("(f(1) / {0})"),
    "Sqrt": Operator("sqrt({0})"),
    "Exp": Operator("exp({0})"),
    "Log": Operator("math.log({0})", ("float32", "float64")),
    "Sin": Operator("math.sin({0})", ("float32", "float64")),
    "Cos": Operator("math.cos({0})", ("float32", "float64")),
    "Erf": Operator("erf({0})"),
    "Tanh": Operator("tanh({0})"),
    "Sigmoid": Operator("(f(1) / (f(1) + exp(-{0})))"),
    "Softplus": Operator("math.log1p(math.exp({0}))", ("float32", "float64"), 1e-5),
    "Softsign": Operator("({0} / (f(1) + abs({0})))"),
    "Floor": Operator("floor({0})", ("float32", "float16"), 0.0),
    "Round": Operator("rint({0})", ("float32", "float16"), 0.0),
    "Max": Operator("({0} if {0} > {1} or {0} != {0} else {1})", _NUMBERS, 0.0),
    "Min": Operator("({0} if {0} < {1} or {0} != {0} else {1})", _NUMBERS, 0.0),
    "Equal": Operator("({0} == {1})", _COMPARED, 0.0),
    "Less": Operator("({0} < {1})", _NUMBERS, 0.0),
    "LessOrEqual": Operator("({0} <= {1})", _NUMBERS, 0.0),
    "Greater": Operator("({0} > {1})", _NUMBERS, 0.0),
    "GreaterOrEqual": Operator("({0} >= {1})", _NUMBERS, 0.0),
    "And": Operator("({0} & {1})", ("bool",), 0.0),
    "Or": Operator("({0} | {1})", ("bool",), 0.0),
    "Xor": Operator("({0} ^ {1})", ("bool",), 0.0),
    "Not": Operator("({0} == 0)", ("bool",), 0.0),
    "Where": Operator("({1} if {0} else {2})", (*_NUMBERS, "bool"), 0.0),
    "Cast": Operator("{0}", (*_NUMBERS, "bool"), 0.0),
    "Identity": Operator("{0}", (*_NUMBERS, "bool"), 0.0),
}
"""By ONNX name. Activations with numbers are added by :func:`expression_of`."""

ELEMENTWISE = frozenset([*OPERATORS, "Clip", "LeakyRelu", "HardSigmoid", "HardSwish", "Swish", "Gelu"])


@dataclass(frozen=True, slots=True)
class Expression:
    """One layer's meaning: the text, which inputs it reads, and the numbers behind its ``p`` names."""

    text: str
    inputs: tuple[int, ...]
    numbers: tuple[float, ...]
    error: float


def expression_of(layer: Layer) -> Expression | None:
    """The expression of an elementwise layer, None if it is none for these element types."""
    if layer.domain or len(layer.results) != 1:
        return None
    present = tuple(i for i, v in enumerate(layer.inputs) if v is not None)
    main = layer.inputs[1 if layer.type == "Where" else 0] if layer.inputs else None
    if main is None or present != tuple(range(len(present))):
        return None
    dtype = main.dtype.name
    if layer.type in OPERATORS:
        return _from_table(layer, dtype, present)
    found = activation_of(layer)
    if found is None or dtype not in ("float32", "float16"):
        return None
    return Expression(f"act_{found.kind}({{0}}, {{p0}}, {{p1}})", (0,), (found.p0, found.p1), 1e-6)


def _from_table(layer: Layer, dtype: str, present: tuple[int, ...]) -> Expression | None:
    operator = OPERATORS[layer.type]
    if dtype not in operator.dtypes:
        return None
    out = layer.results[0].dtype.name
    if layer.type == "Cast":
        return _cast(operator, dtype, out)
    text = operator.text
    if layer.type in ("Max", "Min"):
        for i in present[2:]:  # more operands than two: nested
            text = operator.text.format(text, f"{{{i}}}")
        if len(present) == 1:
            text = "{0}"
    if layer.type == "Pow":
        text = _power(layer, text) or ""
        if text in ("({0} * {0})", "sqrt({0})", "({0} * {0} * {0})"):
            present = present[:1]
    if text.count("{") == 0:
        return None
    error = operator.error if dtype in ("float32", "float64") or operator.error == 0 else 2e-3
    return Expression(text, present, (), 0.0 if dtype in (*INTEGERS, "bool") else error)


def _cast(operator: Operator, source: str, out: str) -> Expression | None:
    if out not in (*FLOATS, *INTEGERS, "bool"):
        return None
    if out == "bool":
        return Expression("({0} != 0)", (0,), (), 0.0)
    if source in FLOATS and out in INTEGERS and out not in ("int64", "int32"):
        return None  # out of range is undefined in C and wraps in numpy: the reference decides
    return Expression("{0}", (0,), (), 0.0)


def _power(layer: Layer, text: str) -> str | None:
    base, exponent = layer.inputs[:2]
    assert base is not None and exponent is not None
    data = exponent.data
    if data is not None and data.size == 1:
        special = {2.0: "({0} * {0})", 0.5: "sqrt({0})", 3.0: "({0} * {0} * {0})"}
        found = special.get(float(np.asarray(data).reshape(-1)[0]))
        if found is not None and not (found.startswith("sqrt") and math.prod(base.static_shape) == 0):
            return found
    return text if exponent.dtype is base.dtype else None
