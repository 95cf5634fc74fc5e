"""Runs of layers that only hand one value on, made one layer each: the same optimum over far fewer layers.

Most layers of a network read what the layer before made, and nobody else does. While :mod:`sweep` walks down such a
run it carries everything else the state demands along, unchanged, and pays for it layer by layer. Here a run is
solved once, alone, and stands in the smaller problem as one layer whose options are (what the run reads, what it
makes). Knows options and conversions, no states.

Layers k and k+1 are *linked* if k makes one value, neither given nor asked for by the host, and

1. every option that covers k+1 but not k begins at k+1 and reads nothing but that value, in one spec; nobody else
   reads it;
2. every option that covers k either ends there or covers k+1 too.

A *chain* is a run of linked layers i..j that no option covers beyond j (the last layers are given up until that
holds). Every option that touches the chain then either contains i (a *starter*, which alone may read other values
and cover layers below), or lies within i+1..j and reads the value made just below it. So in any plan the steps with
exits in i..j are a starter and then inner options, each beginning where the last one ended; they are consecutive in
the order of exits; and the rest of the plan sees of them only

    row   what the starter reads, the layers below i it covers, and its device,
    key   what the last step makes, and its device.

For a row and a key the least time is that of a shortest path, for in between there is one spec to be made and one
wanted, so that a cheapest conversion tree is a cheapest path: with ``d'`` and ``m'`` the device of and spec made by
the step before, and ``segment`` paid by the last step of a run of one device as in :mod:`sweep`,

    M[row, key of o] = min over (m', d') at the exit below o of
                       M[row, (m', d')] + path(m', spec o reads) + (segment(d') if d' != device of o) + time(o).

Replacing a plan's steps in the chain by these, for its row and key, leaves it a plan and makes it no dearer; and the
plans of the smaller problem are those plans. The optimum is therefore the same. A key is left out if another of its
row is no dearer with a conversion to what it makes added: whatever tree serves the readers from the one spec, the
conversion followed by that tree does from the other. (Shortest paths obey the triangle inequality and ties go to
the first, so that what replaces a key is not itself left out for it.)

Under limits costs are vectors, paths are Pareto fronts, and nothing is contracted.

Field name: series reduction, as for PBQP graphs (B. Scholz, E. Eckstein, "Register allocation for irregular
architectures", LCTES 2002), here over regions and spec conversions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from softneuro_core.tuner.moves import NO_SEGMENT, check_costs
from softneuro_core.tuner.problem import Conversion, Option, Problem, ValueSpec
from softneuro_core.tuner.steiner import UNREACHABLE, Trees

Plan = tuple[tuple[int, ...], dict[int, tuple[tuple[int, int], ...]]]
"""Options in step order, and per value its conversions in an order they can run."""

Row = tuple[tuple[int, ...], tuple[ValueSpec, ...], int]
"""Layers covered below the chain, operands read (ascending), device of the first step."""
Key = tuple[tuple[ValueSpec, ...], int]
"""What is made, and the device of the step that makes it."""


@dataclass(frozen=True, slots=True)
class Contracted:
    """The smaller problem, and the way back."""

    problem: Problem
    first_device: Mapping[int, int]
    """Option number -> device of its first step, where that is not ``Option.device`` (which is the last step's)."""
    _original: Problem
    _origin: Sequence[int | tuple[_Chain, Row, Key]]
    """Per option, what it was: an option, or a path through a chain."""

    def expand(self, plan: Plan) -> Plan:
        """A plan of the smaller problem as one of the original."""
        chosen: list[int] = []
        conversions = dict(plan[1])
        for number in plan[0]:
            origin = self._origin[number]
            if isinstance(origin, int):
                chosen.append(origin)
            else:
                chain, row, key = origin
                chosen += chain.walk(row, key, conversions)
        options = self._original.options
        return tuple(sorted(chosen, key=lambda number: options[number].exit)), conversions


def as_it_is(problem: Problem) -> Contracted:
    """Nothing contracted."""
    return Contracted(problem, {}, problem, range(len(problem.options)))


def contract(problem: Problem) -> Contracted:
    """The problem with every chain made one layer; as it is where it has limits.

    Raises :class:`SelectionError` for costs that make no sense."""
    check_costs(problem)
    limited = any(bound is not None for bound in problem.limits)
    chains = [] if limited else list(_chains(problem))
    if not chains:
        return as_it_is(problem)
    inside = {layer: chain for chain in chains for layer in chain}
    heads = [layer for layer in range(problem.layer_count) if layer not in inside or layer == inside[layer][0]]
    renumbered = {layer: number for number, layer in enumerate(heads)}
    options: list[Option] = []
    origin: list[int | tuple[_Chain, Row, Key]] = []
    for number, option in enumerate(problem.options):
        if option.exit not in inside:
            options.append(replace(option, layers=tuple(renumbered[layer] for layer in option.layers), uses=()))
            origin.append(number)
    paths = _Paths(problem)
    first_device: dict[int, int] = {}
    for layers, members in zip(chains, _members(problem, inside, chains), strict=True):
        chain = _Chain(problem, layers, members, paths)
        at = renumbered[layers[0]]
        for row, key, time in chain.best():
            if row[2] != key[1]:
                first_device[len(options)] = row[2]
            covered = (*(renumbered[layer] for layer in row[0]), at)
            options.append(Option(covered, row[1], key[0], key[1], time))
            origin.append((chain, row, key))
    named = {value for option in options for value, _ in option.inputs + option.outputs}
    named.update(problem.sources, (value for value, _ in problem.sinks))
    tables = {value: table for value, table in problem.conversions.items() if value in named}
    smaller = replace(problem, layer_count=len(heads), options=tuple(options), conversions=tables, limits=())
    return Contracted(smaller, first_device, problem, origin)


def _chains(problem: Problem) -> Iterator[range]:
    """The chains of at least two layers, ascending."""
    linked = _links(problem)
    beyond = list(range(problem.layer_count))
    """Per layer, the highest exit of an option that covers it."""
    for option in problem.options:
        for layer in option.layers:
            beyond[layer] = max(beyond[layer], option.exit)
    begin = 0
    while begin < problem.layer_count:
        end = begin
        while end in linked:
            end += 1
        following = end + 1
        while end > begin and beyond[end] > end:
            end -= 1
        if end > begin:
            yield range(begin, end + 1)
        begin = following


def _links(problem: Problem) -> set[int]:
    """The layers k linked with k+1."""
    made: dict[int, set[tuple[int, ...]]] = {}
    makers: dict[int, set[int]] = {}
    readers: dict[int, set[int]] = {}
    """Per value, the first layers of the options that read it."""
    entered: dict[int, set[tuple[int, ...]]] = {}
    """Per layer, the values read by each option that covers it and not the one before; () if it begins lower."""
    broken = {problem.layer_count - 1}
    for option in problem.options:
        first = option.layers[0]
        values = tuple([value for value, _ in option.inputs])
        outputs = tuple([value for value, _ in option.outputs])
        made.setdefault(option.exit, set()).add(outputs)
        for value in outputs:
            makers.setdefault(value, set()).add(option.exit)
        for value in values:
            readers.setdefault(value, set()).add(first)
        entered.setdefault(first, set()).add(values)
        for layer, following in pairwise(option.layers):
            if following != layer + 1:
                broken.add(layer)
                entered.setdefault(following, set()).add(())
    outside = {*problem.sources, *(value for value, _ in problem.sinks)}
    found = set()
    for layer in range(problem.layer_count - 1):
        outputs_seen = made.get(layer, set())
        if layer in broken or len(outputs_seen) != 1 or len(one := next(iter(outputs_seen))) != 1:
            continue
        value = one[0]
        alone = readers.get(value) == {layer + 1} and entered.get(layer + 1) == {one}
        if alone and makers[value] == {layer} and value not in outside:
            found.add(layer)
    return found


def _members(problem: Problem, inside: Mapping[int, range], chains: Sequence[range]) -> list[list[int]]:
    """Per chain, the options that end in it, by ascending exit."""
    found: dict[int, list[int]] = {chain[0]: [] for chain in chains}
    for number in sorted(range(len(problem.options)), key=lambda number: problem.options[number].exit):
        chain = inside.get(problem.options[number].exit)
        if chain is not None:
            found[chain[0]].append(number)
    return list(found.values())


class _Paths:
    """Times of cheapest conversion paths between all specs, per table of conversions."""

    def __init__(self, problem: Problem) -> None:
        tables = {id(table): table for table in problem.conversions.values()}
        named = {spec for option in problem.options for _, spec in option.inputs + option.outputs}
        named.update(spec for table in tables.values() for edge in table for spec in edge)
        self.conversions = problem.conversions
        self.specs = sorted(named)
        self.at = {spec: i for i, spec in enumerate(self.specs)}
        self._found: dict[int, np.ndarray] = {}
        self._trees: dict[int, Trees] = {}

    def between(self, value: int) -> np.ndarray:
        """int64 [from, to], :data:`UNREACHABLE` where there is no way (Floyd, "Algorithm 97", CACM 1962)."""
        table = self.conversions.get(value, {})
        found = self._found.get(id(table)) if table else None
        if found is None:
            found = np.full((len(self.specs), len(self.specs)), UNREACHABLE, dtype=np.int64)
            for (source, target), cost in table.items():
                found[self.at[source], self.at[target]] = cost.time_ns
            np.fill_diagonal(found, 0)
            for via in range(len(self.specs)):
                np.minimum(found, found[:, via, None] + found[via], out=found)
            self._found[id(table)] = found
        return found

    def edges(self, value: int, made: int, wanted: int) -> tuple[tuple[int, int], ...]:
        """The conversions of one cheapest path."""
        table: Mapping[tuple[int, int], Conversion] = self.conversions.get(value, {})
        trees = self._trees.get(id(table)) if table else None
        if trees is None:
            trees = Trees({edge: Conversion(cost.time_ns) for edge, cost in table.items()}, self.specs)
            self._trees[id(table)] = trees
        return trees.edges(made, 1 << wanted)


@dataclass(frozen=True, slots=True)
class _Stage:
    """The keys of one exit of a chain, and the least time of each from every row."""

    keys: tuple[Key, ...]
    times: np.ndarray
    """int64 [row, key], :data:`UNREACHABLE` where no path leads there."""


class _Chain:
    """Shortest paths through one chain."""

    def __init__(self, problem: Problem, layers: range, members: Sequence[int], paths: _Paths) -> None:
        self._problem, self._layers, self._paths = problem, layers, paths
        self._ending: dict[int, list[int]] = {}
        self._rows: dict[Row, int] = {}
        self._keys = {number: self._key(number) for number in members}
        for number in members:
            self._ending.setdefault(problem.options[number].exit, []).append(number)
            if self._is_starter(number):
                self._rows.setdefault(self._row(number), len(self._rows))
        self._stages: dict[int, _Stage] = {}
        for exit_layer, numbers in self._ending.items():
            self._stages[exit_layer] = self._stage(numbers)

    def best(self) -> Iterator[tuple[Row, Key, int]]:
        """Every row and key worth choosing, with the least time of a path between them."""
        stage = self._stages.get(self._layers[-1])
        if stage is None:
            return
        times = stage.times
        if len({tuple(value for value, _ in outputs) for outputs, _ in stage.keys}) == 1 == len(stage.keys[0][0]):
            times = np.where(self._is_replaceable(stage), UNREACHABLE, times)
        for row, i in self._rows.items():
            for j in np.flatnonzero(times[i] < UNREACHABLE).tolist():
                yield row, stage.keys[j], int(times[i, j])

    def walk(self, row: Row, key: Key, conversions: dict[int, tuple[tuple[int, int], ...]]) -> list[int]:
        """The options along one cheapest path, last first; adds what is converted between them."""
        i, layer, found = self._rows[row], self._layers[-1], []
        while True:
            stage = self._stages[layer]
            time = int(stage.times[i, stage.keys.index(key)])
            number, before = self._last_step(i, row, layer, key, time)
            found.append(number)
            if before is None:
                return found
            value, wanted = self._problem.options[number].inputs[0]
            edges = self._paths.edges(value, before[0][0][1], wanted)
            if edges:
                conversions[value] = edges
            layer, key = self._problem.options[number].layers[0] - 1, before

    def _last_step(self, i: int, row: Row, layer: int, key: Key, time: int) -> tuple[int, Key | None]:
        """An option that ends at ``layer`` with ``key`` after ``time``, and the key before it."""
        for number in self._ending[layer]:
            option = self._problem.options[number]
            if self._keys[number] != key:
                continue
            if self._is_starter(number):
                if self._row(number) == row and option.time_ns == time:
                    return number, None
                continue
            below = self._stages[option.layers[0] - 1]
            arriving = below.times[i] + self._between(below, [number])[:, 0] + option.time_ns
            j = int(arriving.argmin())
            if arriving[j] == time:
                return number, below.keys[j]
        raise AssertionError("no option explains a time that was found with one")

    def _stage(self, numbers: Sequence[int]) -> _Stage:
        ordered = sorted(numbers, key=self._keys.__getitem__)
        own = [self._keys[number] for number in ordered]
        keys = tuple(dict.fromkeys(own))
        arriving = np.full((len(self._rows), len(ordered)), UNREACHABLE, dtype=np.int64)
        inner: dict[int, list[int]] = {}
        for place, number in enumerate(ordered):
            if self._is_starter(number):
                arriving[self._rows[self._row(number)], place] = self._problem.options[number].time_ns
            else:
                inner.setdefault(self._problem.options[number].layers[0] - 1, []).append(place)
        for layer, places in inner.items():
            below = self._stages.get(layer)
            if below is not None:
                options = [ordered[place] for place in places]
                times = np.array([self._problem.options[number].time_ns for number in options], dtype=np.int64)
                ways = below.times[:, :, None] + self._between(below, options)
                arriving[:, places] = ways.min(axis=1) + times
        begins = [own.index(key) for key in keys]
        return _Stage(keys, np.minimum(np.minimum.reduceat(arriving, begins, axis=1), UNREACHABLE))

    def _between(self, below: _Stage, numbers: Sequence[int]) -> np.ndarray:
        """int64 [key below, option]: the conversion between two steps, and the segment that ends there."""
        options = [self._problem.options[number] for number in numbers]
        at = self._paths.at
        made = [at[outputs[0][1]] for outputs, _ in below.keys]
        wanted = [at[option.inputs[0][1]] for option in options]
        paths = self._paths.between(options[0].inputs[0][0])[np.ix_(made, wanted)]
        if not any(self._problem.segment_ns.values()):
            return paths
        device = np.array([device for _, device in below.keys])
        ends = np.array([self._problem.segment_ns.get(device, 0) for _, device in below.keys], dtype=np.int64)
        return paths + np.where(device[:, None] == [self._keys[number][1] for number in numbers], 0, ends[:, None])

    def _is_replaceable(self, stage: _Stage) -> np.ndarray:
        """bool [row, key]: the keys that another of the row replaces."""
        made = [self._paths.at[outputs[0][1]] for outputs, _ in stage.keys]
        device = np.array([device for _, device in stage.keys])
        paths = self._paths.between(stage.keys[0][0][0][0])[np.ix_(made, made)]
        paths = np.where(device[:, None] == device, paths, UNREACHABLE)
        other, own = stage.times[:, :, None], stage.times[:, None, :]
        number = np.arange(len(made))
        earlier = (other < own) | ((other == own) & (number[:, None] < number))
        return ((other + paths <= own) & earlier).any(axis=1)

    def _is_starter(self, number: int) -> bool:
        return self._problem.options[number].layers[0] <= self._layers[0]

    def _row(self, number: int) -> Row:
        option = self._problem.options[number]
        below = tuple(layer for layer in option.layers if layer < self._layers[0])
        return below, tuple(sorted(set(option.inputs))), self._device(number)

    def _key(self, number: int) -> Key:
        return self._problem.options[number].outputs, self._device(number)

    def _device(self, number: int) -> int:
        """Devices without a fixed cost need no telling apart."""
        device = self._problem.options[number].device
        return device if self._problem.segment_ns.get(device, 0) else NO_SEGMENT
