"""A problem made ready for walking backward: values ranked, options grouped, each group's best choice on demand.

Knows one layer at a time; :mod:`sweep` walks over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from softneuro_core.tuner.infeasible import Infeasible
from softneuro_core.tuner.pareto import Uses, add, front, within
from softneuro_core.tuner.problem import Conversion, Problem
from softneuro_core.tuner.steiner import Tree, Trees

Demand = tuple[int, int]
"""(rank of a value, mask of the specs wanted)."""
Demands = tuple[Demand, ...]
"""By ascending rank, each value once."""

NO_SEGMENT = -1
"""The device of every step whose device has no fixed cost: such devices need no telling apart."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to make a group's move: the option and the tree behind each demanded output."""

    time: int
    uses: Uses
    option: int
    trees: tuple[tuple[int, int, int, Tree], ...]
    """(value, spec made, specs wanted, tree)."""


@dataclass(frozen=True, slots=True)
class Group:
    """Options that leave the same state behind: same other layers, same device, same inputs."""

    cover: int
    """Layers covered besides the exit, as a mask."""
    device: int
    inputs: Demands
    options: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """A group with the choices worth making for given demands on its outputs."""

    cover: int
    device: int
    inputs: Demands
    choices: tuple[Choice, ...]


def merged(a: Demands, b: Demands) -> Demands:
    """Union of demands, by rank."""
    if not a or not b:
        return a or b
    if a[-1][0] < b[0][0]:
        return a + b
    if b[-1][0] < a[0][0]:
        return b + a
    union = dict(a)
    for rank, mask in b:
        union[rank] = union.get(rank, 0) | mask
    return tuple(sorted(union.items()))


