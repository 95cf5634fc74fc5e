"""Numbers as people read them: times, bytes, counts. One spelling everywhere."""

from __future__ import annotations

from collections.abc import Sequence


def show_us(us: float) -> str:
    """Microseconds with three or four digits and a unit: ``0.85 us``, ``123 us``, ``4.51 ms``, ``2.30 s``."""
    size = abs(us)
    if size < 10:
        return f"{us:.2f} us"
    if size < 1000:
        return f"{us:.1f} us" if size < 100 else f"{us:.0f} us"
    if size < 1e6:
        return f"{us / 1e3:.2f} ms" if size < 1e5 else f"{us / 1e3:.0f} ms"
    return f"{us / 1e6:.2f} s"


def show_bytes(count: float) -> str:
    """Bytes in binary units: ``512 B``, ``1.5 KiB``, ``96.0 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024 or unit == "GiB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("the last unit always returns")


def show_count(count: float) -> str:
    """A large number in decimal units: ``950``, ``12.3 k``, ``41.0 M``, ``1.20 G``."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f}"


def show_shape(shape: object) -> str:
    """A shape as ``1x3x224x224``; free dimensions by name, ``?`` where unknown, ``scalar`` for rank 0."""
    if not isinstance(shape, tuple):
        return "unknown"
    return "x".join("?" if d is None else str(d) for d in shape) or "scalar"


def show_layers(names: Sequence[str]) -> str:
    """Layers of one step: the first in full, of the others what differs: ``/block1/conv1/Conv + Relu``."""
    first, *others = names
    return " + ".join([first, *(_beyond(first, other) for other in others)])


def _beyond(first: str, other: str) -> str:
    """``other`` without the folders it shares with ``first``."""
    folders, parts = first.split("/")[:-1], other.split("/")
    shared = 0
    while shared < min(len(folders), len(parts) - 1) and folders[shared] == parts[shared]:
        shared += 1
    return "/".join(parts[shared:])
