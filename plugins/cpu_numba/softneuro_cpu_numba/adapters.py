"""Conversion between plain and channels-last storage, any element type; 8x8 blocks are transposed in registers."""

from __future__ import annotations

from softneuro_core.device import Target
from softneuro_core.graph import Value
from softneuro_core.routine import Adapter, Kernel
from softneuro_core.spec import NCHW, NHWC, TensorSpec
from softneuro_cpu_numba.copies import MOVABLE_SIZES, Block, copy_kernel, is_expressible
from softneuro_cpu_numba.movement import nest
from softneuro_cpu_numba.windows import storage_strides


class ToOtherLayout(Adapter):
    """NCHW <-> NHWC on the CPU."""

    name = "cpu/transpose_layout"

    def accepts(self, src: TensorSpec, dst: TensorSpec, value: Value) -> bool:
        if src.device != "cpu" or dst.device != "cpu" or src.dtype is not dst.dtype or value.is_object:
            return False
        if {src.layout, dst.layout} != {NCHW, NHWC} or len(value.static_shape) < 3 or 0 in value.static_shape:
            return False
        return src.dtype.itemsize in MOVABLE_SIZES and is_expressible([_block(src, dst, value)])

    def prepare(self, src: TensorSpec, dst: TensorSpec, value: Value, target: Target) -> Kernel:
        return copy_kernel([_block(src, dst, value)], src.dtype.itemsize)


def _block(src: TensorSpec, dst: TensorSpec, value: Value) -> Block:
    shape = value.static_shape
    return Block(nest(shape, storage_strides(src.layout, shape), storage_strides(dst.layout, shape)), 0)
