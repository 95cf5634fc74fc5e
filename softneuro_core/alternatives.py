"""What else could do the work of a plan's steps, between the same values stored the same way: other routines, the
layers of several steps as one region, those of one as two steps."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

from softneuro_core.candidates import Candidate
from softneuro_core.graph import Layer
from softneuro_core.selection import chosen_candidates
from softneuro_core.task import Tuned

Layers = frozenset[Layer]
Way = tuple[Candidate, ...]
"""Candidates that together compute some layers, in step order."""


@dataclass(frozen=True, slots=True)
class Place:
    """``chosen`` are steps of a plan; ``others`` could stand there instead, the cheapest first."""

    chosen: Way
    others: tuple[Way, ...]


class Alternatives:
    """Of a tuned plan, at a price of at most ``reach`` times that of what was chosen. Control flow has none."""

    def __init__(self, tuned: Tuned, reach: float) -> None:
        self._tuned, self.prices, self._reach = tuned, tuned.form.prices.kernels, reach
        self._chosen = chosen_candidates(tuned.form, tuned.selection)
        self._by_layers = defaultdict[Layers, list[Candidate]](list)
        for candidate, price in sorted(self.prices.items(), key=lambda item: item[1].time_ns):
            if price.source != "bodies":
                self._by_layers[frozenset(candidate.region.layers)].append(candidate)

    def price_ns(self, way: Way) -> int:
        return sum(self.prices[candidate].time_ns for candidate in way)

    def rivals(self, most: int) -> list[Place]:
        """Every step of the plan, and so many others that compute the same layers."""
        return [Place((c,), self._fitting((c,), self._whole(frozenset(c.region.layers)))[:most]) for c in self._chosen]

    def cuts(self) -> list[Place]:
        """Every step of the plan, alone or together with others that one region could replace; the best such region,
        or the best two steps in place of one. Where regions overlap the largest counts."""
        places: dict[Layer, Place] = {}
        for candidate in self._chosen:
            alone = Place((candidate,), self._fitting((candidate,), self._in_two(candidate))[:1])
            places |= dict.fromkeys(candidate.region.layers, alone)
        for layers in sorted(self._by_layers, key=len, reverse=True):
            steps = tuple(c for c in self._chosen if not layers.isdisjoint(c.region.layers))
            if len(steps) < 2 or any(len(places[layer].chosen) > 1 for layer in layers):
                continue
            inside = layers.issuperset(layer for c in steps for layer in c.region.layers)
            if found := self._fitting(steps, self._whole(layers))[:1] if inside else ():
                places |= dict.fromkeys(layers, Place(steps, found))
        return list({id(place): place for place in places.values()}.values())

    def _whole(self, layers: Layers) -> Iterator[Way]:
        return ((candidate,) for candidate in self._by_layers[layers])

    def _in_two(self, whole: Candidate) -> Iterator[Way]:
        layers = whole.region.layers
        for count in range(1, len(layers)):
            for first in self._by_layers.get(frozenset(layers[:count]), ()):
                for second in self._by_layers.get(frozenset(layers[count:]), ()):
                    yield first, second

    def _fitting(self, way: Way, others: Iterable[Way]) -> tuple[Way, ...]:
        """Those that can stand in its place, the cheapest first."""
        most, ends = self._reach * self.price_ns(way), self._ends_here(way)
        found = [x for x in others if x != way and self.price_ns(x) <= most and ends and ends == self._ends_here(x)]
        return tuple(sorted(found, key=self.price_ns))

    def _ends_here(self, way: Way) -> Hashable | None:
        """None also where the plan converts a value that is made and read inside."""
        values, conversions = self._tuned.form.values, self._tuned.selection.conversions
        is_converted = any(conversions.get(values[v]) for candidate in way[:-1] for v in candidate.region.outputs)
        return None if is_converted else _ends(way)


def _ends(way: Way) -> Hashable | None:
    """What is read from outside and how it is stored, the same of what is made, and which narrower types constants are
    kept in; None if a value made inside is not read as it was stored."""
    made = {v: s for c in way for v, s in zip(c.region.outputs, c.offer.outputs, strict=True)}
    reads = [pair for c in way for pair in zip(c.region.inputs, c.offer.inputs, strict=True)]
    if any(made[v] != s for v, s in reads if v in made):
        return None
    outside = Counter((v, s) for v, s in reads if v not in made)
    return frozenset(outside.items()), way[-1].offer.outputs, frozenset[str]().union(*(c.offer.uses for c in way))
