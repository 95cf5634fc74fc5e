"""What a stored tensor looks like: element type, layout, device.

Shapes are always in ONNX axis order; a layout only says how the elements lie in memory.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import ml_dtypes
import numpy as np
import onnx

from softneuro_core.errors import InputError

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DType:
    """An element type by its ONNX name in lower case, or ``object`` for values only the host can hold.

    ``numpy`` is the storage type (4-bit types take one byte, as in onnx's own arrays).
    """

    name: str
    numpy: np.dtype
    onnx: int

    def __str__(self) -> str:
        return self.name

    @property
    def itemsize(self) -> int:
        """Bytes of one stored element."""
        return self.numpy.itemsize

    @property
    def is_float(self) -> bool:
        return "float" in self.name

    @staticmethod
    def parse(name: str) -> DType:
        """The type called ``name``; raises :class:`InputError` listing the known names."""
        try:
            return DTYPES[name]
        except KeyError:
            raise InputError(f"unknown dtype {name!r}", remedy="one of " + ", ".join(DTYPES)) from None

    @staticmethod
    def from_onnx(element_type: int) -> DType:
        """The type of a ``TensorProto.DataType`` number; strings and undefined ones are ``object``."""
        return _BY_ONNX.get(element_type, OBJECT)

    @staticmethod
    def from_numpy(dtype: np.dtype) -> DType:
        """The type numpy calls ``dtype``; anything without an ONNX number is ``object``."""
        return _BY_NUMPY.get(np.dtype(dtype), OBJECT)


def _table() -> dict[str, DType]:
    table = {}
    for name, number in onnx.TensorProto.DataType.items():
        if name in ("UNDEFINED", "STRING"):
            continue
        lower = {"FLOAT": "float32", "DOUBLE": "float64"}.get(name, name.lower())
        table[lower] = DType(lower, np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number)), number)
    table["object"] = DType("object", np.dtype(object), 0)
    return table


DTYPES = _table()
_BY_ONNX = {d.onnx: d for d in DTYPES.values()}
_BY_NUMPY = {d.numpy: d for d in DTYPES.values()}
FLOAT32, FLOAT16, BFLOAT16, FLOAT64 = (DTYPES[n] for n in ("float32", "float16", "bfloat16", "float64"))
INT64, INT32, INT8, UINT8, BOOL = (DTYPES[n] for n in ("int64", "int32", "int8", "uint8", "bool"))
OBJECT = DTYPES["object"]
assert ml_dtypes.bfloat16 == BFLOAT16.numpy

_LAYOUT = re.compile(r"(?P<outer>[A-Z]+)(?P<inner>(?:\d+[a-z])*)")


@dataclass(frozen=True, slots=True)
class Layout:
    """How the axes lie in memory, outermost first: ``NCHW``, ``NHWC``, ``NCHW16c``, ``NHWC32c4w`` ...

    N is axis 0, C is axis 1, every other letter a spatial axis; a lower-case letter with a number is an
    inner block of that axis, padded up with zeros by whoever writes. The names are rank-generic: ``NCHW`` is
    plain ONNX order for any rank (a matrix, a scalar), ``NHWC`` puts axis 1 last for any rank of three or more.
    So a plugin invents layouts without the core knowing them.
    """

    axes: str

    def __post_init__(self) -> None:
        match = _LAYOUT.fullmatch(self.axes)
        outer = match["outer"] if match else ""
        inner = re.findall(r"[a-z]", match["inner"]) if match else []
        if not match or len(set(outer)) != len(outer) or any(a.upper() not in outer for a in inner):
            raise InputError(f"layout {self.axes!r} is not a permutation of axes with inner blocks")

    def __str__(self) -> str:
        return self.axes

    def permutation(self, rank: int) -> tuple[int, ...]:
        """ONNX axis numbers in storage order, outer axes only."""
        return _geometry(self.axes, rank)[0]

    def blocks(self, rank: int) -> tuple[tuple[int, int], ...]:
        """Inner blocks as (ONNX axis, size), outermost first."""
        return _geometry(self.axes, rank)[1]

    def storage_shape(self, shape: Sequence[int]) -> Shape:
        """Shape of the stored array, padding of blocked axes included."""
        order, blocks = _geometry(self.axes, len(shape))
        extent = list(shape)
        for axis, size in blocks:
            extent[axis] = -(-extent[axis] // size)
        return tuple(extent[a] for a in order) + tuple(size for _, size in blocks)

    def is_plain(self, rank: int) -> bool:
        """True if for this rank the storage is ONNX order itself."""
        order, blocks = _geometry(self.axes, rank)
        return not blocks and order == tuple(range(rank))

    def pack(self, array: np.ndarray) -> np.ndarray:
        """The stored array (C-contiguous, blocks zero-padded) of one in ONNX order."""
        order, blocks = _geometry(self.axes, array.ndim)
        if not blocks:
            return np.asarray(array.transpose(order), order="C")
        sizes = _block_sizes(array.ndim, blocks)
        padded = np.pad(array, [(0, -dim % size) for dim, size in zip(array.shape, sizes, strict=True)])
        split, outer, inner = _split_axes(padded.shape, order, blocks)
        return np.asarray(padded.reshape(split).transpose(outer + inner), order="C")

    def unpack(self, stored: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """The array in ONNX order of a stored one; ``shape`` tells where the padding ends."""
        order, blocks = _geometry(self.axes, len(shape))
        if not blocks:
            return np.asarray(stored.transpose(np.argsort(order)), order="C")
        sizes = _block_sizes(len(shape), blocks)
        padded = tuple(-(-dim // size) * size for dim, size in zip(shape, sizes, strict=True))
        _, outer, inner = _split_axes(padded, order, blocks)
        whole = stored.transpose(np.argsort(outer + inner)).reshape(padded)
        return np.asarray(whole[tuple(slice(0, dim) for dim in shape)], order="C")


def _block_sizes(rank: int, blocks: Sequence[tuple[int, int]]) -> list[int]:
    sizes = [1] * rank
    for axis, size in blocks:
        sizes[axis] *= size
    return sizes


def _split_axes(
    padded: Sequence[int], order: Sequence[int], blocks: Sequence[tuple[int, int]]
) -> tuple[list[int], tuple[int, ...], tuple[int, ...]]:
    """Shape with every blocked axis split into (outer, blocks ...), and where each part then stands."""
    split: list[int] = []
    outer_at: dict[int, int] = {}
    inner_at: dict[int, int] = {}
    for axis, dim in enumerate(padded):
        mine = [(i, size) for i, (a, size) in enumerate(blocks) if a == axis]
        outer_at[axis] = len(split)
        split.append(dim // int(np.prod([size for _, size in mine], dtype=int)))
        for i, size in mine:
            inner_at[i] = len(split)
            split.append(size)
    return split, tuple(outer_at[a] for a in order), tuple(inner_at[i] for i in range(len(blocks)))


@cache
def _geometry(axes: str, rank: int) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    match = _LAYOUT.fullmatch(axes)
    assert match
    spatial = iter(range(2, rank))
    numbers: dict[str, int] = {}
    order: list[int] = []
    letters = [a for a in match["outer"] if a not in "NC"]
    for letter in match["outer"]:
        if letter in "NC":
            own = [] if (axis := "NC".index(letter)) >= rank else [axis]
        elif letter == letters[-1]:
            own = list(spatial)  # the last spatial letter stands for all that are left
        else:
            own = [found] if (found := next(spatial, None)) is not None else []
        order += own
        numbers.update({letter.lower(): own[-1]} if own else {})
    blocks = [(numbers[a], int(n)) for n, a in re.findall(r"(\d+)([a-z])", match["inner"]) if a in numbers]
    return tuple(order), tuple(blocks)


NCHW, NHWC = Layout("NCHW"), Layout("NHWC")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Where and how a value is stored: the symbol the tuner chooses between, written ``cpu:float32:NHWC``.

    A quantised dtype names the scheme only; scale and zero point live on the Value.
    """

    device: str
    dtype: DType
    layout: Layout = NCHW

    def __str__(self) -> str:
        return f"{self.device}:{self.dtype}" + ("" if self.dtype is OBJECT else f":{self.layout}")

    @staticmethod
    def parse(text: str) -> TensorSpec:
        """The inverse of ``str``; raises :class:`InputError`."""
        return _parse_spec(text)

    def nbytes(self, shape: Sequence[int]) -> int:
        """Bytes of a value of this ONNX shape, block padding included."""
        return int(np.prod(self.layout.storage_shape(shape), dtype=np.int64)) * self.dtype.itemsize


@lru_cache(maxsize=4096)
def _parse_spec(text: str) -> TensorSpec:
    device, _, rest = text.partition(":")
    dtype, _, layout = rest.partition(":")
    if not device or not dtype:
        raise InputError(f"spec {text!r} is not DEVICE:DTYPE[:LAYOUT]")
    return TensorSpec(device, DType.parse(dtype), Layout(layout) if layout else NCHW)


def host(dtype: DType, layout: Layout = NCHW) -> TensorSpec:
    """The spec of graph inputs, outputs and reference routines: plain ONNX order on the CPU."""
    return TensorSpec("cpu", dtype, layout)


@dataclass(frozen=True, eq=False, slots=True)
class QParams:
    """Scale (float32) and zero point arrays of a quantised value; ``axis`` is None for per-tensor.

    ``on_grid``: every element is exactly (an integer - zero point) * scale, as what DequantizeLinear makes is; stored
    as those integers it loses nothing.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    axis: int | None = None
    on_grid: bool = False
