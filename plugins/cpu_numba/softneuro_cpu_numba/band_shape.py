"""The geometry of ``emit.band``: which input rows are copied under a stretch of output rows, and where windows begin in
the copy. In elements, so that bands of floats and of integers share it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from softneuro_core.windows import Window


@dataclass(frozen=True, slots=True)
class BandShape:
    """``step``: band rows (columns) between outputs; ``take``: input rows (columns) between those of the band, of which
    a strided 1x1 convolution skips some; ``reach``: band rows one output row reads; ``span``: columns of the band;
    ``channels``: of one group, as the band holds them."""

    window: Window
    channels: int
    step: tuple[int, int]
    take: tuple[int, int]
    reach: int
    span: int

    @staticmethod
    def of(window: Window, channels: int) -> BandShape:
        pointwise = window.kernel == (1, 1)
        step, take = ((1, 1), window.strides) if pointwise else (window.strides, (1, 1))
        down, along = ((k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True))
        return BandShape(window, channels, step, take, down, (window.out[1] - 1) * step[1] + along)

    def elements(self, rows: int) -> int:
        """Size of the band under so many output rows."""
        return ((rows - 1) * self.step[0] + self.reach) * self.span * self.channels

    def offsets(self, rows: int) -> np.ndarray:
        """Where the window of each output pixel begins."""
        y, x = np.divmod(np.arange(rows * self.window.out[1], dtype=np.int64), self.window.out[1])
        return (y * self.step[0] * self.span + x * self.step[1]) * self.channels

    def runs(self) -> tuple[int, np.ndarray]:
        """Elements of a run of a window, and where each begins: kernel rows where taps are neighbours, else taps."""
        (down, across), (kh, kw) = self.window.dilations, self.window.kernel
        taps = [(i * down * self.span + j * across) * self.channels for i in range(kh) for j in range(kw)]
        run, taps = (self.channels * kw, taps[::kw]) if across == 1 else (self.channels, taps)
        return run, np.array(taps, np.int64)

    def words(self, strides: tuple[int, int, int]) -> tuple[int, ...]:
        """``emit.band.WORDS``; ``strides`` are the input's between rows, columns and channels."""
        w = self.window
        return (*w.size, *w.pads[:2], self.reach, *self.step, *self.take, self.span, *strides)
