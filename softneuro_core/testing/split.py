"""A native step done as several threads do it: in parts, out of order, each part on some thread's own scratch."""

from __future__ import annotations

import ctypes

import numpy as np

from softneuro_core.routine import NativeCall

PARTS, THREADS = 7, 2
ALIGNMENT = 64
KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


def run_in_parts(step: NativeCall, poison: int) -> None:
    """Every task of the step once. Scratch holds ``poison`` bytes, but for the word a linker sets to zero."""
    rng = np.random.default_rng(0)
    cuts = rng.choice(np.arange(1, step.tasks), min(PARTS, step.tasks) - 1, replace=False)
    ends = [0, *sorted(int(cut) for cut in cuts), step.tasks]
    scratch = [_scratch(step.scratch_bytes, poison) for _ in range(THREADS)]
    function = KERNEL(step.address)
    for number, part in enumerate(rng.permutation(len(ends) - 1)):
        own = scratch[number % THREADS]
        function(step.args.ctypes.data, ends[part], ends[part + 1], own.ctypes.data)


def _scratch(size: int, poison: int) -> np.ndarray:
    room = np.full(max(size, 8) + ALIGNMENT, poison, np.uint8)
    begin = -room.ctypes.data % ALIGNMENT
    room[begin : begin + 8] = 0
    return room[begin:]
