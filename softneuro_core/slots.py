"""Slots of a prepared plan: which stored form of which value lives when, and which may share memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from softneuro_core.device import is_handed_over
from softneuro_core.errors import PlanError
from softneuro_core.graph import Graph, Value
from softneuro_core.memory import Lifetime
from softneuro_core.placement import Part, find_parts
from softneuro_core.plan import AdapterStep, Step
from softneuro_core.routine import Kernel
from softneuro_core.spec import OBJECT, TensorSpec


class Slot(NamedTuple):
    """One stored form of one value."""

    value: Value
    spec: TensorSpec

    @property
    def nbytes(self) -> int:
        return self.spec.nbytes(self.value.static_shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """As stored."""
        return self.spec.layout.storage_shape(self.value.static_shape)

    def __str__(self) -> str:
        return f"{self.value.name} as {self.spec}"


@dataclass(frozen=True, slots=True)
class PreparedStep:
    """A plan step with its kernel, shared by all clones of a session. ``inplace``, ``pitched`` and ``parts`` are
    the offer's promises."""

    step: Step
    device: str
    reads: tuple[Slot, ...]
    writes: tuple[Slot, ...]
    kernel: Kernel
    inplace: int | None = None
    pitched: frozenset[int] = frozenset()
    parts: Mapping[int, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SlotPlan:
    """``slots`` in order of birth; ``owner`` maps a slot to the one whose memory it takes over, ``parts`` to the
    one it lies in; ``lifetimes`` are of the others, and of each step's scratch under the step's number."""

    slots: tuple[Slot, ...]
    owner: Mapping[Slot, Slot]
    parts: Mapping[Slot, Part]
    lifetimes: tuple[Lifetime, ...]


def plan_slots(
    graph: Graph, steps: Sequence[PreparedStep], views: Collection[str], homes: Mapping[str, str]
) -> SlotPlan:
    """Slots are born where they are written and die where they are last read; raises :class:`PlanError` for a plan
    that reads what nobody made. ``views`` names the devices where one slot may lie inside another, ``homes`` says in
    whose memory a device's slots lie (``Device.home``)."""
    born, dies = _spans(graph, steps)
    owner = _aliases(steps, dies, homes)
    parts = find_parts(steps, dies, owner, views)
    spans: dict[Slot, tuple[int, int]] = {}
    for slot, end in dies.items():
        root = owner.get(slot, slot)
        root = parts[root].whole if root in parts else root
        begin, until = spans.get(root, (born[root], end))
        spans[root] = (min(begin, born[slot]), max(until, end))
    stored = [(slot, span) for slot, span in spans.items() if slot.spec.dtype is not OBJECT]
    lives = [Lifetime(slot, homes[slot.spec.device], slot.nbytes, *span) for slot, span in stored]
    lives += [Lifetime(i, homes[s.device], s.kernel.scratch, i, i) for i, s in enumerate(steps) if s.kernel.scratch]
    return SlotPlan(tuple(dies), owner, parts, tuple(lives))


def _spans(graph: Graph, steps: Sequence[PreparedStep]) -> tuple[dict[Slot, int], dict[Slot, int]]:
    """Step that writes each slot (-1: the caller), step that reads it last (``len(steps)``: the caller)."""
    born = {Slot(v, v.host_spec): -1 for v in graph.inputs}
    dies: dict[Slot, int] = {}
    for i, step in enumerate(steps):
        for slot in step.reads:
            if slot not in born:
                raise PlanError(f"the plan reads {slot} before it is made", layer=step.step.name, remedy="tune again")
            dies[slot] = i
        born.update(dict.fromkeys(step.writes, i))
        dies.update(dict.fromkeys(step.writes, i))
    for value in graph.outputs:
        if not value.is_constant:
            if (slot := Slot(value, value.host_spec)) not in born:
                raise PlanError(f"the plan never makes output {slot}", remedy="tune again")
            dies[slot] = len(steps)
    return born, dies


def _aliases(steps: Sequence[PreparedStep], dies: Mapping[Slot, int], homes: Mapping[str, str]) -> dict[Slot, Slot]:
    """Slots in the memory of others: what a transfer within one memory makes, and what a routine that may writes over
    an input nobody reads later, in this form or another that lies in the same place."""
    owner: dict[Slot, Slot] = {}
    original: dict[Slot, Slot] = {}
    for step in steps:
        if _is_view(step, homes):
            (source,), (result,) = step.reads, step.writes
            original[result] = original.get(source, source)
    last = dict(dies)
    for form, source in original.items():
        last[source] = max(last[source], dies[form])
    for i, step in enumerate(steps):
        if _is_view(step, homes):
            owner[step.writes[0]] = owner.get(step.reads[0], step.reads[0])
        elif step.inplace is not None:
            source, result = step.reads[step.inplace], step.writes[0]
            if OBJECT in (source.spec.dtype, result.spec.dtype) or source.spec.device != result.spec.device:
                continue
            if source.nbytes == result.nbytes and last[original.get(source, source)] == i:
                owner[result] = owner.get(source, source)
    return owner


def _is_view(step: PreparedStep, homes: Mapping[str, str]) -> bool:
    """Whether the step hands bytes as they are to another device that has the same memory."""
    if not isinstance(step.step, AdapterStep):
        return False
    (source,), (result,) = (slot.spec for slot in step.reads), (slot.spec for slot in step.writes)
    return is_handed_over(source, result, homes)
