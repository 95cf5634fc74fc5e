"""What all routines of this plugin have in common: the device they are made for, and how its values are stored."""

from __future__ import annotations

from softneuro_core.device import Target
from softneuro_core.routine import Routine
from softneuro_core.spec import FLOAT32, NCHW, NHWC, DType, Layout, TensorSpec
from softneuro_opencl.device import OpenCLDevice


class OpenCLRoutine(Routine):
    """A routine ``DEVICE/algorithm``: one object for every device found."""

    algorithm: str

    def __init__(self, device: str) -> None:
        self.name = f"{device}/{self.algorithm}"

    def stored(self, layout: Layout, dtype: DType = FLOAT32) -> TensorSpec:
        """On this device, float32 unless another type is named."""
        return TensorSpec(self.device, dtype, layout)

    @property
    def nhwc(self) -> TensorSpec:
        return self.stored(NHWC)

    @property
    def nchw(self) -> TensorSpec:
        return self.stored(NCHW)

    def opencl(self, target: Target) -> OpenCLDevice:
        """The device code is made for."""
        assert isinstance(target.device, OpenCLDevice)
        return target.device
