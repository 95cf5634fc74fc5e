"""The matrix unit of newer Intel processors (AMX): whether this process may use it, and the shapes of its registers."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from functools import cache

import numpy as np

from softneuro_core.device import Target
from softneuro_cpu_numba.emit.isa import isa_of

SIDE, ROW_BYTES = 16, 64
"""Most rows of a tile, and bytes of one."""
ALIGNMENT = 64
SUM_TILES = 4
SYS_ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA = 158, 0x1023, 18
"""Linux on x86-64: tile registers enlarge what is saved of a thread, so a process must ask for them."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """What ``emit.matrix`` writes a kernel for.

    ``rows`` (pixels) of a tile and ``words`` of k in a step; ``ahead``: weights are asked for before they are needed;
    ``pixels_first``: all panels of two tiles, then the next two, so that what is written lies together; otherwise all
    tiles with a panel, then the next; ``lines``: cache lines of the next panel every step asks for in each of
    ``streams`` places. ``parts``: numbers of bfloat16 a factor is the sum of.
    """

    rows: int
    words: int
    ahead: bool = False
    pixels_first: bool = False
    lines: int = 0
    streams: int = 0
    parts: int = 1


def has_matrix_unit(target: Target, feature: str) -> bool:
    """Whether kernels for ``target`` may use its matrix unit with ``feature``: AMX_BF16 or AMX_INT8."""
    return feature in target.isa.split(",") and isa_of(target) == "avx512" and _permitted()


@cache
def _permitted() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        return ctypes.CDLL(None).syscall(SYS_ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0
    except (OSError, AttributeError):
        return False


def room_bytes(rows: int) -> int:
    """Where sums of tiles of so many rows pass through memory, and what aligning it takes."""
    return ALIGNMENT + SUM_TILES * rows * ROW_BYTES


def tile_config(rows: int, words: int) -> np.ndarray:
    """What ``ldtilecfg`` reads, for ``emit.matrix``: sums of ``rows`` pixels, pixels and weights of ``words`` words.

    Asks for permission, without which the instruction ends the process.
    """
    _permitted()
    config = np.zeros(64, np.uint8)
    config[0] = 1  # the palette of eight tiles
    bytes_per_row, tile_rows = config[16:32].view(np.uint16), config[48:56]
    bytes_per_row[:8], tile_rows[:] = 64, rows
    bytes_per_row[4:6] = 4 * words
    tile_rows[6:8] = words
    return config
