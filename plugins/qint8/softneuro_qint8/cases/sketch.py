"""Quantised graphs as the importer leaves them (weights folded to float32), for cases of the conformance kit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import helper

from softneuro_core.spec import QParams
from softneuro_core.testing.case import Case, uniform

Numbers = tuple[float, int, str]
"""Scale, zero point, type."""
SHARES = (1 / 255, -128, "int8")
"""For numbers from 0 to 1."""
UINT8, INT8, SHIFTED = (0.02, 131, "uint8"), (0.03, 0, "int8"), (0.025, -7, "int8")


class Sketch:
    """A quantised graph under construction; values are known by name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: dict[str, np.ndarray] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.qparams: dict[str, QParams] = {}

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def integers(self, numbers: Numbers, *shape: int) -> str:
        """A graph input of every number the type has."""
        name, limits = f"x{len(self.inputs)}", np.iinfo(numbers[2])
        self.inputs[name] = uniform(limits.min, limits.max, *shape, dtype=numbers[2], seed=len(self.inputs))
        return name

    def real(self, numbers: Numbers, *shape: int) -> str:
        """The same behind DequantizeLinear."""
        return self._known(self.layer("DequantizeLinear", self.integers(numbers, *shape), *self._two(numbers)), numbers)

    def on_grid(self, numbers: Numbers, *shape: int) -> str:
        """A float graph input that lies on the grid."""
        name = self.integers(numbers, *shape)
        self.inputs[name] = ((self.inputs[name].astype(np.float32) - numbers[1]) * np.float32(numbers[0])).astype("f4")
        return self._known(name, numbers)

    def weights(self, *shape: int, axis: int = 0, per_channel: bool = True, dtype: str = "int8") -> str:
        """Channels on one of two scales, one twice the other, and even numbers of at most 62: so the weights still lie
        on the grid when the kit moves them all on by some places."""
        rng = np.random.default_rng(list(shape))
        whole, channels = 2 * rng.integers(-31, 32, shape), shape[axis]
        scales = np.where(np.arange(channels) % 2, 0.004, 0.002) if per_channel else np.array(0.003)
        scales = scales.astype(np.float32)
        along = np.reshape(scales, [-1 if a == axis else 1 for a in range(len(shape))]) if per_channel else scales
        name = self.constant((whole * along).astype(np.float32))
        zeros = np.full(np.shape(scales), 0 if dtype == "int8" else 128, dtype)
        self.qparams[name] = QParams(scales, zeros, axis if per_channel else None, True)
        return name

    def bias(self, channels: int) -> str:
        return self.constant(uniform(-1, 1, channels))

    def layer(self, op: str, *operands: str, **attrs: Any) -> str:
        name = f"y{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, operands, [name], **attrs))
        return name

    def laid(self, numbers: Numbers, *shape: int) -> str:
        """A float graph input a plan may round; what the kit puts in lies on the grid, so that nothing is lost."""
        name = self.on_grid(numbers, *shape)
        self.qparams[name] = _qparams(numbers)
        return name

    def may_be_rounded(self, name: str, numbers: Numbers = UINT8) -> None:
        """Of a result, and of all weights."""
        self.qparams[name] = _qparams(numbers)
        self.qparams |= {n: replace(q, on_grid=False) for n, q in self.qparams.items() if n in self.constants}

    def quantised(self, name: str, numbers: Numbers = INT8) -> None:
        made = self.layer("QuantizeLinear", name, *self._two(numbers))
        self.qparams[made] = _qparams(numbers)

    def case(self, name: str) -> Case:
        return Case(name, tuple(self.nodes), self.inputs, self.constants, qparams=self.qparams)

    def _two(self, numbers: Numbers) -> tuple[str, str]:
        return self.constant(np.float32(numbers[0])), self.constant(np.array(numbers[1], numbers[2]))

    def _known(self, name: str, numbers: Numbers) -> str:
        self.qparams[name] = _qparams(numbers, on_grid=True)
        return name


def _qparams(numbers: Numbers, on_grid: bool = False) -> QParams:
    return QParams(np.array(numbers[0], np.float32), np.array(numbers[1], numbers[2]), None, on_grid)