class Moves:
    """The compiled problem. Raises :class:`Infeasible` for a layer no option covers.

    Values are ranked so that those made by later layers come first (graph inputs last): in a state's sorted
    demands, what the next layer makes is always a prefix.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.bounded = tuple(i for i, bound in enumerate(problem.limits) if bound is not None)
        self.caps: Uses = tuple(bound for bound in problem.limits if bound is not None)
        self.segment = {device: cost for device, cost in problem.segment_ns.items() if cost}
        self.zero: Uses = (0,) * len(self.bounded)
        self._rank_values()
        self._make_trees()
        self.groups = self._group_options()
        self._cache: list[dict[Demands, tuple[Move, ...]]] = [{} for _ in range(problem.layer_count)]

    def device(self, number: int) -> int:
        """The device as states tell it apart."""
        return number if number in self.segment else NO_SEGMENT

    def uses(self, vector: Uses) -> Uses:
        """The bounded components of ``vector`` (which may be empty for zero)."""
        return tuple(vector[i] for i in self.bounded) if vector else self.zero

    def demands(self, operands: Iterable[tuple[int, int]]) -> Demands:
        """Operands (value, spec) as ranked demands."""
        union: dict[int, int] = {}
        for value, spec in operands:
            rank = self.rank_of[value]
            union[rank] = union.get(rank, 0) | 1 << spec
        return tuple(sorted(union.items()))

    def at(self, layer: int, outputs: Demands) -> tuple[Move, ...]:
        """The moves whose exit is ``layer`` and which serve ``outputs`` (demands on what that layer makes)."""
        found = self._cache[layer].get(outputs)
        if found is None:
            served = (
                Move(group.cover, group.device, group.inputs, tuple(choices))
                for group in self.groups[layer]
                if (choices := self.choices(group.options, outputs))
            )
            found = self._cache[layer][outputs] = tuple(self._undominated(served))
        return found

    def choices(self, options: Sequence[int], outputs: Demands) -> list[Choice]:
        """The front of ways in which one of ``options`` serves ``outputs``."""
        return front(choice for number in options for choice in self._serve(number, outputs))

    def sources(self, demands: Demands) -> list[Choice]:
        """The front of conversions of graph inputs; empty if a demand is not on an input, or cannot be met."""
        given = [(value, spec) for value, spec in self.problem.sources.items()]
        return front(self._with_trees(Choice(0, self.zero, -1, ()), given, demands))

    def _serve(self, number: int, outputs: Demands) -> list[Choice]:
        option = self.problem.options[number]
        alone = Choice(option.time_ns, self.uses(option.uses), number, ())
        return self._with_trees(alone, option.outputs, outputs)

    def _with_trees(self, start: Choice, made: Iterable[tuple[int, int]], wanted: Demands) -> list[Choice]:
        spec_of = {self.rank_of[value]: (value, spec) for value, spec in made}
        found = [start] if within(start.uses, self.caps) else []
        for rank, mask in wanted:
            if rank not in spec_of:
                return []
            value, spec = spec_of[rank]
            trees = self.trees[rank].front(spec, mask)
            found = [
                Choice(c.time + t.time, uses, c.option, (*c.trees, (value, spec, mask, t)))
                for c in found
                for t in trees
                if within(uses := add(c.uses, t.uses), self.caps)
            ]
            if self.caps:
                found = front(found)
        return found

    def _undominated(self, moves: Iterable[Move]) -> list[Move]:
        """Moves none of the others beats by converting what it reads: the pruning of :mod:`sweep`, before any
        state is made. Only for one best choice a move, so not under limits."""
        ordered = sorted(moves, key=lambda move: move.choices[0].time)
        if self.caps:
            return ordered
        kept: list[Move] = []
        for move in ordered:
            if not any(self._beats(better, move) for better in kept):
                kept.append(move)
        return kept

    def _beats(self, better: Move, move: Move) -> bool:
        if better.cover != move.cover or better.device != move.device:
            return False
        slack = move.choices[0].time - better.choices[0].time
        held = dict(move.inputs)
        for rank, mask in better.inputs:
            if rank not in held:
                return False
            found = self.trees[rank].extension(held[rank], mask)
            if not found:
                return False
            slack -= found[0].time
            if slack < 0:
                return False
        return True

    def _rank_values(self) -> None:
        made_by: dict[int, int] = {value: -1 for value in self.problem.sources}
        reads: dict[int, int] = {}
        for option in self.problem.options:
            for value, _ in option.outputs:
                if made_by.setdefault(value, option.exit) != option.exit:
                    raise Infeasible(f"value {value} is made by two layers or given", layer_number=option.exit)
            for value, _ in option.inputs:
                reads[value] = min(reads.get(value, option.exit), option.exit)
        nowhere = [v for v in [*reads, *(value for value, _ in self.problem.sinks)] if v not in made_by]
        for value in nowhere:  # made by no option: whoever reads it cannot be chosen
            made_by[value] = -1
        self.value_of = sorted(made_by, key=lambda value: (-made_by[value], value))
        self.rank_of = {value: rank for rank, value in enumerate(self.value_of)}
        self.made_by = [made_by[value] for value in self.value_of]
        self.first_read = [reads.get(value, self.problem.layer_count) for value in self.value_of]
        """Per rank, the lowest exit that may read it: below, the demand on it cannot grow."""

    def _make_trees(self) -> None:
        kinds: dict[frozenset[tuple[tuple[int, int], Conversion]], Trees] = {}
        self.trees: list[Trees] = []
        makers: list[set[int]] = [set() for _ in self.value_of]
        for option in self.problem.options:
            for value, spec in option.outputs:
                makers[self.rank_of[value]].add(spec)
        for value, spec in self.problem.sources.items():
            makers[self.rank_of[value]].add(spec)
        self.makers = [tuple(sorted(specs)) for specs in makers]
        """Per rank, the specs it may be made in."""
        for value in self.value_of:
            table = self.problem.conversions.get(value, {})
            kind = frozenset(table.items())
            if kind not in kinds:  # values of one size share their trees
                kinds[kind] = Trees(table, self.bounded, self.caps)
            self.trees.append(kinds[kind])

    def _group_options(self) -> list[list[Group]]:
        found: list[dict[tuple[int, int, Demands], list[int]]] = [{} for _ in range(self.problem.layer_count)]
        covered = set()
        for number, option in enumerate(self.problem.options):
            covered.update(option.layers)
            cover = sum(1 << layer for layer in option.layers[:-1])
            key = (cover, self.device(option.device), self.demands(option.inputs))
            found[option.exit].setdefault(key, []).append(number)
        for layer in range(self.problem.layer_count):
            if layer not in covered:
                raise Infeasible.no_option(layer)
        return [[Group(*key, tuple(numbers)) for key, numbers in groups.items()] for groups in found]
