"""Contracting chains changes no optimum: against the same sweep without it, and against brute force."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from softneuro_core.errors import SelectionError
from softneuro_core.tuner.chains import contract
from softneuro_core.tuner.exact import ExactTuner
from softneuro_core.tuner.labels import Budget
from softneuro_core.tuner.moves import Moves
from softneuro_core.tuner.problem import Conversion, Option, Problem, Selection
from softneuro_core.tuner.sweep import Sweep
from softneuro_core.tuner.widths import walk

from .oracle import Oracle, complaint
from .small_problems import random_problem


def inner(problem: Problem) -> set[int]:
    """The values no option of the contracted problem makes."""
    left = {value for option in contract(problem).problem.options for value, _ in option.outputs}
    return {value for option in problem.options for value, _ in option.outputs} - left


def features(problem: Problem, selection: Selection) -> list[str]:
    """What the contraction of a problem had to get right, by what the optimum uses."""
    hidden = inner(problem)
    chosen = [problem.options[number] for number in selection.chosen]
    ending_inside = [o for o in chosen if any(value in hidden for value, _ in o.outputs)]
    entered_inside = [o for o in chosen if any(value in hidden for value, _ in o.inputs)]
    found = ["a chain"] if hidden else []
    found += ["a conversion inside"] if hidden & {v for v, edges in selection.conversions.items() if edges} else []
    found += ["a region inside"] if any(len(o.layers) > 1 for o in ending_inside + entered_inside) else []
    gaps = [o for o in ending_inside if set(o.layers) != set(range(o.layers[0], o.exit + 1))]
    found += ["a starter that covers layers apart"] if gaps else []
    devices = {o.device for o in ending_inside + entered_inside}
    found += (
        ["a segment that ends inside"] if any(problem.segment_ns.get(d) for d in devices) and devices != {2} else []
    )
    return found


@pytest.mark.parametrize("seed", range(4))
def test_contracted_and_plain_sweeps_agree(seed: int) -> None:
    counts: Counter[str] = Counter()
    for number in range(200):
        problem = random_problem(1000 * seed + number, 6 + number % 6, 3 + number % 4, 0, 0.35 + 0.15 * (number % 4))
        end = walk(Sweep(Moves(problem), Budget())) if _is_covered(problem) else None
        if end is None:
            with pytest.raises(SelectionError):
                ExactTuner().select(problem)
            counts["no plan"] += 1
            continue
        selection = ExactTuner().select(problem)
        assert selection.time_ns == selection.lower_bound_ns == end.time, f"seed {seed}, problem {number}: {problem}"
        counts.update(["a plan", *features(problem, selection)])
    print(f"\nseed {seed}: {dict(counts)}")
    for kind in ("a chain", "a conversion inside", "a region inside", "a segment that ends inside", "no plan"):
        assert counts[kind] >= 10, kind
    assert counts["a starter that covers layers apart"] >= 1


def test_brute_force_agrees() -> None:
    chains = 0
    for seed in range(5000, 5150):
        problem = random_problem(seed, 6, 3, 0, 0.7)
        wrong = complaint(problem, Oracle(problem).best(), ExactTuner())
        assert wrong is None, f"seed {seed}: {wrong}\n{problem}"
        chains += bool(inner(problem)) if _is_covered(problem) else 0
    assert chains >= 100


def test_a_chain_becomes_one_layer_and_back() -> None:
    """0 -> 1 -> 2 in a row: the fast last step reads spec 2, which the first is one conversion from."""
    options = (
        Option((0,), ((9, 0),), ((0, 1),), 0, 5),
        Option((1,), ((0, 1),), ((1, 1),), 0, 7),
        Option((1,), ((0, 2),), ((1, 2),), 0, 3),
        Option((2,), ((1, 2),), ((2, 0),), 0, 4),
        Option((1, 2), ((0, 1),), ((2, 0),), 0, 40),
    )
    tables = {0: {(1, 2): Conversion(2)}, 1: {(1, 2): Conversion(9)}}
    problem = Problem(3, options, tables, {9: 0}, ((2, 0),))
    small = contract(problem)
    assert (small.problem.layer_count, len(small.problem.options)) == (1, 1)
    assert (small.problem.options[0].inputs, small.problem.options[0].time_ns) == (((9, 0),), 5 + 2 + 3 + 4)
    assert small.expand(((0,), {})) == ((0, 2, 3), {0: ((1, 2),)})


def test_what_is_no_chain_is_left_alone() -> None:
    """A second reader, the host, a limit or a region that jumps over a layer: each needs the value by itself."""

    options = tuple(Option((i,), ((i - 1, 0),), ((i, 0),), 0, 1, (1,)) for i in range(4))
    problem = Problem(4, options, {}, {-1: 0}, ((3, 0),), {}, (None,))

    def layers_with(option: Option) -> int:
        return contract(replace(problem, options=(*options, option))).problem.layer_count

    assert contract(problem).problem.layer_count == 1
    assert contract(replace(problem, sinks=((3, 0), (1, 0)))).problem.layer_count == 2
    assert contract(replace(problem, limits=(9,))).problem.layer_count == 4
    assert layers_with(Option((3,), ((2, 0), (0, 0)), ((3, 0),), 0, 1)) == 3
    assert layers_with(Option((0, 2), ((-1, 0), (1, 0)), ((2, 0),), 0, 1)) == 3
    assert layers_with(Option((2,), ((1, 0), (1, 1)), ((2, 0),), 0, 1)) == 2


def _is_covered(problem: Problem) -> bool:
    return {layer for option in problem.options for layer in option.layers} == set(range(problem.layer_count))
