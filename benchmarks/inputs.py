"""What the made networks are fed: standard normal images, random token numbers, masks that hide nothing.

Needs numpy only: engines that calibrate draw their samples here, in whatever venv they live.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

VOCABULARY = 8192
"""Smaller than BERT's 30,522: a lookup costs the same, the file is a quarter."""
CALIBRATION_SAMPLES = 16
CALIBRATION_SEED, VALIDATION_SEED = 1000, 2000
"""Neither is that of the input that is timed and judged."""


def drawn(random: np.random.Generator, name: str, shape: Sequence[int], *, is_float: bool) -> np.ndarray:
    """One input at random."""
    if is_float:
        return random.standard_normal(shape).astype(np.float32)
    return np.ones(shape, np.int64) if name.endswith("mask") else random.integers(0, VOCABULARY, shape)


def alike(feeds: Mapping[str, np.ndarray], count: int, seed: int) -> list[dict[str, np.ndarray]]:
    """``count`` other inputs of the same names, shapes and kinds, the same every time."""
    random = np.random.default_rng(seed)
    return [
        {name: drawn(random, name, a.shape, is_float=a.dtype.kind == "f") for name, a in feeds.items()}
        for _ in range(count)
    ]


def calibration(feeds: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """The samples on which every engine that quantises finds its ranges."""
    return alike(feeds, CALIBRATION_SAMPLES, CALIBRATION_SEED)
