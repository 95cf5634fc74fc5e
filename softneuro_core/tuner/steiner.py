"""Cheapest conversion trees over the specs of one value. Knows nothing of layers, steps or options.

A value is made in one spec and wanted in a few; a conversion on the way serves everything behind it, so what it
costs to serve them is a directed Steiner tree, not a sum of shortest paths. The specs are few (a dozen, sometimes
two) and the wanted ones fewer, which is the case Dreyfus and Wagner solve exactly (S. E. Dreyfus, R. A. Wagner,
"The Steiner problem in graphs", Networks 1, 1971). With ``w`` the conversions and ``T`` a set of wanted specs::

    tree(s, {s}) = 0
    tree(s, T)   = min( min over s -> u   of  w(s, u) + tree(u, T),           convert first
                        min over T = A+B  of  tree(s, A) + tree(s, B) )       two branches leave s

For one ``T`` the branches give every spec a first value and the rest is one run of Dijkstra's algorithm along
reversed conversions. Under limits costs are vectors (time, bounded uses), every value a Pareto front, and Dijkstra's
algorithm the label-setting one of Martins (1984). Without limits only paths are found so; for larger sets times are
arrays over all specs at once, and the tree behind a time is looked up again when a plan needs it (100 sets over 24
specs: 4.9 s as labels). A set of specs is a bit mask.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from softneuro_core.tuner.pareto import Uses, add, front, within
from softneuro_core.tuner.problem import Conversion

UNREACHABLE = 1 << 52
"""More nanoseconds than any plan costs (52 days); hundreds of them still add up within 64 bits."""

GREEDY_ABOVE = 5
"""Extensions to more new specs than this are bounded by their separate paths instead of solved (3^k work)."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A conversion tree by the last step of the recurrence that built it: one edge before ``rest``, or two parts."""

    time: int
    uses: Uses
    edge: tuple[int, int] | None = None
    parts: tuple[Tree, ...] = ()

    def edges(self) -> list[tuple[int, int]]:
        """Its conversions, in no order; one may stand twice."""
        found: list[tuple[int, int]] = []
        stack = [self]
        while stack:
            tree = stack.pop()
            stack.extend(tree.parts)
            if tree.edge is not None:
                found.append(tree.edge)
        return found


def runnable(edges: Iterable[tuple[int, int]], root: int, wanted: int) -> tuple[tuple[int, int], ...]:
    """A tree within ``edges`` from ``root`` to all ``wanted``, in an order it can run, with no edge for nothing.

    Raises KeyError if they do not connect."""
    onward: dict[int, list[int]] = {}
    for source, target in edges:
        onward.setdefault(source, []).append(target)
    parent: dict[int, int] = {}
    queue = [root]
    for spec in queue:
        for target in onward.get(spec, ()):
            if target != root and target not in parent:
                parent[target] = spec
                queue.append(target)
    needed: set[int] = set()
    for spec in members(wanted):
        while spec != root and spec not in needed:
            needed.add(spec)
            spec = parent[spec]
    return tuple((parent[spec], spec) for spec in queue[1:] if spec in needed)


