"""Conversions on the CPU: plain and channels-last storage of any element type, float32 and bfloat16 in one layout."""

from __future__ import annotations

import math

from softneuro_core.device import Target
from softneuro_core.graph import Value
from softneuro_core.routine import EXACT, Adapter, Kernel
from softneuro_core.spec import BFLOAT16, FLOAT32, NCHW, NHWC, TensorSpec
from softneuro_core.windows import storage_strides
from softneuro_cpu_numba.copies import MOVABLE_SIZES, Block, copy_kernel, is_expressible
from softneuro_cpu_numba.emit.isa import isa_of
from softneuro_cpu_numba.movement import nest
from softneuro_cpu_numba.native import In, NativeKernel, Out, emitted_address
from softneuro_cpu_numba.storage import BFLOAT_ERROR


class ToOtherLayout(Adapter):
    """NCHW <-> NHWC on the CPU; 8x8 blocks are transposed in registers."""

    name = "cpu/transpose_layout"

    def accepts(self, src: TensorSpec, dst: TensorSpec, value: Value) -> bool:
        if src.device != "cpu" or dst.device != "cpu" or src.dtype is not dst.dtype or value.is_object:
            return False
        if {src.layout, dst.layout} != {NCHW, NHWC} or len(value.static_shape) < 3 or 0 in value.static_shape:
            return False
        return src.dtype.itemsize in MOVABLE_SIZES and is_expressible([_block(src, dst, value)])

    def prepare(self, src: TensorSpec, dst: TensorSpec, value: Value, target: Target) -> Kernel:
        return copy_kernel([_block(src, dst, value)], src.dtype.itemsize)


CAST_ELEMENTS = 8192
"""Of a task: 48 KB read and written, some microseconds of work."""


class CastBfloat(Adapter):
    """float32 <-> bfloat16 on the CPU, layout unchanged."""

    name = "cpu/cast_bfloat16"

    def accepts(self, src: TensorSpec, dst: TensorSpec, value: Value) -> bool:
        on_cpu = src.device == dst.device == "cpu" and src.layout == dst.layout
        return on_cpu and {src.dtype, dst.dtype} == {FLOAT32, BFLOAT16} and 0 not in value.static_shape

    def prepare(self, src: TensorSpec, dst: TensorSpec, value: Value, target: Target) -> Kernel:
        count = math.prod(src.layout.storage_shape(value.static_shape))
        address = emitted_address("cast", "elements", isa_of(target), source=src.dtype.name, out=dst.dtype.name)
        return NativeKernel(address, (In(0), Out(0), count, CAST_ELEMENTS), -(-count // CAST_ELEMENTS))

    def error(self, src: TensorSpec, dst: TensorSpec, value: Value) -> float:
        return BFLOAT_ERROR if dst.dtype is BFLOAT16 else EXACT


def _block(src: TensorSpec, dst: TensorSpec, value: Value) -> Block:
    shape = value.static_shape
    return Block(nest(shape, storage_strides(src.layout, shape), storage_strides(dst.layout, shape)), 0)
