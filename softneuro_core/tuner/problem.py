"""The selection problem as plain numbers, its answer, and the Tuner interface. Imports nothing of graphs or files."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

ValueSpec = tuple[int, int]
"""(value number, spec number)."""


@dataclass(frozen=True, slots=True)
class Option:
    """One candidate: a region (layer numbers, ascending, the last is its exit), the specs of what it reads
    (by operand: a value may stand twice, in two specs) and makes, and what it costs.

    ``time_ns`` is minimised; ``uses`` is parallel to ``Problem.limits`` (constant bytes, error ...).
    """

    layers: tuple[int, ...]
    inputs: tuple[ValueSpec, ...]
    outputs: tuple[ValueSpec, ...]
    device: int
    time_ns: int
    uses: tuple[int, ...] = ()

    @property
    def exit(self) -> int:
        return self.layers[-1]


@dataclass(frozen=True, slots=True)
class Conversion:
    """Cost of one adapter between two specs of one value."""

    time_ns: int
    uses: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """Choose disjoint options that cover layers ``0 .. layer_count-1`` (topological order), at least cost.

    Steps run in order of their exits. A value made (or given, see ``sources``) in one spec is converted right
    after its producer by a tree of ``conversions`` to every spec its readers and ``sinks`` demand; a spec met
    on the way is shared. ``segment_ns`` is added once for every maximal run of consecutive steps (conversions do
    not count as steps) on that device. ``limits`` bound the sums of ``uses``, None meaning unbounded.

    A value made inside a region appears in none of its options' inputs or outputs.
    """

    layer_count: int
    options: tuple[Option, ...]
    conversions: Mapping[int, Mapping[tuple[int, int], Conversion]] = field(default_factory=dict)
    """value -> (from spec, to spec) -> cost; absent pairs cannot be converted directly."""
    sources: Mapping[int, int] = field(default_factory=dict)
    """Graph inputs: value -> the spec they arrive in."""
    sinks: tuple[ValueSpec, ...] = ()
    """Graph outputs, in the spec the host wants."""
    segment_ns: Mapping[int, int] = field(default_factory=dict)
    limits: tuple[int | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """An answer: option numbers in step order, conversion trees, what it costs, and how sure that is.

    ``conversions`` maps a value to the (from, to) edges in an order they can run. ``lower_bound_ns`` equals
    ``time_ns`` exactly when ``exact``; otherwise the gap is stated. ``method`` names the solver, ``states`` its size.
    """

    chosen: tuple[int, ...]
    conversions: Mapping[int, tuple[tuple[int, int], ...]]
    time_ns: int
    uses: tuple[int, ...]
    lower_bound_ns: int
    method: str
    states: int
    seconds: float

    @property
    def exact(self) -> bool:
        return self.lower_bound_ns >= self.time_ns

    @property
    def gap(self) -> float:
        """How much faster a better plan could be at most, as a fraction of this one."""
        return 0.0 if self.exact else 1.0 - self.lower_bound_ns / self.time_ns


class Tuner(abc.ABC):
    """Chooses. The default implementation is :class:`softneuro_core.tuner.exact.ExactTuner`."""

    @abc.abstractmethod
    def select(self, problem: Problem) -> Selection:
        """The best answer it can find; raises :class:`SelectionError` if there is none (saying which layer or
        conversion is missing, or which limit cannot hold)."""

    @abc.abstractmethod
    def min_marginals(self, problem: Problem, selection: Selection) -> Sequence[int | None]:
        """For every option, the time of the best whole plan that uses it (None if no plan can)."""
