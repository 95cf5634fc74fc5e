"""Host memory in large pages: what is large in pages of its own, the small constants of one plan side by side.

The processor asks for what comes next only as far as the page goes, and looks up where each page lies: of 4 KB each
there are thousands in a network's weights. Measured gain: docs/decisions/0042. Where the system has no large pages, or
does not give them on request, memory is as it was.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator
from contextvars import ContextVar

import numpy as np

LARGE_PAGE = 2 << 20
LEAST_BYTES = 1 << 20
"""Smaller ones would waste most of a large page by themselves."""
ALIGNMENT = 64
SLAB_BYTES = 8 << 20
"""What is side by side, at most; a quarter of it at most is one array."""


class Slab:
    """Hands out pieces of large blocks; a block is freed when the last array in it is."""

    def __init__(self) -> None:
        self._block, self._used = np.empty(0, np.uint8), 0

    def take(self, nbytes: int) -> np.ndarray:
        """``nbytes`` of at most ``SLAB_BYTES``, aligned to ``ALIGNMENT``."""
        if self._used + nbytes > len(self._block):
            self._block, self._used = _large(SLAB_BYTES), 0
        begin = self._used
        self._used += -(-nbytes // ALIGNMENT) * ALIGNMENT
        return self._block[begin : begin + nbytes]


_slab: ContextVar[Slab | None] = ContextVar("softneuro slab", default=None)


@contextlib.contextmanager
def side_by_side() -> Iterator[None]:
    """Within, small arrays from :func:`fresh` share large pages: for what is kept as long as a plan."""
    token = _slab.set(Slab())
    try:
        yield
    finally:
        _slab.reset(token)


def fresh(nbytes: int) -> np.ndarray:
    """``nbytes`` uninitialised bytes, aligned to ``ALIGNMENT``; freed when the last view of them is."""
    slab = _slab.get()
    if slab is not None and 4 * nbytes <= SLAB_BYTES:
        return slab.take(nbytes)
    if nbytes >= LEAST_BYTES:
        return _large(nbytes)
    return _aligned(np.empty(nbytes + ALIGNMENT, np.uint8), nbytes, ALIGNMENT)


def _large(nbytes: int) -> np.ndarray:
    """In large pages where Linux gives them."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return _aligned(np.empty(nbytes + ALIGNMENT, np.uint8), nbytes, ALIGNMENT)
    whole = -(-nbytes // LARGE_PAGE) * LARGE_PAGE
    memory = mmap.mmap(-1, whole + LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return _aligned(np.frombuffer(memory, np.uint8), nbytes, LARGE_PAGE)


def _aligned(room: np.ndarray, nbytes: int, alignment: int) -> np.ndarray:
    begin = -room.ctypes.data % alignment
    return room[begin : begin + nbytes]
