"""Conversions every device gets for free: layouts and casts on the host, transfers from and to any device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from softneuro_core.device import Buffer, Target
from softneuro_core.graph import Value
from softneuro_core.routine import Adapter, AnyBuffer, Call, FunctionKernel, Kernel
from softneuro_core.spec import DType, TensorSpec


class Relayout(Adapter):
    """Any layout to any other on the host, same dtype: a numpy copy, or a gather where blocks are involved."""

    name = "cpu/relayout"

    def accepts(self, src: TensorSpec, dst: TensorSpec, value: Value) -> bool:
        return src.device == dst.device == "cpu" and src.dtype == dst.dtype and src.layout != dst.layout

    def prepare(self, src: TensorSpec, dst: TensorSpec, value: Value, target: Target) -> Kernel:
        shape = value.static_shape
        if src.layout.blocks(len(shape)) or dst.layout.blocks(len(shape)):
            return _gather_kernel(src, dst, shape)
        undo = np.argsort(src.layout.permutation(len(shape)))
        order = tuple(int(undo[axis]) for axis in dst.layout.permutation(len(shape)))
        return FunctionKernel(lambda x, y: np.copyto(y, x.transpose(order)))


def _gather_kernel(src: TensorSpec, dst: TensorSpec, shape: Sequence[int]) -> Kernel:
    """Flat source index of every stored element of the target; padding lanes read index 0 and are zeroed after."""
    flat = np.arange(1, int(np.prod(src.layout.storage_shape(shape), dtype=np.int64)) + 1)
    plain = src.layout.unpack(flat.reshape(src.layout.storage_shape(shape)), shape)
    index = dst.layout.pack(plain) - 1
    padding = np.flatnonzero(index.reshape(-1) < 0)
    index[index < 0] = 0

    def gather(x: np.ndarray, y: np.ndarray) -> None:
        np.take(x.reshape(-1), index, out=y, mode="clip")
        if padding.size:
            y.reshape(-1)[padding] = 0

    return FunctionKernel(gather)


class Cast(Adapter):
    """Between float storage types on the host, same layout."""

    name = "cpu/cast"

    def accepts(self, src: TensorSpec, dst: TensorSpec, value: Value) -> bool:
        floats = src.dtype.is_float and dst.dtype.is_float and src.dtype != dst.dtype
        return src.device == dst.device == "cpu" and floats and src.layout == dst.layout

    def prepare(self, src: TensorSpec, dst: TensorSpec, value: Value, target: Target) -> Kernel:
        return FunctionKernel(lambda x, y: np.copyto(y, x, casting="unsafe"))

    def error(self, src: TensorSpec, dst: TensorSpec, value: Value) -> float:
        return _rounding(dst.dtype) if _rounding(dst.dtype) > _rounding(src.dtype) else 0.0


def _rounding(dtype: DType) -> float:
    """Half a unit in the last place, relative."""
    bits = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}.get(dtype.name, 4)
    return 2.0**-bits


class Transfer(Adapter):
    """Between the host and any other device, dtype and layout unchanged: by the device's own copies, or, where the
    device shares the host's memory, by lying in the same place (``softneuro_core.slots``)."""

    name = "cpu/transfer"

    def accepts(self, src: TensorSpec, dst: TensorSpec, value: Value) -> bool:
        same = src.dtype == dst.dtype and src.layout == dst.layout
        return same and src.device != dst.device and "cpu" in (src.device, dst.device)

    def prepare(self, src: TensorSpec, dst: TensorSpec, value: Value, target: Target) -> Kernel:
        return TransferKernel()


class TransferKernel:
    """Upload or download, whichever side is the host; a download waits for the device (``Device.download``). Nothing
    where both sides are the same bytes."""

    scratch = 0
    constant_bytes = 0

    def bind(self, inputs: Sequence[AnyBuffer], outputs: Sequence[AnyBuffer], scratch: Buffer | None) -> Call:
        source, target = inputs[0], outputs[0]
        assert isinstance(source, Buffer) and isinstance(target, Buffer)
        if source.device.home == target.device.home and source.address == target.address:
            return Call(lambda: None)
        if target.device.name == "cpu":
            array = target.array
            return Call(lambda: source.device.download(source, array))
        array = source.array
        return Call(lambda: target.device.upload(target, array))


ADAPTERS = (Relayout, Cast, Transfer)
