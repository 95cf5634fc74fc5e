"""Memory in large pages: aligned, apart from each other, freed with its last view."""

from __future__ import annotations

import gc
import itertools
import mmap
import weakref

import numpy as np
import pytest

from softneuro_core import pages
from softneuro_core.pages import ALIGNMENT, LARGE_PAGE, LEAST_BYTES, SLAB_BYTES, fresh, side_by_side


@pytest.mark.parametrize("nbytes", [1, 63, 64, 4097, LEAST_BYTES - 1, LEAST_BYTES, LARGE_PAGE + 5, SLAB_BYTES + 1])
@pytest.mark.parametrize("within", [False, True])
def test_every_size_is_aligned_and_writable(nbytes: int, within: bool) -> None:
    with side_by_side():
        made = [fresh(nbytes) for _ in range(3)] if within else []
    made = made or [fresh(nbytes) for _ in range(3)]
    for number, array in enumerate(made):
        assert array.shape == (nbytes,) and array.dtype == np.uint8 and array.ctypes.data % ALIGNMENT == 0
        array[:] = number
    assert all((array == number).all() for number, array in enumerate(made)), "arrays overlap"


def test_large_ones_begin_with_a_large_page() -> None:
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        pytest.skip("this system has no large pages on request")
    assert fresh(LEAST_BYTES).ctypes.data % LARGE_PAGE == 0


def test_small_ones_of_a_plan_lie_side_by_side() -> None:
    with side_by_side():
        first, second = fresh(100), fresh(100)
        assert second.ctypes.data - first.ctypes.data == 128
        many = [fresh(SLAB_BYTES // 4) for _ in range(9)]  # more than one block holds
    assert len({array.ctypes.data for array in many}) == 9
    ends = sorted((array.ctypes.data, array.ctypes.data + array.nbytes) for array in (*many, first, second))
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(ends))


def test_a_block_goes_with_the_last_array_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = []

    class Block(np.ndarray):
        """Can be watched."""

    def large(nbytes: int) -> np.ndarray:
        block = np.zeros(nbytes, np.uint8).view(Block)
        blocks.append(weakref.ref(block))
        return block

    monkeypatch.setattr(pages, "_large", large)
    with side_by_side():
        first, second = fresh(100), fresh(100)
    del first
    gc.collect()
    assert blocks[0]() is not None
    del second
    gc.collect()
    assert blocks[0]() is None


def test_without_large_pages_memory_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    made = fresh(LEAST_BYTES + 3)
    assert made.shape == (LEAST_BYTES + 3,) and made.ctypes.data % ALIGNMENT == 0
