"""Judges a result against the reference. Owns what "right" means; must not know kernels, devices or times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from softneuro_core.encoding import is_quantised

REFERENCE_ERROR = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 2e-6, "float64": 1e-12}
"""How far the reference itself may be from the truth, relative to its largest output, by the type it computes in."""


PIECE = 1 << 14
"""Elements compared at once. 33 million: 74 ms so, 428 with twice as many (buffers are then new pages each time),
2,058 with whole float64 copies, which were half of the time a 256 MB tensor's routines took to measure."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``error`` as :attr:`Offer.accuracy` counts it (None: nothing to compare with), ``reason`` None if all is well."""

    error: float | None
    reason: str | None = None


def judge(got: Any, expected: Any, accuracy: float, slack: float = 0.0, what: str = "the result") -> Verdict:
    """Compares one result with its reference: real outputs relative to the largest reference output, integers in
    steps, everything else exactly. A NaN or infinity the reference does not have is wrong; where the reference is NaN
    anything goes. ``slack`` is the reference's own error, granted unless the accuracy is exact."""
    if not isinstance(expected, np.ndarray) or not isinstance(got, np.ndarray):
        return _judge_object(got, expected, accuracy, slack, what)
    if got.shape != expected.shape:
        return Verdict(None, f"{what} has shape {list(got.shape)}, wanted {list(expected.shape)}")
    if got.dtype.kind in "OUS" or expected.dtype.kind in "OUS":
        return _judge_exactly(got, expected, what)
    if got.dtype.kind == "b":
        return _judge_exactly(got.view(np.uint8), np.ascontiguousarray(expected).astype(bool).view(np.uint8), what)
    if not got.size:
        return Verdict(0.0)
    if is_quantised(got.dtype):
        return _judge_steps(got, expected, accuracy, what)
    return _judge_reals(got, expected, accuracy, slack if accuracy else 0.0, what)


def _judge_exactly(got: np.ndarray, expected: np.ndarray, what: str) -> Verdict:
    wrong = int(np.count_nonzero(got != expected))
    return Verdict(0.0) if not wrong else Verdict(None, f"{what} differs in {wrong} of {got.size} elements")


def _judge_steps(got: np.ndarray, expected: np.ndarray, accuracy: float, what: str) -> Verdict:
    if got.dtype.itemsize < 8:
        distance = np.abs(got.astype(np.int64) - expected.astype(np.int64))
        error = float(distance.max())
    else:  # 64-bit differences may not fit: equal or not, then as reals
        error = float(np.abs(got.astype(np.float64) - expected.astype(np.float64)).max())
        error = max(error, 1.0) if bool((got != expected).any()) else 0.0
    if error <= accuracy:
        return Verdict(error)
    return Verdict(error, f"{what} is off by up to {error:g} steps, allowed {np.floor(accuracy):g}")


def _judge_reals(got: np.ndarray, expected: np.ndarray, accuracy: float, slack: float, what: str) -> Verdict:
    total = _Differences()
    with np.errstate(invalid="ignore"):  # infinity less infinity
        for mine, truth in _blocks(got, expected):
            total.add(mine, truth)
    if total.lost:
        return Verdict(None, f"{what} has NaN in {total.lost} of {got.size} elements where the reference has none")
    if total.wrong:
        return Verdict(None, f"{what} is infinite, or should be, in {total.wrong} of {got.size} elements")
    error = total.distance / total.largest if total.largest else (0.0 if not total.distance else float("inf"))
    if error <= accuracy + slack:
        return Verdict(error)
    return Verdict(error, f"{what} is off by {error:.2g} of its largest element, allowed {accuracy:.2g}")


def _blocks(got: np.ndarray, expected: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Both, widened, a piece at a time."""
    wide = np.complex128 if got.dtype.kind == "c" else np.float64
    yield from np.nditer(
        (got, expected), ["external_loop", "buffered"], op_dtypes=[wide, wide], casting="unsafe", buffersize=PIECE
    )


@dataclass(slots=True)
class _Differences:
    """What the pieces compared so far came to. ``lost``: NaN where the truth has none; ``wrong``: infinities."""

    lost: int = 0
    wrong: int = 0
    largest: float = 0.0
    distance: float = 0.0

    def add(self, mine: np.ndarray, truth: np.ndarray) -> None:
        largest, distance = np.abs(truth).max(), np.abs(mine - truth).max()
        if not (np.isfinite(largest) and np.isfinite(distance)):
            known = ~np.isnan(truth)
            finite = known & np.isfinite(truth)
            self.lost += int(np.count_nonzero(np.isnan(mine) & known))
            infinite = known & ~finite & (mine != truth)
            self.wrong += int(np.count_nonzero(infinite | (finite & ~np.isfinite(mine))))
            largest = np.abs(truth[finite]).max(initial=0.0)
            distance = np.abs(mine[finite] - truth[finite]).max(initial=0.0)
        self.largest, self.distance = max(self.largest, float(largest)), max(self.distance, float(distance))


def _judge_object(got: Any, expected: Any, accuracy: float, slack: float, what: str) -> Verdict:
    if isinstance(expected, (list, tuple)) and isinstance(got, (list, tuple)):
        if len(got) != len(expected):
            return Verdict(None, f"{what} has {len(got)} items, wanted {len(expected)}")
        return judge_all(got, expected, accuracy, slack, what)
    if isinstance(expected, dict) and isinstance(got, dict):
        if got.keys() != expected.keys():
            return Verdict(None, f"{what} has other keys")
        return judge_all(list(got.values()), [expected[k] for k in got], accuracy, slack, what)
    if isinstance(expected, (np.ndarray, np.generic, float, int)) and isinstance(
        got, (np.ndarray, np.generic, float, int)
    ):
        return judge(np.asarray(got), np.asarray(expected), accuracy, slack, what)
    same = type(got) is type(expected) and bool(got == expected)
    return Verdict(0.0) if same else Verdict(None, f"{what} is {type(got).__name__}, wanted {type(expected).__name__}")


def judge_all(
    got: Sequence[Any], expected: Sequence[Any], accuracy: float, slack: float = 0.0, what: str = "output"
) -> Verdict:
    """The worst verdict over several results; ``expected`` may hold None for one that is not known."""
    errors = []
    for number, (mine, truth) in enumerate(zip(got, expected, strict=True)):
        if truth is None:
            continue
        verdict = judge(mine, truth, accuracy, slack, f"{what} {number}")
        if verdict.reason is not None:
            return verdict
        errors.append(verdict.error or 0.0)
    return Verdict(max(errors) if errors else None)
