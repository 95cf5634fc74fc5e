"""Constant factors kept as int16, a row of each panel counting what its largest number needs (block floating point:
Wilkinson, Rounding Errors in Algebraic Processes, 1963): half the bytes to read at about the error of Winograd F(6x6).
"""

from __future__ import annotations

import numpy as np

from softneuro_cpu_numba.copies import strided_copy
from softneuro_cpu_numba.epilogues import SATURATING, Activation
from softneuro_cpu_numba.native import packed
from softneuro_cpu_numba.panels import Panels

ERROR = 7e-5
MOST_ROUNDING = 3.5e-5
"""Rounding of the weights relative to them, root mean squares, up to which the error declared holds with a margin: of
normally distributed numbers 2.4e-5, of trained layers 2.4e-5 to 5.9e-5 (MobileNetV2's classifier 2.5e-5)."""
LEAST_WEIGHTS = 1 << 16
"""Fewer stay in the second-level cache, where widening them takes as long as reading them as they are."""
LARGEST = 32767
SAMPLED_ROWS = 64


def suits(matrix: np.ndarray, width: int, activation: Activation) -> bool:
    """Whether [K, N] may be kept so in panels of ``width``: large enough, finite, and in most rows no few numbers are
    far above all others (seen on some rows: what is wrong for the rest, measuring finds). Not before an activation that
    keeps results far below the largest sum, of which the error is a part."""
    if activation.kind in SATURATING or (activation.kind == "clip" and activation.p1 < np.inf):
        return False
    if matrix.size < LEAST_WEIGHTS or not np.isfinite((matrix.min(), matrix.max())).all():
        return False
    return rounding(matrix[:: 1 + len(matrix) // SAMPLED_ROWS], width) <= MOST_ROUNDING


def rounding(rows: np.ndarray, width: int) -> float:
    """Expected rounding of [K, N] in panels of ``width``, relative to the numbers, root mean squares."""
    starts = np.arange(0, rows.shape[1], width)
    steps = np.maximum.reduceat(np.abs(rows), starts, axis=1) / np.float64(LARGEST)
    numbers = np.mean(np.square(rows, dtype=np.float64))
    return float(np.sqrt(np.mean(np.square(steps)) / 12 / numbers)) if numbers else 0.0


def pack_short(panels: Panels, matrix: np.ndarray) -> np.ndarray:
    """[1, K, N] as int16 [panel][K][width], then as float32 [panel][K] what the integers of a row count."""
    _, k, _ = matrix.shape
    shape = (k * (panels.columns + 2 * len(panels.starts)),)
    return packed(("short panels", panels), matrix, shape, np.dtype(np.int16), lambda made: _fill(made, panels, matrix))


def _fill(made: np.ndarray, panels: Panels, matrix: np.ndarray) -> None:
    k = matrix.shape[1]
    integers, units = made[: k * panels.columns], made[k * panels.columns :].view(np.float32).reshape(-1, k)
    at = 0
    for number, (start, width) in enumerate(zip(panels.starts, panels.widths(), strict=True)):
        part = matrix[0, :, start : start + width]
        largest = np.maximum(part.max(axis=1), -part.min(axis=1))
        units[number] = np.where(largest > 0, largest, 1) / np.float32(LARGEST)
        place = integers[at : at + k * width].reshape(k, width)
        place[:, part.shape[1] :] = 0
        strided_copy(place[:, : part.shape[1]], np.rint(part / units[number][:, None]).astype(np.int16))
        at += k * width
