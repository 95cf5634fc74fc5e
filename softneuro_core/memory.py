"""Lifetimes to offsets: one arena per device, best fit by decreasing size. Pure; knows no graphs and no devices.

The greedy-by-size planner is the one TensorFlow Lite and XNNPACK use (Pisarchyk and Lee, arXiv 2001.03288,
"Efficient memory management for deep neural net inference"): not optimal, within a few percent of the bound.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A slot lives from step ``first`` (written) to step ``last`` (read for the last time), both inclusive."""

    slot: Hashable
    device: str
    nbytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Arena:
    """Where each slot of one device lies. ``nbytes`` is the arena's size, ``bound_bytes`` the largest sum of
    slots alive at one step: no plan can be smaller."""

    nbytes: int
    bound_bytes: int
    offsets: Mapping[Hashable, int]


def plan_arenas(lifetimes: Sequence[Lifetime], alignment: Mapping[str, int]) -> dict[str, Arena]:
    """One arena per device that occurs. Slots whose lifetimes overlap never share bytes."""
    devices = dict.fromkeys(life.device for life in lifetimes)
    return {d: _plan_one([x for x in lifetimes if x.device == d], alignment.get(d, 64)) for d in devices}


def _plan_one(lifetimes: Sequence[Lifetime], alignment: int) -> Arena:
    placed: list[tuple[int, int, Lifetime]] = []  # (start, end, lifetime)
    for life in sorted(lifetimes, key=lambda x: (-x.nbytes, x.first, str(x.slot))):
        size = _round_up(life.nbytes, alignment)
        busy = sorted((a, b) for a, b, other in placed if other.first <= life.last and life.first <= other.last)
        start = _best_gap(busy, size)
        placed.append((start, start + size, life))
    offsets = {life.slot: start for start, _, life in placed}
    return Arena(max((end for _, end, _ in placed), default=0), _bound(lifetimes, alignment), offsets)


def _best_gap(busy: Sequence[tuple[int, int]], size: int) -> int:
    """Start of the smallest gap between busy ranges (sorted) that holds ``size``; after the last if none does."""
    best, best_gap, end = None, None, 0
    for start, stop in busy:
        gap = start - end
        if gap >= size and (best_gap is None or gap < best_gap):
            best, best_gap = end, gap
        end = max(end, stop)
    return end if best is None else best


def _bound(lifetimes: Sequence[Lifetime], alignment: int) -> int:
    steps = {life.first for life in lifetimes}
    return max(
        (sum(_round_up(x.nbytes, alignment) for x in lifetimes if x.first <= s <= x.last) for s in steps), default=0
    )


def _round_up(n: int, alignment: int) -> int:
    return -(-n // alignment) * alignment


def color_whole(lifetimes: Sequence[Lifetime]) -> dict[Hashable, int]:
    """For devices without views: slots that never live together may share one allocation, numbered from 0.

    First fit in order of birth, preferring the allocation whose size is nearest (interval colouring).
    """
    free_from: list[tuple[int, int]] = []  # per allocation: (last step in use, bytes)
    colors: dict[Hashable, int] = {}
    for life in sorted(lifetimes, key=lambda x: (x.first, -x.nbytes, str(x.slot))):
        idle = [i for i, (last, _) in enumerate(free_from) if last < life.first]
        if idle:
            pick = min(idle, key=lambda i: (abs(free_from[i][1] - life.nbytes), i))
            free_from[pick] = (life.last, max(free_from[pick][1], life.nbytes))
        else:
            pick = len(free_from)
            free_from.append((life.last, life.nbytes))
        colors[life.slot] = pick
    return colors
