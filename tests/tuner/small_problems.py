"""Random selection problems of the solver's own tests (the oracle's generator is another, on purpose)."""

from __future__ import annotations

import random

from softneuro_core.tuner.problem import Conversion, Option, Problem


def random_problem(seed: int, layers: int = 6, specs: int = 4, limits: int = 0, chained: float = 0.0) -> Problem:
    """A DAG of ``layers`` layers with chains fused at random, two devices, sparse conversions, some without a plan.

    Value 0 and 1 are graph inputs, layer i makes value 2 + 2 i and sometimes 3 + 2 i. ``chained`` is the share of
    layers that read nothing but what the one before makes.
    """
    rng = random.Random(seed)
    outputs = [[2 + 2 * i, *([3 + 2 * i] if rng.random() < 0.25 else [])] for i in range(layers)]
    inputs: list[list[int]] = []
    for i in range(layers):
        if i and chained and rng.random() < chained:
            inputs.append([2 * i])
            continue
        known = [0, 1, *(v for made in outputs[:i] for v in made)]
        recent = known[-5:]
        inputs.append([rng.choice(recent) for _ in range(rng.choice((1, 1, 2, 3)))])
    sinks = {(rng.choice(outputs[-1]), rng.randrange(specs))}
    while rng.random() < 0.4:
        sinks.add((rng.choice([v for made in outputs for v in made]), rng.randrange(specs)))

    def uses() -> tuple[int, ...]:
        return tuple(rng.randrange(10) for _ in range(limits))

    options = []
    for region in _regions(inputs, outputs, {v for v, _ in sinks}, rng):
        inner = {v for layer in region for v in outputs[layer]}
        read = [v for layer in region for v in inputs[layer] if v not in inner]
        count = rng.randrange(1, 5) if len(region) == 1 else rng.randrange(0, 4)
        options += [
            Option(
                region,
                tuple((v, rng.randrange(specs)) for v in read),
                tuple((v, rng.randrange(specs)) for v in outputs[region[-1]]),
                rng.randrange(3),
                rng.randrange(1, 40),
                uses(),
            )
            for _ in range(count)
        ]
    density = rng.choice((0.35, 0.6, 0.9))
    conversions = {
        value: {
            (a, b): Conversion(rng.randrange(1, 15), uses())
            for a in range(specs)
            for b in range(specs)
            if a != b and rng.random() < density
        }
        for value in range(2 + 2 * layers)
    }
    segment = rng.choice(({}, {0: rng.randrange(1, 25)}, {0: rng.randrange(1, 25), 1: rng.randrange(1, 25)}))
    bounds = tuple(rng.choice((None, rng.randrange(5, 20 * layers))) for _ in range(limits))
    return Problem(layers, tuple(options), conversions, {0: 0, 1: rng.randrange(specs)}, tuple(sinks), segment, bounds)


def _regions(
    inputs: list[list[int]], outputs: list[list[int]], sinks: set[int], rng: random.Random
) -> list[tuple[int, ...]]:
    """Every layer alone, and some legal groups of two or three."""
    count = len(inputs)
    found: list[tuple[int, ...]] = [(i,) for i in range(count)]
    users = {v: {j for j in range(count) if v in inputs[j]} for made in outputs for v in made}
    for exit_ in range(count):
        for first in range(exit_):
            for region in ((first, exit_), *((first, mid, exit_) for mid in range(first + 1, exit_))):
                inner = [v for layer in region[:-1] for v in outputs[layer]]
                if all(v not in sinks and users[v] and users[v] <= set(region) for v in inner) and rng.random() < 0.7:
                    found.append(region)
    return found
