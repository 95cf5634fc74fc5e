"""What all routines of this plugin have in common: the device they are made for, and how its values are stored."""

from __future__ import annotations

from collections.abc import Iterator

from softneuro_core.device import Target
from softneuro_core.graph import Value
from softneuro_core.routine import Routine
from softneuro_core.spec import FLOAT16, FLOAT32, NCHW, NHWC, DType, Layout, TensorSpec
from softneuro_opencl.device import OpenCLDevice

HALF_ERROR = 2e-3
"""Of factors rounded to 11 bits, relative to the largest result."""


def storage(spec: TensorSpec) -> dict[str, str]:
    """What kernels are told of how tensors lie (``common.cl``)."""
    return {"HALVES": ""} if spec.dtype is FLOAT16 else {}


def accuracy_in(spec: TensorSpec, accuracy: float) -> float:
    """The error of a routine so exact in float32, its tensors so stored."""
    return accuracy if spec.dtype is FLOAT32 else max(accuracy, HALF_ERROR)


def layouts_of(value: Value) -> tuple[Layout, ...]:
    """Those a value of its rank may have here."""
    return (NCHW, NHWC) if len(value.static_shape) >= 3 else (NCHW,)


class OpenCLRoutine(Routine):
    """A routine ``DEVICE/algorithm``: one object for every device found."""

    algorithm: str

    def __init__(self, device: str) -> None:
        self.name = f"{device}/{self.algorithm}"

    def stored(self, layout: Layout, dtype: DType = FLOAT32) -> TensorSpec:
        """On this device, float32 unless another type is named."""
        return TensorSpec(self.device, dtype, layout)

    def storages(self, *layouts: Layout) -> Iterator[TensorSpec]:
        """float32 and, where the user allows it, float16 on this device, in each of these layouts."""
        for dtype in (FLOAT32, FLOAT16):
            yield from (self.stored(layout, dtype) for layout in layouts)

    def opencl(self, target: Target) -> OpenCLDevice:
        """The device code is made for."""
        assert isinstance(target.device, OpenCLDevice)
        return target.device
