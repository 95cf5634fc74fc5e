"""Files mapped into memory and arrays that are views of them: which bytes an array is, and letting its pages go.

Knows nothing of what the bytes mean. A mapped file must be replaced by renaming, never written in place, while it is
in use: that would change (or, cut short, take away) what is read here.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SETTLED_S = 2.0
"""A file changed this recently may change again within the resolution of its time stamp: it has no identity yet."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a file: device, inode, size and times of the file, offset and layout of the array."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


class MappedFile(mmap.mmap):
    """A whole file, read-only; ``array`` is its bytes, of which views keep the mapping alive."""

    status: os.stat_result
    settled: bool

    @property
    def array(self) -> np.ndarray:
        return np.frombuffer(self, np.uint8)


def map_file(path: str | os.PathLike[str]) -> MappedFile:
    """Maps a file that is not empty; raises ``OSError``, ``ValueError`` for an empty one."""
    with Path(path).open("rb") as file:
        status = os.fstat(file.fileno())
        made = MappedFile(file.fileno(), 0, access=mmap.ACCESS_READ)
    made.status, made.settled = status, time.time() - status.st_mtime > SETTLED_S
    return made


def is_mapped(array: np.ndarray) -> bool:
    """Whether ``array`` is a view of a mapped file."""
    return _file_of(array) is not None


def span_of(array: np.ndarray) -> Span | None:
    """The bytes of a file ``array`` is a view of; None for one in memory, or of a file that changed just now."""
    file = _file_of(array)
    if file is None or not file.settled:
        return None
    status, offset = file.status, array.ctypes.data - file.array.ctypes.data
    times = status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return Span(status.st_dev, status.st_ino, *times, offset, array.shape, array.strides, array.dtype.str)


def release(array: np.ndarray) -> None:
    """Takes the pages of a mapped array out of this process's memory; they come back when read. Others stay."""
    file = _file_of(array)
    if file is None or not hasattr(file, "madvise") or not array.nbytes:
        return
    low, high = np.lib.array_utils.byte_bounds(array)
    start = low - file.array.ctypes.data
    first = start // mmap.PAGESIZE * mmap.PAGESIZE
    with contextlib.suppress(OSError):
        file.madvise(mmap.MADV_DONTNEED, first, start + high - low - first)


def _file_of(array: np.ndarray) -> MappedFile | None:
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return base if isinstance(base, MappedFile) else None
