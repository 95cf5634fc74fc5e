"""The adapters of the zoo: one fault each, and the same adapter without it."""

from __future__ import annotations

import numpy as np

from softneuro_core.device import Target
from softneuro_core.graph import Value
from softneuro_core.routine import Adapter, FunctionKernel, Kernel
from softneuro_core.spec import FLOAT32, NCHW, Layout, TensorSpec

BLOCKED = Layout("NCHW8c")


class Block(Adapter):
    """NCHW to NCHW8c of float32; ``fault`` says how it is wrong."""

    def __init__(self, fault: str, wrong: bool) -> None:
        self.name = f"cpu/{'wrong' if wrong else 'right'}_{fault}"
        self.fault = fault if wrong else ""

    def accepts(self, src: TensorSpec, dst: TensorSpec, value: Value) -> bool:
        return src == TensorSpec("cpu", FLOAT32, NCHW) and dst == TensorSpec("cpu", FLOAT32, BLOCKED)

    def prepare(self, src: TensorSpec, dst: TensorSpec, value: Value, target: Target) -> Kernel:
        inside = BLOCKED.pack(np.ones(value.static_shape, bool))

        def block(x: np.ndarray, y: np.ndarray) -> None:
            np.copyto(y, BLOCKED.pack(np.nan_to_num(x) if self.fault == "cleans_nan" else x))
            if self.fault == "fills_padding":
                y[~inside] = 1

        return FunctionKernel(block)


ADAPTERS = {"fills_padding": "padding", "cleans_nan": "values"}
"""name -> check."""
