"""Convolution and matrix product of bfloat16 with constant weights: for a matrix unit what ``emit.bfloat`` is given,
for dot products of pairs what ``emit.conv`` is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from softneuro_core.device import Target
from softneuro_core.phases import Scatter
from softneuro_core.spec import BFLOAT16, DType
from softneuro_core.windows import Window
from softneuro_cpu_numba.emit.isa import isa_of
from softneuro_cpu_numba.epilogues import Activation
from softneuro_cpu_numba.matrix_rows import MatrixRows, padded
from softneuro_cpu_numba.native import Argument, In, NativeKernel, Out, emitted_address
from softneuro_cpu_numba.rows import RowProduct, activation_kind


@dataclass(frozen=True, slots=True, eq=False)
class BfloatRows:
    """y = windows(x) @ weights + bias, + residual, activated, stored as ``result``; x is input 0, NHWC or a matrix.

    ``residual`` is the number of the added input. ``planes``: x is float32 and NCHW, of few channels, and rounded on
    the way in. ``pitched``: as the offer says of the result. ``scatter``: as for :class:`RowProduct`. ``parts``: with
    two x is float32, and every factor counts as its sum of two of bfloat16 (on a matrix unit only).
    """

    window: Window
    weights: np.ndarray  # (taps, channels, outputs), perhaps a view
    bias: np.ndarray | None
    activation: Activation
    residual: int | None
    result: DType
    planes: bool = False
    pitched: bool = False
    scatter: Scatter | None = None
    parts: int = 1

    def on_vectors(self, target: Target) -> NativeKernel:
        """The prepared step for vector instructions; an even number of channels."""
        taps, channels, outputs = self.weights.shape
        pairs = np.empty((1, taps, channels // 2, outputs, 2), BFLOAT16.numpy)
        pairs[0, ..., 0], pairs[0, ..., 1] = self.weights[:, ::2], self.weights[:, 1::2]
        return RowProduct(
            pairs.view(np.float32)[..., 0],
            self.bias,
            self.activation,
            self.residual,
            window=replace(self.window, channels=channels // 2),
            pairs=True,
            result=self.result.name,
            scatter=self.scatter,
        ).kernel(target)

    def on_matrix_unit(self, target: Target) -> NativeKernel:
        """The prepared step for a matrix unit."""
        window, channels = self.window, self.window.channels
        words, outputs = -(-channels // 2), self.weights.shape[2]
        in_place = window.is_pointwise and not self.planes and self.scatter is None and self.parts == 1
        rows = MatrixRows(window, words, outputs, in_place, target.threads, self.scatter, self.parts)
        address = emitted_address(
            *("bfloat", "rows", isa_of(target)),
            tiles=rows.tiles,
            last=rows.last,
            source="planes" if self.planes else rows.source,
            planes=channels if self.planes else 0,
            act=activation_kind(self.activation),
            residual=self.residual is not None,
            stored=self.result.name,
        )
        height, width = window.size
        pixel = rows.words if self.parts == 1 else channels
        x_image, strides = pixel * width * height, (pixel * width, pixel, 1)
        if self.planes:
            x_image, strides = channels * height * width, (width, 1, height * width)
        args: list[Argument] = [
            *(In(0), rows.pack(self.weights, BFLOAT16.numpy), padded(self.bias, rows.columns, np.float32)),
            *(None if self.residual is None else In(self.residual), Out(0)),
            *(rows.config(), *rows.words_of(x_image, self.pitched)),
            *(self.activation.p0, self.activation.p1),
            *(() if rows.in_place else rows.band.words(strides)),
        ]
        return NativeKernel(address, tuple(args), rows.tasks, rows.scratch)
