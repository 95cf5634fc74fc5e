"""A plugin with a Relu that works on int8 steps of a real value, a wrong one, and adapters to and from int8."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from softneuro_core.device import Target
from softneuro_core.encoding import decode, encode
from softneuro_core.graph import Region, Value
from softneuro_core.hookspecs import hookimpl
from softneuro_core.routine import Adapter, FunctionKernel, Kernel, Offer, Routine
from softneuro_core.spec import FLOAT32, INT8, TensorSpec, host


class QuantisedRelu(Routine):
    """``extra`` steps too many are added to every result."""

    pattern = ("Relu",)

    def __init__(self, name: str, extra: int) -> None:
        self.name, self.extra = name, extra

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        if all(v.qparams is not None for v in region.inputs + region.outputs):
            yield Offer((host(INT8),), (host(INT8),), accuracy=1)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        source, result = region.inputs[0], region.outputs[0]

        def relu(x: np.ndarray, y: np.ndarray) -> None:
            y[...] = encode(np.maximum(decode(x, source, host(INT8)), 0), result, host(INT8)) + np.int8(self.extra)

        return FunctionKernel(relu)


class Quantise(Adapter):
    name = "cpu/quantise"

    def accepts(self, src: TensorSpec, dst: TensorSpec, value: Value) -> bool:
        return {src, dst} == {host(FLOAT32), host(INT8)} and value.qparams is not None

    def prepare(self, src: TensorSpec, dst: TensorSpec, value: Value, target: Target) -> Kernel:
        convert = encode if dst.dtype is INT8 else decode
        return FunctionKernel(lambda x, y: np.copyto(y, convert(x, value, host(INT8))))

    def error(self, src: TensorSpec, dst: TensorSpec, value: Value) -> float:
        return 1e-2 if dst.dtype is INT8 else 0.0


@hookimpl
def softneuro_routines() -> list[Routine]:
    return [QuantisedRelu("cpu/q_relu", 0), QuantisedRelu("cpu/q_wrong", 2)]


@hookimpl
def softneuro_adapters() -> list[Adapter]:
    return [Quantise()]
