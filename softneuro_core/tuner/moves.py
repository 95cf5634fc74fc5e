"""A problem made ready for walking backward: values ranked, options grouped, each group's best choice on demand.

Knows one layer at a time; :mod:`sweep` walks over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from softneuro_core.errors import SelectionError
from softneuro_core.tuner.gaps import Gaps
from softneuro_core.tuner.infeasible import Infeasible
from softneuro_core.tuner.pareto import Uses, add, front, within
from softneuro_core.tuner.problem import Conversion, Option, Problem
from softneuro_core.tuner.steiner import UNREACHABLE, Tree, Trees

Demand = tuple[int, int]
"""(rank of a value, mask of the specs wanted)."""
Demands = tuple[Demand, ...]
"""By ascending rank, each value once."""

NO_SEGMENT = -1
"""The device of every step whose device has no fixed cost: such devices need no telling apart."""


class Choice(NamedTuple):
    """One way to make a group's move: the option and the tree behind each demanded output."""

    time: int
    uses: Uses
    option: int
    trees: tuple[tuple[int, int, int, Tree | None], ...]
    """(rank of the value, spec made, specs wanted, tree); without limits the tree is left to be looked up."""


@dataclass(frozen=True, slots=True)
class Group:
    """Options that leave the same state behind: same other layers, same devices, same inputs."""

    cover: int
    """Layers covered besides the exit, as a mask."""
    first: int
    """Device of the first step; not that of the last only in contracted problems, see :mod:`chains`."""
    device: int
    """Device of the last step."""
    inputs: Demands
    options: tuple[int, ...]


class Move(NamedTuple):
    """A group with the choices worth making for given demands on its outputs."""

    cover: int
    first: int
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


@dataclass(frozen=True, slots=True)
class Table:
    """The options of one layer, group after group."""

    times: np.ndarray
    """int64 [option]."""
    begins: np.ndarray
    """Per group, its first option."""
    made: Mapping[int, np.ndarray]
    """Rank -> [option]: the place of the spec it makes the value in, -1 if it does not make it."""


