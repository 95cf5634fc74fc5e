"""The CPU linker: adjacent native steps become tables walked on the target's threads, Python calls in between.

One thread walks alone. With more, a crew helps; it serves one run at a time: a second Session running at the same
moment walks alone, with the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby

from softneuro_core.device import Target
from softneuro_core.routine import Call, NativeCall
from softneuro_cpu_numba.blas import keep_blas_to_one_thread
from softneuro_cpu_numba.steady import settle
from softneuro_cpu_numba.walk import Walk


def link(target: Target, calls: Sequence[Call]) -> Callable[[], None] | None:
    """The body of ``softneuro_link`` for ``cpu``: native runs walked, Python calls made in between.

    BLAS, in this process, keeps to one thread from here on."""
    if target.device.name != "cpu":
        return None
    keep_blas_to_one_thread()
    if not any(call.native for call in calls):
        return None
    pieces: list[Callable[[], None]] = []
    for native, group in groupby(calls, key=lambda call: call.native is not None):
        members = list(group)
        if not native:
            pieces += [call.run for call in members]
            continue
        steps = [call.native for call in members if call.native and call.native.tasks > 0]
        if steps:
            pieces.append(_walk(steps, target.threads, members))
    if len(pieces) == 1:
        return pieces[0]

    def run() -> None:
        for piece in pieces:
            piece()

    return run


def _walk(steps: Sequence[NativeCall], threads: int, members: Sequence[Call]) -> Walk:
    walk = Walk(steps, threads, members)
    if threads > 1:
        walk.ready = partial(settle, threads)
    return walk
