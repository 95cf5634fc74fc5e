"""Strided iteration as plain numbers: broadcasting, and merging axes that lie together in memory. Compiles nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from softneuro_core.spec import Layout
from softneuro_core.windows import storage_strides


@dataclass(frozen=True, slots=True)
class Axis:
    """One loop: how often, and how far each operand steps (elements)."""

    size: int
    steps: tuple[int, ...]


def broadcast_axes(
    shape: Sequence[int], layout: Layout, operands: Sequence[tuple[Sequence[int], Layout]]
) -> list[Axis]:
    """Loops over ``shape`` in the storage order of ``layout``, merged; ``steps`` parallel to ``operands``.

    Operands broadcast to ``shape`` as numpy does, each stored in its own layout.
    """
    rank = len(shape)
    steps = []
    for own, stored in operands:
        strides = storage_strides(stored, own)
        aligned = [0] * (rank - len(own)) + [0 if n == 1 else s for n, s in zip(own, strides, strict=True)]
        steps.append(aligned)
    order = layout.permutation(rank)
    return merge([Axis(int(shape[a]), tuple(s[a] for s in steps)) for a in order])


def merge(axes: Sequence[Axis]) -> list[Axis]:
    """The same loops, outermost first, with neighbours that form one run joined and single turns dropped."""
    made: list[Axis] = []
    for axis in axes:
        if axis.size == 1:
            continue
        last = made[-1] if made else None
        if last and all(a == b * axis.size for a, b in zip(last.steps, axis.steps, strict=True)):
            made[-1] = Axis(last.size * axis.size, axis.steps)
        else:
            made.append(axis)
    return made