def members(mask: int) -> Iterator[int]:
    """The numbers whose bits are set, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class Trees:
    """All cheapest conversion trees of one value, found when first asked for and kept.

    ``specs`` are all a value may be in (others have no conversions). ``bounded`` picks the uses that count; a tree
    whose uses exceed ``caps`` on its own is dropped.
    """

    def __init__(
        self,
        conversions: Mapping[tuple[int, int], Conversion],
        specs: Sequence[int],
        bounded: tuple[int, ...] = (),
        caps: Uses = (),
    ) -> None:
        self._caps = caps
        self._specs = tuple(specs)
        self._at = {spec: i for i, spec in enumerate(specs)}
        self._times: dict[int, np.ndarray] = {0: np.zeros(len(specs), dtype=np.int64)}
        self._distances: np.ndarray | None = None
        self._free = Tree(0, (0,) * len(bounded))
        self._into: dict[int, list[tuple[int, int, Uses]]] = {}
        for (source, target), cost in conversions.items():
            uses = tuple(cost.uses[i] for i in bounded) if cost.uses else self._free.uses
            if source != target and within(uses, caps):
                self._into.setdefault(target, []).append((source, cost.time_ns, uses))
        self._rows: dict[int, dict[int, list[Tree]]] = {}
        self._extensions: dict[tuple[int, int], list[Tree]] = {}

    def row(self, wanted: int) -> Mapping[int, list[Tree]]:
        """For every spec it can start from, the front of trees that reach all ``wanted``."""
        found = self._rows.get(wanted)
        if found is None:
            if not wanted & (wanted - 1):
                found = self._spread({spec: [self._free] for spec in members(wanted)})
            elif self._caps:
                found = self._spread(self._branchings(wanted))
            else:
                times = zip(self._specs, self.times(wanted).tolist(), strict=True)
                found = {spec: [Tree(time, ())] for spec, time in times if time < UNREACHABLE}
            self._rows[wanted] = found
        return found

    def times(self, wanted: int) -> np.ndarray:
        """Time (int64) of the cheapest tree to ``wanted`` from each spec, uses apart."""
        found = self._times.get(wanted)
        if found is None:
            if not wanted & (wanted - 1):
                row = self.row(wanted)
                ways = [row.get(spec) for spec in self._specs]
                found = np.array([way[0].time if way else UNREACHABLE for way in ways], dtype=np.int64)
            else:
                found = np.minimum((self._all_paths() + self._branched(wanted)).min(axis=1), UNREACHABLE)
            self._times[wanted] = found
        return found

    def edges(self, made: int, wanted: int, tree: Tree | None = None) -> tuple[tuple[int, int], ...]:
        """The conversions of a tree that :meth:`front` gave, in an order they can run; without limits those of a
        cheapest one, whatever ``tree`` says."""
        found = tree.edges() if self._caps and tree is not None else self._lookup(made, wanted)
        return runnable(found, made, wanted)

    def _all_paths(self) -> np.ndarray:
        if self._distances is None:
            self._distances = np.stack([self.times(1 << spec) for spec in self._specs], axis=1)
        return self._distances

    def _branched(self, wanted: int) -> np.ndarray:
        """Time of two branches that together reach ``wanted``, from each spec."""
        return np.minimum.reduce([self.times(a) + self.times(wanted ^ a) for a in _halves(wanted)])

    def _lookup(self, made: int, wanted: int) -> list[tuple[int, int]]:
        """Walks the recurrence again along one cheapest tree."""
        if not wanted & (wanted - 1):
            return self.row(wanted)[made][0].edges() if wanted else []
        branched, start = self._branched(wanted), self._at[made]
        fork = self._specs[int((self._all_paths()[start] + branched).argmin())]
        at = self._at[fork]
        part = next(a for a in _halves(wanted) if self.times(a)[at] + self.times(wanted ^ a)[at] == branched[at])
        path = self.row(1 << fork)[made][0].edges()
        return path + self._lookup(fork, part) + self._lookup(fork, wanted ^ part)

    def front(self, made: int, wanted: int) -> list[Tree]:
        """The front of trees from spec ``made`` to all ``wanted``; empty if there is none."""
        wanted &= ~(1 << made)
        return self.row(wanted).get(made, []) if wanted else [self._free]

    def extension(self, held: int, wanted: int) -> list[Tree]:
        """The front of what makes ``wanted`` from the specs ``held`` together; above :data:`GREEDY_ABOVE` new
        specs a member of it or something dearer, which callers may use as an upper bound only."""
        wanted &= ~held
        if not wanted:
            return [self._free]
        key = (held, wanted)
        found = self._extensions.get(key)
        if found is None:
            if wanted.bit_count() > GREEDY_ABOVE:
                first = wanted & -wanted
                found = self._joined([(self.extension(held, first), self.extension(held, wanted ^ first))])
            else:
                found = [tree for spec in members(held) for tree in self.row(wanted).get(spec, [])]
                found += self._joined(
                    (self.extension(held, a), self.extension(held, wanted ^ a)) for a in _halves(wanted)
                )
            found = self._extensions[key] = front(found)
        return found

    def _branchings(self, wanted: int) -> dict[int, list[Tree]]:
        """Per spec, the front of two trees that share only their root; a wanted spec is its own first branch."""
        splits = [(self.row(a), self.row(wanted ^ a)) for a in _halves(wanted)]
        return {
            spec: found
            for spec in set().union(*(left.keys() & right.keys() for left, right in splits))
            if (found := self._joined((left.get(spec, []), right.get(spec, [])) for left, right in splits))
        }

    def _joined(self, pairs: Iterable[tuple[list[Tree], list[Tree]]]) -> list[Tree]:
        joined = (Tree(a.time + b.time, add(a.uses, b.uses), None, (a, b)) for x, y in pairs for a in x for b in y)
        return front(tree for tree in joined if within(tree.uses, self._caps))

    def _spread(self, seeds: Mapping[int, list[Tree]]) -> dict[int, list[Tree]]:
        """Labels settled in ascending order along reversed conversions."""
        settled: dict[int, list[Tree]] = {}
        heap = [(tree.time, tree.uses, i, spec, tree) for i, (spec, tree) in enumerate(_flat(seeds))]
        heapq.heapify(heap)
        count = len(heap)
        while heap:
            time, uses, _, spec, tree = heapq.heappop(heap)
            own = settled.setdefault(spec, [])
            if any(within(better.uses, uses) for better in own):
                continue
            own.append(tree)
            for source, step, step_uses in self._into.get(spec, ()):
                if not uses and source in settled:
                    continue
                longer = add(uses, step_uses)
                if within(longer, self._caps):
                    count += 1
                    grown = Tree(time + step, longer, (source, spec), (tree,))
                    heapq.heappush(heap, (grown.time, longer, count, source, grown))
        return settled


def _halves(mask: int) -> Iterator[int]:
    """Every way to split a set in two, once: the parts that contain its lowest member."""
    low = mask & -mask
    rest = mask ^ low
    part = rest
    while part:
        part = (part - 1) & rest
        yield part | low


def _flat(seeds: Mapping[int, list[Tree]]) -> Iterator[tuple[int, Tree]]:
    return ((spec, tree) for spec, trees in seeds.items() for tree in trees)
