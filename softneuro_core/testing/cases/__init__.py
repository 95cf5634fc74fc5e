"""The case table: ONNX operators at the shapes where kernels go wrong. One table for test, perf, support and check.

Sizes stand around vector widths (1, 3, 7, 8, 16, 17), tensors are small, and every operator has one ``big`` case so
that allocations show.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from softneuro_core.testing.case import Case


@cache
def all_cases() -> tuple[Case, ...]:
    """Every case of the kit, built once per process; names are unique."""
    found = tuple(_tables())
    names = [case.name for case in found]
    assert len(set(names)) == len(names), sorted({n for n in names if names.count(n) > 1})
    return found


def _tables() -> Iterator[Case]:
    from softneuro_core.testing.cases import fused, linear, movement, pointwise, quantised, recurrent, spatial

    for table in (spatial, pointwise, linear, recurrent, movement, quantised, fused):
        yield from table.cases()


def perf_cases() -> tuple[Case, ...]:
    """Those large enough for a time to mean something."""
    return tuple(case for case in all_cases() if case.name.endswith("-big"))
