"""Values that lie inside another from the start: a Concat whose inputs are written where it would have copied them.

Settled after selection. A routine says which inputs may be parts of its result (``Offer.parts``); a value becomes one
if whoever touches it before either sees it dense (nothing but 1 lies outside the axis that is joined) or said that its
pixels may lie further apart (``Offer.pitched``). Must not know offers, devices or kernels: numbers and slots only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from softneuro_core.spec import OBJECT

if TYPE_CHECKING:
    from softneuro_core.slots import PreparedStep, Slot

ALIGNMENT = 64
"""Bytes a part begins at a multiple of where its readers and writers take it for a buffer of its own."""


@dataclass(frozen=True, slots=True)
class Part:
    """Lies in ``whole`` from element ``first`` on; ``axis`` is the storage axis along which it is shorter."""

    whole: Slot
    axis: int
    first: int


def find_parts(
    steps: Sequence[PreparedStep], dies: Mapping[Slot, int], owner: Mapping[Slot, Slot], views: Collection[str]
) -> dict[Slot, Part]:
    """The slots that become parts of others, on devices with ``views``. ``dies`` is the step that reads a slot last,
    ``owner`` who else's memory a slot takes over: such slots, and those taken over, stay where they are."""
    touched = _touched(steps)
    settled = {*owner, *owner.values()}
    parts: dict[Slot, Part] = {}
    wholes: set[Slot] = set()
    for i, step in enumerate(steps):
        for number, part in _wanted(step):
            slot = step.reads[number]
            alone = slot not in settled and slot not in parts and slot not in wholes and part.whole not in parts
            here = dies[slot] == i and step.reads.count(slot) == 1 and slot.spec.device in views
            if alone and here and _may_lie_there(slot, part, touched[slot], i):
                parts[slot] = part
                wholes.add(part.whole)
    return parts


def _touched(steps: Sequence[PreparedStep]) -> dict[Slot, list[tuple[int, bool, bool]]]:
    """Of every slot (step, whether it writes, whether it may be pitched there)."""
    found: dict[Slot, list[tuple[int, bool, bool]]] = defaultdict(list)
    for i, step in enumerate(steps):
        for number, slot in enumerate((*step.reads, *step.writes)):
            found[slot].append((i, number >= len(step.reads), number in step.pitched))
    return found


def _wanted(step: PreparedStep) -> Iterator[tuple[int, Part]]:
    """Inputs that may be parts of the step's result, in plain storage of one layout and type."""
    if not step.parts or step.writes[0].spec.dtype is OBJECT:
        return
    whole = step.writes[0]
    rank = len(whole.value.static_shape)
    order = whole.spec.layout.permutation(rank)
    for number, (axis, first) in step.parts.items():
        if step.reads[number].spec == whole.spec and not whole.spec.layout.blocks(rank):
            yield number, Part(whole, order.index(axis), first)


def _may_lie_there(slot: Slot, part: Part, touched: Sequence[tuple[int, bool, bool]], joined: int) -> bool:
    others = [pitched for i, _, pitched in touched if i != joined]
    if not any(writes for _, writes, _ in touched):
        return False  # the caller's own
    whole = part.whole.shape
    if all(dim == 1 for dim in whole[: part.axis]):
        inner = part.whole.nbytes // whole[part.axis]
        return part.first * inner % ALIGNMENT == 0
    return part.axis == len(whole) - 1 and all(others)
