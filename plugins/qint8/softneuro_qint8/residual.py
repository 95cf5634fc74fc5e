"""A value on a grid that a product adds to its sums before it rounds them."""

from __future__ import annotations

from dataclasses import dataclass

from softneuro_cpu_numba.native import Argument, In

from softneuro_qint8.numbers import Grid, Requantise
from softneuro_qint8.regions import Between

FIRST = In(0)


@dataclass(frozen=True, slots=True)
class Residual:
    """``value`` lies as the result does."""

    value: In
    grid: Grid

    @staticmethod
    def of(between: Between) -> Residual | None:
        """The second source of a region, if it has one."""
        return Residual(In(between.places[1]), between.sources[1]) if between.sources[1:] else None


def added_words(residual: Residual | None, finish: Requantise | None) -> tuple[Argument, ...]:
    """What ``emit.finish.ADDED`` names."""
    if residual is None or finish is None:
        return None, 0, 0.0
    return residual.value, residual.grid.zero, residual.grid.scale / finish.target.grid.scale
