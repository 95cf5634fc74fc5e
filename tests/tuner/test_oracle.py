"""The exact tuner against brute force, on thousands of random DAGs with every hard case counted among them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator

import pytest

from softneuro_core.tuner.exact import ExactTuner
from softneuro_core.tuner.problem import Option, Problem

from .generate import problems
from .oracle import Answer, Oracle, Tree, complaint
from .planted import PLANTED, Planted

CHUNKS, CHUNK_SIZE, CHUNK_MINIMUM = 10, 240, 20
"""10 seeds of 240 DAGs: 2,400 in all; at least 20 of each kind in every seed: at least 200 in all."""
KINDS = (
    "a chosen multi-layer region",
    "a shared intermediate conversion",
    "a multi-output layer",
    "one value in two specs for one layer",
    "a graph output that is also consumed",
    "an incomplete adapter set",
    "a segment cost that changes the optimum",
    "a limit that binds",
    "no feasible plan",
)


def kinds(problem: Problem, best: Answer | None) -> Iterator[str]:
    """Which of :data:`KINDS` a problem is; those about plans hold for the optimum, not for some plan."""
    if best is None:
        yield "no feasible plan"
        return
    steps = [problem.options[number] for number in best.chosen]
    if any(len(step.layers) > 1 for step in steps):
        yield "a chosen multi-layer region"
    if any(_shares(problem, steps, value, tree) for value, tree in best.trees.items()):
        yield "a shared intermediate conversion"
    if any(len({value for value, _ in step.outputs} & _read(problem, steps)) > 1 for step in steps):
        yield "a multi-output layer"
    if any(len(set(step.inputs)) > len({value for value, _ in step.inputs}) for step in steps):
        yield "one value in two specs for one layer"
    if any(value == sink for step in steps for value, _ in step.inputs for sink, _ in problem.sinks):
        yield "a graph output that is also consumed"
    if any(_unreachable(problem, value, spec) for step in problem.options for value, spec in step.inputs):
        yield "an incomplete adapter set"
    if problem.segment_ns and _has_better(free := dataclasses.replace(problem, segment_ns={}), best, free):
        yield "a segment cost that changes the optimum"
    unlimited = dataclasses.replace(problem, limits=(None,) * len(problem.limits))
    if unlimited != problem and _has_better(unlimited, best, problem):
        yield "a limit that binds"


def _read(problem: Problem, steps: list[Option]) -> set[int]:
    return {value for value, _ in (*problem.sinks, *(pair for step in steps for pair in step.inputs))}


def _shares(problem: Problem, steps: list[Option], value: int, tree: Tree) -> bool:
    """True if a spec that nobody wants is made, and converted onward more than once."""
    wanted = {s for step in steps for v, s in step.inputs if v == value} | {s for v, s in problem.sinks if v == value}
    made = [target for _, target in tree.edges]
    onward = Counter(source for source, _ in tree.edges)
    return any(onward[spec] > 1 for spec in made if spec not in wanted)


def _unreachable(problem: Problem, value: int, spec: int) -> bool:
    """True if somebody may make ``value`` in a spec from which no chain of conversions leads to ``spec``."""
    reaching = {spec}
    for _ in range(len(problem.conversions.get(value, {}))):
        reaching |= {a for a, b in problem.conversions[value] if b in reaching}
    made = {s for option in problem.options for v, s in option.outputs if v == value}
    return bool(made - reaching)


def _has_better(relaxed: Problem, best: Answer, priced_in: Problem) -> bool:
    """True if the relaxed problem has a plan that beats what the best plan costs in ``priced_in``."""
    other, same = Oracle(relaxed).best(), Oracle(priced_in).price(best.chosen)
    assert other
    assert same
    return other.time_ns < same.time_ns


@pytest.fixture(scope="module")
def tally() -> Iterator[Counter[str]]:
    """Sums over the seeds that ran in this process (all of them without xdist); shown by ``pytest -s``."""
    counts: Counter[str] = Counter()
    yield counts
    print(f"\n{_table(counts)}")


def _table(counts: Counter[str]) -> str:
    return "\n".join(f"{counts[name]:6} {name}" for name in ("random DAGs", *KINDS))


@pytest.mark.parametrize("seed", range(CHUNKS))
def test_random_dags_have_the_time_brute_force_finds(seed: int, tally: Counter[str]) -> None:
    counts: Counter[str] = Counter()
    for number, problem in enumerate(problems(seed, CHUNK_SIZE)):
        best = Oracle(problem).best()
        wrong = complaint(problem, best, ExactTuner())
        assert wrong is None, f"seed {seed}, problem {number}: {wrong}\n{problem}"
        counts.update(["random DAGs", *kinds(problem, best)])
    tally.update(counts)
    print(f"\nseed {seed}:\n{_table(counts)}")
    assert all(counts[kind] >= CHUNK_MINIMUM for kind in KINDS), _table(counts)
    assert counts["random DAGs"] == CHUNK_SIZE


def test_the_seeds_together_are_as_many_as_asked_for() -> None:
    assert CHUNKS * CHUNK_SIZE >= 2000
    assert CHUNKS * CHUNK_MINIMUM >= 200


@pytest.mark.parametrize("seed", (1000, 1001))
def test_min_marginals_are_what_forcing_each_option_by_brute_force_costs(seed: int) -> None:
    compared = Counter[bool]()
    for number, problem in enumerate(problems(seed, count=100)):
        if Oracle(problem).best() is None:
            continue
        tuner = ExactTuner()
        found = list(tuner.min_marginals(problem, tuner.select(problem)))
        assert found == Oracle(problem).best_with_each(), f"seed {seed}, problem {number}: {problem}"
        compared.update(time is None for time in found)
    print(f"\nseed {seed}: {compared[False]} options with a plan and {compared[True]} without")
    assert compared[False] >= 500
    assert compared[True] >= 20


@pytest.fixture(scope="module")
def solved() -> list[tuple[Problem, Answer | None]]:
    return [(problem, Oracle(problem).best()) for problem in problems(seed=0, count=CHUNK_SIZE)]


@pytest.mark.parametrize("tuner", PLANTED)
def test_the_comparison_sees_a_planted_bug(tuner: type[Planted], solved: list[tuple[Problem, Answer | None]]) -> None:
    seen = Counter[str]()
    for problem, best in solved:
        wrong = complaint(problem, best, tuner())
        seen.update([" ".join(wrong.split()[:4])] if wrong else [])
    print(f"\n{tuner.__name__}: {dict(seen)} of {CHUNK_SIZE}")
    assert seen.total() >= 5, seen
