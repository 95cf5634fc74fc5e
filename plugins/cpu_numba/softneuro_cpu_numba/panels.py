"""The columns of a constant factor cut into panels as wide as a register tile, and their packing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from softneuro_core.spec import DType
from softneuro_cpu_numba.copies import strided_copy
from softneuro_cpu_numba.native import packed


@dataclass(frozen=True, slots=True)
class Panels:
    """Columns cut into panels: ``wide`` of ``vectors`` vectors, the others of one. The last ones may overlap, so that
    no panel is part full; each column is written with the same value by both."""

    starts: tuple[int, ...]
    wide: int
    vectors: int
    lanes: int

    def widths(self) -> list[int]:
        return [self.vectors * self.lanes if i < self.wide else self.lanes for i in range(len(self.starts))]

    @property
    def columns(self) -> int:
        """Columns computed: the cost."""
        return sum(self.widths())

    def pack(self, matrix: np.ndarray, dtype: str = "float32") -> np.ndarray:
        """[groups, K, N], or [groups, taps, channels, N] with K = taps * channels, as [groups][panel][K][width] in
        ``dtype``, zeros behind N; a strided view does as well as an array."""
        source = matrix if matrix.ndim == 4 else matrix[:, None]
        groups, taps, channels, _ = source.shape
        shape, kind = (groups, taps * channels * self.columns), DType.parse(dtype).numpy
        return packed(("panels", self, dtype), matrix, shape, kind, lambda made: self.fill(made, source))

    def fill(self, made: np.ndarray, source: np.ndarray) -> None:
        """Writes [groups, taps, channels, N] into the panels of ``made``."""
        groups, taps, channels, _ = source.shape
        k, width, whole = taps * channels, self.vectors * self.lanes, self._regular()
        place = made[:, : whole * k * width].reshape(groups, whole, taps, channels, width)
        regular = source[..., : whole * width].reshape(groups, taps, channels, whole, width)
        strided_copy(place, regular.transpose(0, 3, 1, 2, 4))
        at = whole * k * width
        for start, width in list(zip(self.starts, self.widths(), strict=True))[whole:]:
            part = source[..., start : start + width]
            place = made[:, at : at + k * width].reshape(groups, taps, channels, width)
            place[..., part.shape[-1] :] = 0
            strided_copy(place[..., : part.shape[-1]], part)
            at += k * width

    def _regular(self) -> int:
        """Panels in front that are wide and do not overlap."""
        width = self.vectors * self.lanes
        return sum(1 for i, start in enumerate(self.starts[: self.wide]) if start == i * width)


def cut(columns: int, vectors: int, lanes: int) -> Panels:
    """Panels over ``columns``; fewer columns than lanes make one masked panel."""
    width = vectors * lanes
    wide = columns // width if vectors > 1 else 0
    rest = columns - wide * width
    starts = [i * width for i in range(wide)]
    if wide and rest > (vectors - 1) * lanes:
        return Panels((*starts, columns - width), wide + 1, vectors, lanes)
    last = max(0, columns - lanes)
    narrow = [min(wide * width + i * lanes, last) for i in range(-(-rest // lanes))]
    return Panels((*starts, *narrow), wide, vectors, lanes)
