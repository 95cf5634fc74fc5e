"""Seeded random selection problems of up to eight layers, drawn so that the hard cases are frequent.

Owns the drawing only: it knows neither the solver nor the oracle, so no problem is chosen for its answer.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from softneuro_core.tuner.problem import Conversion, Option, Problem, ValueSpec

MOST_COVERS = 600
"""Problems with more ways to cover their layers lose options until brute force is affordable."""


@dataclass(frozen=True)
class Shape:
    """A DAG before anybody offers to run it: what each layer reads and makes, by value number."""

    reads: tuple[tuple[int, ...], ...]
    makes: tuple[tuple[int, ...], ...]
    sources: tuple[int, ...]
    outputs: tuple[int, ...]
    hubs: tuple[int | None, ...]
    """By value: a spec dear to reach, cheap to leave and seldom wanted, so that readers should share the way there."""

    def is_hidden(self, value: int, region: set[int]) -> bool:
        """True if only layers of ``region`` read the value and it is no graph output."""
        return value not in self.outputs and all(
            value not in reads for layer, reads in enumerate(self.reads) if layer not in region
        )


@dataclass(frozen=True)
class Knobs:
    """What kind of problem to draw; ``chance_*`` are probabilities."""

    layers: int
    specs: int
    devices: int
    options: int
    regions: int
    chance_multi_output: float
    chance_output: float
    chance_split_operand: float
    chance_unread_operand: float
    chance_leak: float
    chance_conversion: float
    chance_stuck: float
    hubs: bool
    longest_segment_ns: int
    limits: int

    @staticmethod
    def draw(rng: random.Random) -> Knobs:
        return Knobs(
            layers=rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 8, 8)),
            specs=rng.choice((1, 2, 3, 3, 3, 4, 4, 4, 4, 4, 4, 5)),
            devices=rng.choice((1, 2, 2, 3, 3)),
            options=rng.choice((1, 2, 2, 3, 4)),
            regions=rng.choice((0, 2, 4, 6, 8)),
            chance_multi_output=rng.choice((0.0, 0.3, 0.6)),
            chance_output=rng.choice((0.0, 0.2, 0.4)),
            chance_split_operand=rng.choice((0.0, 0.2, 0.5)),
            chance_unread_operand=rng.choice((0.0, 0.0, 0.15)),
            chance_leak=rng.choice((0.0, 0.0, 0.0, 0.5)),
            chance_conversion=rng.choice((1.0, 1.0, 1.0, 0.8, 0.6)),
            chance_stuck=rng.choice((0.0, 0.1, 0.4)),
            hubs=rng.random() < 0.9,
            longest_segment_ns=rng.choice((0, 30, 60)),
            limits=rng.choice((0, 0, 0, 1, 1, 2)),
        )


def problems(seed: int, count: int) -> Iterator[Problem]:
    """``count`` problems, the same ones for the same seed on every machine."""
    rng = random.Random(seed)
    for _ in range(count):
        yield random_problem(rng)


def random_problem(rng: random.Random) -> Problem:
    """One problem; value numbers say nothing about the order of layers."""
    knobs = Knobs.draw(rng)
    shape = _shape(rng, knobs)
    singles = [_single(rng, knobs, shape, layer) for layer in range(knobs.layers) for _ in range(knobs.options)]
    options = singles + _regions(rng, knobs, shape, singles)
    rng.shuffle(options)
    again = [value for value in shape.outputs if rng.random() < 0.1]
    sinks = dict.fromkeys(_specs(rng, knobs, shape, [*shape.outputs, *again]))
    problem = Problem(
        layer_count=knobs.layers,
        options=tuple(_affordable(rng, knobs.layers, options)),
        conversions={v: _conversions(rng, knobs, hub) for v, hub in enumerate(shape.hubs) if rng.random() < 0.99},
        sources=dict(_specs(rng, knobs, shape, shape.sources)),
        sinks=tuple(sinks),
        segment_ns=_segments(rng, knobs),
    )
    limits = tuple(_limit(rng, problem, place) for place in range(knobs.limits))
    return _renumbered(rng, dataclasses.replace(problem, limits=limits))


def _segments(rng: random.Random, knobs: Knobs) -> dict[int, int]:
    longest = knobs.longest_segment_ns
    return {device: rng.randint(1, longest) for device in range(knobs.devices) if longest and rng.random() < 0.8}


def _shape(rng: random.Random, knobs: Knobs) -> Shape:
    sources = tuple(range(rng.choice((1, 1, 2))))
    known = list(sources)
    reads, makes = [], []
    for _ in range(knobs.layers):
        recent = known[-rng.choice((1, 2, 3, 3)) :]
        wanted = rng.choice((0, 1, 1, 1, 2, 2, 2, 2, 3)) if len(known) > 1 else 1
        # The same value may stand twice among the operands, as in Mul(x, x).
        reads.append(tuple(rng.choice(recent) for _ in range(wanted)))
        count = rng.choice((2, 3)) if rng.random() < knobs.chance_multi_output else 1
        makes.append(tuple(range(len(known), len(known) + count)))
        known += makes[-1]
    used = {value for operands in reads for value in operands}
    outputs = [
        value for value in known if rng.random() < (knobs.chance_output if value in used or value in sources else 0.8)
    ]
    hubs = tuple(rng.randrange(knobs.specs) if knobs.hubs else None for _ in known)
    return Shape(tuple(reads), tuple(makes), sources, tuple(outputs or makes[-1][:1]), hubs)


def _specs(rng: random.Random, knobs: Knobs, shape: Shape, values: Sequence[int]) -> tuple[ValueSpec, ...]:
    return tuple((value, _spec(rng, knobs, shape.hubs[value])) for value in values)


def _spec(rng: random.Random, knobs: Knobs, hub: int | None) -> int:
    others = [spec for spec in range(knobs.specs) if spec != hub or rng.random() < 0.2]
    return rng.choice(others or [0])


def _operands(rng: random.Random, knobs: Knobs, shape: Shape, values: Sequence[int]) -> tuple[ValueSpec, ...]:
    """A spec for every operand; one value read twice is often wanted in two specs.

    Some options read less than others, like a kernel that has no use for an operand given its attributes.
    """
    read = [value for value in values if rng.random() >= knobs.chance_unread_operand]
    again = [value for value in read if rng.random() < knobs.chance_split_operand]
    return _specs(rng, knobs, shape, [*read, *again])


def _uses(rng: random.Random, knobs: Knobs, time_ns: int, most: int) -> tuple[int, ...]:
    """Fast is expensive: otherwise a limit would seldom bind."""
    return tuple(max(0, most - time_ns // 2) + rng.randint(0, 4) for _ in range(knobs.limits))


def _single(rng: random.Random, knobs: Knobs, shape: Shape, layer: int) -> Option:
    time_ns = rng.randint(0, 40)
    return Option(
        layers=(layer,),
        inputs=_operands(rng, knobs, shape, shape.reads[layer]),
        outputs=_specs(rng, knobs, shape, shape.makes[layer]),
        device=rng.randrange(knobs.devices),
        time_ns=time_ns,
        uses=_uses(rng, knobs, time_ns, 20),
    )


def _regions(rng: random.Random, knobs: Knobs, shape: Shape, singles: Sequence[Option]) -> list[Option]:
    grown = (_grow_region(rng, knobs, shape) for _ in range(knobs.regions))
    return [_region(rng, knobs, shape, layers, singles) for layers in grown if len(layers) > 1]


def _grow_region(rng: random.Random, knobs: Knobs, shape: Shape) -> set[int]:
    """An exit and producers of what the region reads, whose outputs nobody else uses (but for planned leaks)."""
    region = {rng.randrange(knobs.layers)}
    for _ in range(rng.choice((1, 2, 3))):
        read = {value for layer in region for value in shape.reads[layer]}
        leaks = rng.random() < knobs.chance_leak
        feeding = [
            layer
            for layer in range(max(region))
            if layer not in region
            and read.intersection(shape.makes[layer])
            and (leaks or all(shape.is_hidden(value, {*region, layer}) for value in shape.makes[layer]))
        ]
        if feeding:
            region.add(rng.choice(feeding))
    return region


def _region(rng: random.Random, knobs: Knobs, shape: Shape, region: set[int], singles: Sequence[Option]) -> Option:
    layers = tuple(sorted(region))
    inner = {value for layer in layers for value in shape.makes[layer]}
    values = [value for layer in layers for value in shape.reads[layer] if value not in inner]
    parts = [rng.choice([o for o in singles if o.layers == (layer,)]) for layer in layers]
    time_ns = int(sum(part.time_ns for part in parts) * rng.choice((0.2, 0.4, 0.7, 1.0)))
    return Option(
        layers=layers,
        inputs=_operands(rng, knobs, shape, values),
        outputs=_specs(rng, knobs, shape, shape.makes[layers[-1]]),
        device=rng.randrange(knobs.devices),
        time_ns=time_ns,
        uses=_uses(rng, knobs, time_ns, 10 * len(layers)),
    )


def _conversions(rng: random.Random, knobs: Knobs, hub: int | None) -> dict[tuple[int, int], Conversion]:
    """Some pairs may lack an adapter, and one spec may lack every adapter that leaves or that reaches it."""
    stuck = rng.randrange(knobs.specs) if rng.random() < knobs.chance_stuck else None
    end = rng.randrange(2)
    table = {}
    for pair in itertools.permutations(range(knobs.specs), 2):
        if pair[end] != stuck and rng.random() < knobs.chance_conversion:
            cheapest, dearest = (0, 30) if hub is None else (5, 9) if pair[1] == hub else (20, 30)
            time_ns = rng.randint(0, 3) if pair[0] == hub else rng.randint(cheapest, dearest)
            table[pair] = Conversion(time_ns, _uses(rng, knobs, time_ns, 5))
    return table


def _affordable(rng: random.Random, layer_count: int, options: list[Option]) -> list[Option]:
    """Drops options of layers that have several until there are at most :data:`MOST_COVERS` covers."""
    left = list(options)
    while _count_covers(layer_count, left) > MOST_COVERS:
        alone = [o.layers[0] for o in left if len(o.layers) == 1]
        spare = [o for o in left if len(o.layers) > 1 or alone.count(o.layers[0]) > 1]
        left.remove(rng.choice(spare))
    return left


def _count_covers(layer_count: int, options: Sequence[Option]) -> int:
    masks = [sum(1 << layer for layer in option.layers) for option in options]
    ways = [0] * (1 << layer_count)
    ways[0] = 1
    for covered in range(len(ways) - 1):
        lowest = ~covered & (covered + 1)
        for mask in masks if ways[covered] else ():
            if mask & lowest and not mask & covered:
                ways[covered | mask] += ways[covered]
    return ways[-1]


def _limit(rng: random.Random, problem: Problem, place: int) -> int | None:
    """Somewhere between what the most frugal and the fastest single-layer options use; now and then unbounded."""
    if rng.random() < 0.1:
        return None
    frugal = fastest = 0
    for layer in range(problem.layer_count):
        single = [o for o in problem.options if o.layers == (layer,)]
        frugal += min(o.uses[place] for o in single)
        fastest += min((o.time_ns, o.uses[place]) for o in single)[1]
    slack = 4 * problem.layer_count
    return frugal + int((fastest + slack - frugal) * rng.choice((0.2, 0.4, 0.6, 0.8, 1.0, 2.0)))


def _renumbered(rng: random.Random, problem: Problem) -> Problem:
    """The same problem with its values called by other numbers."""
    values = {v for o in problem.options for v, _ in (*o.inputs, *o.outputs)}
    values |= {*problem.conversions, *problem.sources, *(v for v, _ in problem.sinks)}
    numbers = list(range(2 * len(values)))
    rng.shuffle(numbers)
    new = dict(zip(sorted(values), numbers, strict=False))

    def renamed(pairs: Sequence[ValueSpec]) -> tuple[ValueSpec, ...]:
        return tuple((new[value], spec) for value, spec in pairs)

    return dataclasses.replace(
        problem,
        options=tuple(
            dataclasses.replace(o, inputs=renamed(o.inputs), outputs=renamed(o.outputs)) for o in problem.options
        ),
        conversions={new[value]: table for value, table in problem.conversions.items()},
        sources={new[value]: spec for value, spec in problem.sources.items()},
        sinks=renamed(problem.sinks),
    )
