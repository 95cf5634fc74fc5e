"""The tile of a Winograd convolution: what it covers of a window's image, what it costs and how exact it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from softneuro_core.cook_toom import Transform, filtered, phases, small_vectors, transform
from softneuro_core.windows import Window

ACCURACY = {4: 1e-5, 6: 5e-5, 8: 1e-4}
"""Largest error relative to the largest output, by the most products of one phase on a side: F(2, 3) has 4, F(4, 3) 6,
F(6, 3) 8. Seen on He weights and 16 to 1024 channels of rectified, normal, uniform and spiky inputs: 1.4e-6, 8.5e-6,
4.5e-5. The profiler holds every layer to it on its own values."""

Side = tuple[int, int, int]
"""Outputs, taps and stride."""


@dataclass(frozen=True, slots=True)
class Tile:
    """``down`` and ``along``: outputs, taps and stride of a tile's rows and of its columns."""

    down: Side
    along: Side

    @staticmethod
    def of(window: Window, m: int) -> Tile | None:
        """m outputs on every side with more than one tap (nothing is saved on the others); None if too inexact."""
        down, along = (
            (m if taps > 1 else 1, taps, stride) for taps, stride in zip(window.kernel, window.strides, strict=True)
        )
        tile = Tile(down, along)
        return tile if tile.products_a_side <= max(ACCURACY) else None

    @property
    def products_a_side(self) -> int:
        """The most of one phase."""
        return max(m + max(phases(taps, stride)) - 1 for m, taps, stride in (self.down, self.along))

    @property
    def accuracy(self) -> float:
        return min(error for products, error in ACCURACY.items() if self.products_a_side <= products)

    @property
    def vertical(self) -> Transform:
        return transform(*self.down)

    @property
    def horizontal(self) -> Transform:
        return transform(*self.along)

    @property
    def positions(self) -> int:
        """Products of one tile, channel and output channel."""
        return self.vertical.size * self.horizontal.size

    @property
    def products(self) -> float:
        """The same for one output."""
        return self.positions / (self.down[0] * self.along[0])

    @property
    def scratch_vectors(self) -> int:
        return small_vectors(self.vertical, self.horizontal)

    @property
    def pixels(self) -> int:
        """Input pixels under one tile."""
        return self.vertical.pixels * self.horizontal.pixels

    def fits(self, window: Window) -> bool:
        """Whether a whole tile lies inside the image on both sides."""
        sides = zip(window.out, (self.down, self.along), window.dilations, strict=True)
        return all(out >= m * dilation for out, (m, _, _), dilation in sides)

    def grid(self, window: Window) -> tuple[int, int]:
        """Rows and columns of tiles on each of the interleaved grids a dilation makes."""
        rows, columns = (
            -(-out // (side[0] * dilation))
            for out, side, dilation in zip(window.out, (self.down, self.along), window.dilations, strict=True)
        )
        return rows, columns

    def count(self, window: Window) -> int:
        """Tiles of one image."""
        rows, columns = self.grid(window)
        return rows * columns * window.dilations[0] * window.dilations[1]

    def filters(self, taps: np.ndarray) -> np.ndarray:
        """[positions, C, OC] of taps [r_y * r_x, C, OC]."""
        return filtered(self.vertical, self.horizontal, taps)
