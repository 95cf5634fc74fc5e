"""Fronts of cost vectors: time first, then the bounded resources. Without bounds a front has one member."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

Uses = tuple[int, ...]


class Costed(Protocol):
    """Anything with a time and a use of each bounded resource."""

    @property
    def time(self) -> int: ...
    @property
    def uses(self) -> Uses: ...


C = TypeVar("C", bound=Costed)


def add(a: Uses, b: Uses) -> Uses:
    """Sum of two vectors of uses; empty ones, the common case, cost nothing."""
    return tuple(x + y for x, y in zip(a, b, strict=True)) if a else a


def within(a: Uses, b: Uses) -> bool:
    """True if no component of ``a`` is larger than that of ``b``."""
    return all(x <= y for x, y in zip(a, b, strict=True))


def front(items: Iterable[C]) -> list[C]:
    """The items no other item is at least as good as (the first of equals), by ascending time."""
    kept: list[C] = []
    for item in sorted(items, key=lambda item: (item.time, item.uses)):
        if not any(within(better.uses, item.uses) for better in kept):
            kept.append(item)
    return kept
