"""The caches of this machine, and what a network leaves in them between two runs of one layer. Knows no kernels."""

from __future__ import annotations

from functools import cache
from pathlib import Path


def passing_bytes(constants_nbytes: int) -> int:
    """How much to read between two runs: past every cache if the network's constants do not fit the last, otherwise
    past the second level only."""
    return last_level_cache_bytes() if constants_are_far(constants_nbytes) else 4 * cache_bytes(2)


def constants_are_far(constants_nbytes: int) -> bool:
    """Whether a network with so many bytes of constants reads them from memory in every run."""
    return constants_nbytes > last_level_cache_bytes()


def last_level_cache_bytes() -> int:
    """Size of the largest cache the system describes, at most 64 MiB; 32 MiB where it describes none."""
    return min(max((size for _, size in _caches()), default=32 << 20), 64 << 20)


def cache_bytes(level: int) -> int:
    """Size of the largest cache of a level, 1 MiB where the system describes none."""
    return max((size for found, size in _caches() if found == level), default=1 << 20)


@cache
def _caches() -> tuple[tuple[int, int], ...]:
    """(level, bytes) of the caches of the first core."""
    found = []
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            level, size = ((folder / name).read_text().strip() for name in ("level", "size"))
        except OSError:
            continue
        if level.isdigit() and size[:-1].isdigit() and size[-1] in "KM":
            found.append((int(level), int(size[:-1]) << {"K": 10, "M": 20}[size[-1]]))
    return tuple(found)
