"""What elementwise operators mean, in OpenCL C over ``{0}``, ``{1}`` ...: float32 alone on vectors or single elements,
other types on single elements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from softneuro_core.epilogue import ACTIVATIONS
from softneuro_core.graph import Layer
from softneuro_core.spec import BOOL, FLOAT32
from softneuro_opencl.activations import activation_of

TEXTS = {
    "Add": "({0} + {1})",
    "Sub": "({0} - {1})",
    "Mul": "({0} * {1})",
    "Div": "({0} / {1})",
    "Neg": "(-{0})",
    "Abs": "fabs({0})",
    "Reciprocal": "(1.0f / {0})",
    "Sqrt": "sqrt({0})",
    "Exp": "exp({0})",
    "Log": "log({0})",
    "Erf": "erf({0})",
    "Sin": "sin({0})",
    "Cos": "cos({0})",
    "Floor": "floor({0})",
    "Ceil": "ceil({0})",
    "Round": "rint({0})",
    "Softsign": "({0} / (1.0f + fabs({0})))",
    "Softplus": "log1p(exp({0}))",
    "Identity": "{0}",
}
"""By ONNX name; activations with numbers are added by :func:`expression_of`."""
EXACT_ONES = frozenset(("Floor", "Ceil", "Round", "Neg", "Abs", "Identity"))
ERRORS = {"Softplus": 1e-5}
ERROR = 2e-6
"""Division and functions of OpenCL's full profile are within 4 units in the last place, most within 2 to 3."""
CHOOSING = frozenset(("Max", "Min"))
SINGLE = {
    "Equal": "({0} == {1})",
    "Less": "({0} < {1})",
    "LessOrEqual": "({0} <= {1})",
    "Greater": "({0} > {1})",
    "GreaterOrEqual": "({0} >= {1})",
    "And": "({0} && {1})",
    "Or": "({0} || {1})",
    "Xor": "(!{0} != !{1})",
    "Not": "(!{0})",
    "Where": "({0} ? {1} : {2})",
}
"""Of single elements of any types."""
WHOLE = frozenset(("Add", "Sub", "Mul", "Neg", "Identity"))
"""Those of :data:`TEXTS` that integers have too."""
TYPES = {"float32": "float", "int32": "int", "int64": "long", "bool": "uchar"}
"""C's names."""
ELEMENTWISE = frozenset((*TEXTS, *ACTIVATIONS, *CHOOSING, *SINGLE, "Pow", "Cast"))


@dataclass(frozen=True, slots=True)
class Expression:
    """One layer's meaning: the text, how many leading inputs it reads, its relative error."""

    text: str
    reads: int
    error: float


def expression_of(layer: Layer) -> Expression | None:
    """The expression of an elementwise layer, None if it is none."""
    values = (*layer.operands, *layer.results)
    if layer.domain or len(layer.results) != 1 or any(v.dtype.name not in TYPES for v in values):
        return None
    if layer.type in SINGLE:
        return Expression(SINGLE[layer.type], len(layer.inputs), 0.0)
    if any(v.dtype is not FLOAT32 for v in values):
        return _of_integers(layer)
    if layer.type in ACTIVATIONS:
        found = activation_of(layer)
        if found is None:
            return None
        numbers = {"p0": _number(found.p0), "p1": _number(found.p1)}
        words = found.text.replace("(v)", "({0})")
        for name, number in numbers.items():
            words = words.replace(name, number)
        return Expression(words, 1, ERROR)
    if None in layer.inputs:
        return None
    if layer.type in CHOOSING:
        return _chosen(layer)
    if layer.type == "Pow":
        return _power(layer)
    words = TEXTS.get(layer.type, "")
    error = 0.0 if layer.type in EXACT_ONES else ERRORS.get(layer.type, ERROR)
    return Expression(words, len(layer.inputs), error) if words else None


def _of_integers(layer: Layer) -> Expression | None:
    """A layer that reads or makes something else than float32."""
    made = layer.results[0].dtype
    if layer.type == "Cast":
        return Expression("({0} != 0)" if made is BOOL else f"(({TYPES[made.name]}){{0}})", 1, 0.0)
    if layer.type in WHOLE and made is not BOOL:
        return Expression(TEXTS[layer.type], len(layer.inputs), 0.0)
    return None


def _number(value: float) -> str:
    """A float32 literal."""
    number = np.float32(value)
    if np.isinf(number):
        return "INFINITY" if number > 0 else "(-INFINITY)"
    return f"({float(number)!r}f)"


def _chosen(layer: Layer) -> Expression:
    name, words = "larger" if layer.type == "Max" else "smaller", "{0}"
    for i in range(1, len(layer.inputs)):
        words = f"{name}({words}, {{{i}}})"
    return Expression(words, len(layer.inputs), 0.0)


def _power(layer: Layer) -> Expression:
    exponent = layer.inputs[1]
    data = None if exponent is None else exponent.data
    if data is None or data.size != 1:
        return Expression("pow({0}, {1})", 2, 1e-5)
    special = {2.0: "({0} * {0})", 3.0: "({0} * {0} * {0})", 0.5: "sqrt({0})"}
    found = special.get(float(np.asarray(data).reshape(-1)[0]))
    return Expression(found, 1, ERROR) if found else Expression("pow({0}, {1})", 2, 1e-5)