class Moves:
    """The compiled problem. Raises :class:`Infeasible` for a layer no option covers.

    Values are ranked so that those made by later layers come first (graph inputs last): in a state's sorted
    demands, what the next layer makes is always a prefix.
    """

    def __init__(self, problem: Problem, first_device: Mapping[int, int] | None = None) -> None:
        if first_device is None:
            check_costs(problem)
        self._first_device = first_device or {}
        self.problem = problem
        self.bounded = tuple(i for i, bound in enumerate(problem.limits) if bound is not None)
        self.caps: Uses = tuple(bound for bound in problem.limits if bound is not None)
        self.segment = {device: cost for device, cost in problem.segment_ns.items() if cost}
        self.zero: Uses = (0,) * len(self.bounded)
        self._rank_values()
        self._make_trees()
        self.groups = self._group_options()
        self._made = [{self.rank_of[value]: spec for value, spec in option.outputs} for option in problem.options]
        self._alone = [Tree(option.time_ns, self.uses(option.uses)) for option in problem.options]
        self._tables: list[Table | None] = [None] * problem.layer_count
        self._group_gaps: list[np.ndarray | None] = [None] * problem.layer_count
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
            moves = self._all_ways(layer, outputs) if self.caps else self._cheapest(layer, outputs)
            found = self._cache[layer][outputs] = tuple(moves)
        return found

    def _all_ways(self, layer: int, outputs: Demands) -> Iterator[Move]:
        """Under limits: every group with its front of choices."""
        for group in self.groups[layer]:
            choices = tuple(self._choice(*way, outputs) for way in self._fronts(group.options, outputs))
            if choices:
                yield Move(group.cover, group.first, group.device, group.inputs, choices)

    def _cheapest(self, layer: int, outputs: Demands) -> Iterator[Move]:
        """Without limits: the groups no other one beats, each with its cheapest option."""
        table = self._tables[layer]
        if table is None:
            table = self._tables[layer] = self._table(layer)
        time = table.times
        for rank, mask in outputs:
            if rank not in table.made:
                return
            time = time + np.append(self.trees[rank].times(mask), UNREACHABLE)[table.made[rank]]
        if not len(time):
            return
        alive = self._undominated(layer, np.minimum.reduceat(time, table.begins))
        for i in np.flatnonzero(alive).tolist():
            group = self.groups[layer][i]
            first = int(table.begins[i])
            best = int(time[first : first + len(group.options)].argmin())
            number = group.options[best]
            made = self._made[number]
            trees = tuple((rank, made[rank], mask, None) for rank, mask in outputs)
            choice = Choice(int(time[first + best]), (), number, trees)
            yield Move(group.cover, group.first, group.device, group.inputs, (choice,))

    def _table(self, layer: int) -> Table:
        groups = self.groups[layer]
        numbers = [number for group in groups for number in group.options]
        ranks = {rank for number in numbers for rank in self._made[number]}
        at = {spec: place for place, spec in enumerate(self.specs)}
        return Table(
            np.array([self._alone[number].time for number in numbers], dtype=np.int64),
            np.cumsum([0, *(len(group.options) for group in groups[:-1])]),
            {rank: np.array([at.get(self._made[n].get(rank, -1), -1) for n in numbers]) for rank in ranks},
        )

    def forced(self, number: int, outputs: Demands) -> tuple[Move, ...]:
        """The same with one option only."""
        option = self.problem.options[number]
        ways = self._fronts([number], outputs)
        choices = tuple(self._choice(*way, outputs) for way in ways)
        cover = sum(1 << layer for layer in option.layers[:-1])
        device = self.device(option.device)
        return (Move(cover, device, device, self.demands(option.inputs), choices),) if choices else ()

    def sources(self, demands: Demands) -> list[Choice]:
        """The front of conversions of graph inputs; empty if a demand is not on an input, or cannot be met."""
        made = {self.rank_of[value]: spec for value, spec in self.problem.sources.items()}
        return [self._choice(way, -1, demands) for way in self._ways(Tree(0, self.zero), made, self._rows(demands))]

    def _fronts(self, options: Sequence[int], outputs: Demands) -> list[tuple[Tree, int]]:
        """The front of (cost, option) in which one of ``options`` serves ``outputs``."""
        rows = self._rows(outputs)
        found = [
            (way, number) for number in options for way in self._ways(self._alone[number], self._made[number], rows)
        ]
        if self.caps:
            kept = front(way for way, _ in found)
            return [(way, number) for way, number in found if any(way is other for other in kept)]
        return [min(found, key=lambda pair: pair[0].time)] if found else []

    def _rows(self, wanted: Demands) -> list[tuple[int, Mapping[int, list[Tree]]]]:
        return [(rank, self.trees[rank].row(mask)) for rank, mask in wanted]

    def _ways(
        self, alone: Tree, made: Mapping[int, int], rows: Sequence[tuple[int, Mapping[int, list[Tree]]]]
    ) -> list[Tree]:
        """``alone`` joined with a tree for each row; without limits there is at most one way."""
        ways = [alone] if within(alone.uses, self.caps) else []
        for rank, row in rows:
            trees = row.get(made[rank]) if rank in made else None
            if not trees:
                return []
            ways = [
                Tree(way.time + tree.time, uses, None, (way, tree))
                for way in ways
                for tree in trees
                if within(uses := add(way.uses, tree.uses), self.caps)
            ]
            if self.caps:
                ways = front(ways)
        return ways

    def _choice(self, way: Tree, number: int, outputs: Demands) -> Choice:
        """Unpacks the trees joined by :meth:`_ways`, last first."""
        made = dict(self.problem.options[number].outputs) if number >= 0 else self.problem.sources
        trees = []
        rest = way
        for rank, mask in reversed(outputs):
            rest, tree = rest.parts
            value = self.value_of[rank]
            trees.append((rank, made[value], mask, tree))
        return Choice(way.time, way.uses, number, tuple(trees))

    def _undominated(self, layer: int, time: np.ndarray) -> np.ndarray:
        """Which groups no other beats by converting what they read: the pruning of :mod:`sweep`, before any state
        is made. Only for one best choice a group, so not under limits."""
        slack = time[None, :] - time[:, None] - self._between(layer)
        number = np.arange(len(time))
        earlier = (time[:, None] < time[None, :]) | ((time[:, None] == time[None, :]) & (number[:, None] < number))
        return ~((slack >= 0) & earlier).any(axis=0) & (time < UNREACHABLE)

    def _between(self, layer: int) -> np.ndarray:
        """int64 [better, worse]: what the inputs of one group of the layer cost, converted from another's."""
        found = self._group_gaps[layer]
        if found is None:
            groups = self.groups[layer]
            numbers: dict[tuple[int, int, int], int] = {}
            kinds = np.array([numbers.setdefault((g.cover, g.first, g.device), len(numbers)) for g in groups])
            found = np.where(kinds[:, None] == kinds, 0, UNREACHABLE).astype(np.int64)
            every = np.arange(len(groups))
            for rank in {rank for group in groups for rank, _ in group.inputs}:
                masks = [dict(group.inputs).get(rank, 0) for group in groups]
                found += self.gaps[rank].still_open(masks).gaps(every, every)
            self._group_gaps[layer] = found
        return found

    def _rank_values(self) -> None:
        made_by: dict[int, int] = dict.fromkeys(self.problem.sources, -1)
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
        kinds: dict[frozenset[tuple[tuple[int, int], Conversion]], tuple[Trees, Gaps]] = {}
        self.trees: list[Trees] = []
        self.gaps: list[Gaps] = []
        makers: list[set[int]] = [set() for _ in self.value_of]
        for option in self.problem.options:
            for value, spec in option.outputs:
                makers[self.rank_of[value]].add(spec)
        for value, spec in self.problem.sources.items():
            makers[self.rank_of[value]].add(spec)
        self.makers = [tuple(sorted(specs)) for specs in makers]
        """Per rank, the specs it may be made in."""
        self.specs = self._all_specs()
        for value in self.value_of:
            table = self.problem.conversions.get(value, {})
            kind = frozenset(table.items())
            if kind not in kinds:  # values of one size share their trees
                trees = Trees(table, self.specs, self.bounded, self.caps)
                kinds[kind] = trees, Gaps(trees, self.specs)
            self.trees.append(kinds[kind][0])
            self.gaps.append(kinds[kind][1])

    def _all_specs(self) -> list[int]:
        named = {spec for option in self.problem.options for _, spec in option.inputs + option.outputs}
        named.update(spec for _, spec in self.problem.sinks)
        named.update(self.problem.sources.values())
        named.update(spec for table in self.problem.conversions.values() for edge in table for spec in edge)
        return sorted(named)

    def _group_options(self) -> list[list[Group]]:
        found: list[dict[tuple[int, int, int, Demands], list[int]]] = [{} for _ in range(self.problem.layer_count)]
        covered: set[int] = set()
        for number, option in enumerate(self.problem.options):
            covered.update(option.layers)
            cover = sum(1 << layer for layer in option.layers[:-1])
            first = self.device(self._first_device.get(number, option.device))
            key = (cover, first, self.device(option.device), self.demands(option.inputs))
            found[option.exit].setdefault(key, []).append(number)
        for layer in range(self.problem.layer_count):
            if layer not in covered:
                raise Infeasible.no_option(layer)
        return [[Group(*key, tuple(numbers)) for key, numbers in groups.items()] for groups in found]


def check_costs(problem: Problem) -> None:
    """Raises :class:`SelectionError` unless all costs are natural numbers that add up within 64 bits."""
    tables = problem.conversions.values()
    costs: list[Option | Conversion] = [*problem.options, *(cost for table in tables for cost in table.values())]
    times = [*(cost.time_ns for cost in costs), *problem.segment_ns.values()]
    if min(times, default=0) < 0 or any(used < 0 for cost in costs for used in cost.uses):
        raise SelectionError("a cost is negative")
    if max(times, default=0) * (problem.layer_count + 1) >= UNREACHABLE // 64:
        raise SelectionError("costs are too large to add up", remedy="times are in nanoseconds, up to hours")
