"""What the checks are run on: one offer of a routine, or one conversion of an adapter, on one case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from softneuro_core.catalog import Catalog
from softneuro_core.device import Target
from softneuro_core.rig import Operand, Rig
from softneuro_core.routine import Kernel
from softneuro_core.testing.measure import Expected

CHECKS = {
    "offers": "offers() returns Offers whose specs fit the region",
    "pure": "offers() (accepts(), error()) gives the same answer again and changes nothing",
    "fast": "offers() takes less than a millisecond",
    "json": "params and specs survive JSON, and the offer is made again from them",
    "prepare": "prepare() works, and its Kernel says scratch and constant_bytes",
    "bind": "one Kernel bound twice runs on both sets of buffers",
    "run": "run() works on every case the routine offered itself for",
    "values": "the result is within the declared accuracy of the reference",
    "unwritten": "every element of every output is written",
    "red-zone": "nothing outside the outputs is written",
    "inputs": "inputs are left as they are",
    "weights": "constants of the graph are left as they are",
    "repeat": "two runs on the same inputs agree in every bit",
    "scratch": "scratch is written before it is read",
    "state": "a run does not depend on the runs before it",
    "prepare-twice": "a second prepare gives a kernel with the same results, and leaves the first one alone",
    "prepare-cache": "kernels for regions that look the same but hold other constants do not mix",
    "offset": "any aligned place in memory will do",
    "threads": "the number of threads changes no bit, unless the offer says so",
    "tasks": "the tasks of a native step may be done in any parts, in any order, by any thread",
    "inplace": "an offer that may run in place is right in place as well",
    "strided": "operands offered as strided may lie in a larger buffer",
    "pitched": "the last axis of operands offered as pitched may be a piece of a longer one",
    "parts": "an offer whose inputs may lie in output 0 already is right there as well",
    "allocation": "run() allocates next to nothing",
    "linked": "softneuro_link gives the same result as calling the steps in turn",
    "padding": "lanes that pad a blocked axis are zero",
    "round-trip": "a conversion and the one back give the value again",
    "cases": "everything the plugin brings is reached by a case",
    "hang": "nothing takes longer than the time allowed",
    "crash": "the process survives",
}
"""Every name a finding can have."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise: which (a key of :data:`CHECKS`), by what, and how it showed."""

    check: str
    subject: str
    detail: str

    def __str__(self) -> str:
        return f"[{self.check}] {self.subject}: {self.detail} -- the promise: {CHECKS[self.check]}"


@dataclass(frozen=True, slots=True)
class Report:
    """What came of one routine (or adapter) on one case."""

    offers: int
    findings: tuple[Finding, ...] = ()
    max_error: float = 0.0
    """Largest error by the largest output, over all offers and outputs; for integers in steps."""
    nmse: float = 0.0
    skipped: str = ""
    """Why nothing could be said: the reference itself fails on the case."""

    def merged(self, other: Report) -> Report:
        """Both together."""
        worst, nmse = max(self.max_error, other.max_error), max(self.nmse, other.nmse)
        findings = self.findings + other.findings
        return Report(self.offers + other.offers, findings, worst, nmse, self.skipped or other.skipped)


@dataclass(frozen=True, eq=False)
class Subject:
    """Everything the checks need to know. ``other_inputs`` are a second set, with what they should give."""

    name: str
    catalog: Catalog
    device: str
    prepare: Callable[[Target], Kernel]
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    arrays: Sequence[np.ndarray]
    wanted: Expected
    other_arrays: Sequence[np.ndarray]
    other_wanted: Expected
    accuracy: float
    constants: tuple[np.ndarray, ...] = ()
    inplace: int | None = None
    deterministic: bool = True
    strided: frozenset[int] = frozenset()
    pitched: frozenset[int] = frozenset()
    parts: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    identities: frozenset[int] = frozenset()
    """Ids of the objects a careless cache may use as keys."""
    renewed: Callable[[int, frozenset[int]], Subject | None] = field(default=lambda turns, identities: None)
    """The same subject with other constants, numbered, in objects with the given ids if these are free; None where
    that makes no sense."""

    def target(self, threads: int = 1) -> Target:
        return self.catalog.target(self.device, threads)

    def rig(self, kernel: Kernel, **places: Any) -> StoredRig:
        """The kernel on fresh, poisoned buffers; ``places`` as :class:`Rig` takes them."""
        return StoredRig(
            kernel,
            self.inputs,
            self.outputs,
            self.catalog.devices,
            routine_device=self.device,
            **places,
        )

    @property
    def alignment(self) -> int:
        """Bytes every device involved is content with."""
        names = {spec.device for _, spec in (*self.inputs, *self.outputs)} | {self.device}
        return int(np.lcm.reduce([self.catalog.devices[name].alignment for name in names]))


class StoredRig(Rig):
    """A rig whose results can be read as stored, padding lanes included."""

    def stored(self) -> list[np.ndarray]:
        """Output arrays in storage shape."""
        self.synchronize()
        found = []
        for slot in self._outputs[0]:
            array = np.empty(slot.shape, slot.dtype)  # type: ignore[union-attr]
            slot.device.download(slot, array)  # type: ignore[union-attr,arg-type]
            found.append(array)
        return found
