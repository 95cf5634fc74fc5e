"""What a value's elements are as a spec stores them, and back: rounding onto grids as QuantizeLinear does it."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from softneuro_core.errors import InputError
from softneuro_core.graph import Value
from softneuro_core.spec import OBJECT, TensorSpec


def is_quantised(dtype: np.dtype) -> bool:
    """Whether elements of this storage type are whole steps (4-bit types included, bool not)."""
    return dtype.kind in "iu" or (dtype.kind == "V" and "float" not in dtype.name)


def needs_quantising(value: Value, spec: TensorSpec) -> bool:
    """Whether ``spec`` stores a real value as integers."""
    return spec.dtype is not OBJECT and value.dtype.is_float and is_quantised(spec.dtype.numpy)


def encode(array: np.ndarray, value: Value, spec: TensorSpec) -> np.ndarray:
    """``array`` (ONNX order, the value's dtype) in the element type of ``spec``; still in ONNX order.

    A quantised spec of a real value uses the value's numbers as ONNX QuantizeLinear does: divide by the float32
    scale, round half to even, add the zero point, saturate. Raises :class:`InputError` if they are missing.
    """
    array = np.asarray(array)
    if not needs_quantising(value, spec):
        with np.errstate(over="ignore"):  # float16 overflows to infinity as the kernels' own conversion does
            return array.astype(spec.dtype.numpy, copy=False)
    scale, zero = _numbers(value, spec, array.ndim)
    steps = np.rint(array.astype(np.float32) / scale) + zero
    return np.clip(steps, *_integer_limits(spec.dtype.numpy)).astype(spec.dtype.numpy)


def decode(array: np.ndarray, value: Value, spec: TensorSpec) -> np.ndarray:
    """What elements stored as ``spec`` mean, in the value's dtype and ONNX order: the inverse of :func:`encode`."""
    array = np.asarray(array)
    if not needs_quantising(value, spec):
        return array.astype(value.dtype.numpy, copy=False)
    scale, zero = _numbers(value, spec, array.ndim)
    return ((array.astype(np.float32) - zero.astype(np.float32)) * scale).astype(value.dtype.numpy)


def _numbers(value: Value, spec: TensorSpec, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale (float32) and zero point (float64) shaped to broadcast over a tensor of this rank."""
    if value.qparams is None:
        raise InputError(f"value {value.name!r} has no scale and zero point", remedy=f"{spec} needs them")
    scale = _along(np.asarray(value.qparams.scale, np.float32), value.qparams.axis, rank)
    return scale, _along(np.asarray(value.qparams.zero_point).astype(np.float64), value.qparams.axis, rank)


def _along(numbers: np.ndarray, axis: int | None, rank: int) -> np.ndarray:
    if axis is None:
        return numbers.reshape(())
    return numbers.reshape([-1 if a == axis % rank else 1 for a in range(rank)])


def _integer_limits(dtype: np.dtype) -> tuple[int, int]:
    info = np.iinfo(dtype) if dtype.kind in "iu" else ml_dtypes.iinfo(dtype)
    return int(info.min), int(info.max)
