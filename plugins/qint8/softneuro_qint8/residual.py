"""A value on a grid that a product adds to its sums before it rounds them."""

from __future__ import annotations

from dataclasses import dataclass

from softneuro_cpu_numba.native import Argument, In

from softneuro_qint8.numbers import Grid, Requantise

FIRST = In(0)


@dataclass(frozen=True, slots=True)
class Residual:
    """``value`` lies as the result does."""

    value: In
    grid: Grid


def added_words(residual: Residual | None, finish: Requantise | None) -> tuple[Argument, ...]:
    """What ``emit.finish.ADDED`` names."""
    if residual is None or finish is None:
        return None, 0, 0.0
    return residual.value, residual.grid.zero, residual.grid.scale / finish.target.grid.scale
