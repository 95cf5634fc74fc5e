"""How wrong a result is, and what the right one would have been: in float64 wherever the operators allow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from softneuro_core.builtin.reference import evaluate
from softneuro_core.encoding import encode
from softneuro_core.errors import RunError, SoftneuroError
from softneuro_core.graph import Value
from softneuro_core.operators import Operator
from softneuro_core.spec import TensorSpec
from softneuro_core.testing.case import Case

FLOAT32_SLACK = 1e-5
"""Added to what a routine may err where the reference itself had to compute in float32."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The results of a case, parallel to ``region.outputs``, and how far they may be off themselves."""

    arrays: tuple[np.ndarray, ...]
    slack: float


def expected(case: Case, operators: Mapping[str, Operator] | None = None) -> Expected:
    """What ONNX says of the case; raises what the reference raises."""
    shapes = [v.static_shape for v in case.region(operators).outputs]
    for wide in _widened(case):
        try:
            arrays = _evaluate(wide, operators)
        except (SoftneuroError, ValueError, TypeError, KeyError, RuntimeError):
            continue  # the operator has no double form: the next best is tried
        if [a.shape for a in arrays] == shapes:
            return Expected(tuple(arrays), 0.0)
    has_float = any(a.dtype.kind == "f" for a in (*case.inputs.values(), *case.constants.values()))
    arrays = _evaluate(case, operators)
    if (made := [a.shape for a in arrays]) != shapes:
        raise RunError(f"the reference of {case.name} has shapes {made}, ONNX infers {shapes}")
    return Expected(tuple(arrays), FLOAT32_SLACK if has_float else 0.0)


def _widened(case: Case) -> Iterator[Case]:
    from dataclasses import replace

    double = case.astype(np.dtype(np.float64))
    if any(a.dtype == np.float64 for a in (*double.inputs.values(), *double.constants.values())):
        yield double
        yield replace(case, inputs=double.inputs)


def _evaluate(case: Case, operators: Mapping[str, Operator] | None) -> list[np.ndarray]:
    region = case.region(operators)
    with np.errstate(all="ignore"):
        made = evaluate(region, case.arrays(region), operators)
    return [np.asarray(a) for a in made]


@dataclass(frozen=True, slots=True)
class Error:
    """``relative`` is the largest error by the largest output (for integers: in steps); ``problem`` is None if
    that is within what was declared."""

    relative: float
    nmse: float
    problem: str | None


def compare(
    actual: np.ndarray, wanted: np.ndarray, value: Value, spec: TensorSpec, accuracy: float, slack: float = 0.0
) -> Error:
    """Judges one result, given in the element type of ``spec`` and ONNX order, by a float64 (or integer) one."""
    if actual.shape != wanted.shape:
        return Error(np.inf, np.inf, f"has shape {actual.shape}, wanted {wanted.shape}")
    if not spec.dtype.is_float:
        return _compare_steps(actual, encode(wanted, value, spec), accuracy)
    with np.errstate(all="ignore"):
        rounded = wanted.astype(spec.dtype.numpy).astype(np.float64)
        return _compare_reals(actual.astype(np.float64), wanted.astype(np.float64), rounded, spec, accuracy, slack)


def _compare_steps(actual: np.ndarray, wanted: np.ndarray, accuracy: float) -> Error:
    steps = np.abs(actual.astype(np.float64) - wanted.astype(np.float64))
    exact = actual.astype(object) != wanted.astype(object) if wanted.dtype.itemsize == 8 else steps > 0
    worst = float(steps.max(initial=0.0)) or float(np.any(exact))
    nmse = float((steps**2).sum() / max(1e-300, float((wanted.astype(np.float64) ** 2).sum())))
    if worst <= int(accuracy):
        return Error(worst, nmse, None)
    text = f"is {worst:g} steps off at {_where(steps)}, declared {int(accuracy)}"
    return Error(worst, nmse, f"{text} ({int(np.count_nonzero(exact))} of {steps.size} differ)")


def _compare_reals(
    actual: np.ndarray, wanted: np.ndarray, rounded: np.ndarray, spec: TensorSpec, accuracy: float, slack: float
) -> Error:
    special = ~np.isfinite(rounded)
    same = np.where(special, (actual == rounded) | (np.isnan(actual) & np.isnan(rounded)), np.isfinite(actual))
    if not same.all():
        at = _where(~same)
        text = f"is {_at(actual, at)} at {at}, wanted {_at(rounded, at)}: NaN and infinity must come out as they should"
        return Error(np.inf, np.inf, text)
    goal = np.where(special, 0.0, rounded if accuracy == 0 else wanted)
    error = np.abs(np.where(special, 0.0, actual) - goal)
    scale = float(np.abs(goal).max(initial=0.0)) or 1.0
    worst = float(error.max(initial=0.0)) / scale
    nmse = float((error**2).sum() / max(1e-300, float((goal**2).sum())))
    limit = 0.0 if accuracy == 0 else accuracy + slack + _half_step(spec)
    if worst <= limit:
        return Error(worst, nmse, None)
    at = _where(error)
    text = f"is {_at(actual, at)} at {at}, wanted {_at(goal, at)}: error {worst:.2e} of the largest output"
    return Error(worst, nmse, f"{text}, declared {accuracy:.1e} (NMSE {nmse:.1e})")


def _where(error: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(error)), error.shape)) if error.size else ()


def _at(array: np.ndarray, index: tuple[int, ...]) -> str:
    return f"{float(array[index]):.7g}"


def _half_step(spec: TensorSpec) -> float:
    """Rounding of the stored type, relative to the largest value."""
    finfo: Callable[[Any], Any] = ml_dtypes.finfo
    return float(finfo(spec.dtype.numpy).eps) / 2


def same_bits(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> str | None:
    """None, or where two lists of results differ in any bit."""
    for number, (a, b) in enumerate(zip(one, other, strict=True)):
        a8, b8 = (np.ascontiguousarray(x).view(np.uint8).reshape(-1) for x in (a.reshape(-1), b.reshape(-1)))
        if not np.array_equal(a8, b8):
            first = int(np.flatnonzero(a8 != b8)[0]) // a.itemsize
            at = tuple(int(i) for i in np.unravel_index(first, a.shape))
            return f"output {number} differs at {at}: {a[at]} and {b[at]}"
    return None
