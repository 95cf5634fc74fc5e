"""The exact tuner against hand-made cases, the ILP, forced re-solves and its own bounds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from softneuro_core.errors import SelectionError
from softneuro_core.tuner import exact, ilp
from softneuro_core.tuner.exact import ExactTuner
from softneuro_core.tuner.explain import explain
from softneuro_core.tuner.infeasible import Infeasible
from softneuro_core.tuner.price import price, within
from softneuro_core.tuner.problem import Conversion, Option, Problem, Selection

from .small_problems import random_problem


def solve(problem: Problem) -> Selection:
    selection = ExactTuner().select(problem)
    assert (selection.time_ns, selection.uses) == price(problem, selection.chosen, selection.conversions)
    assert within(problem, selection.uses)
    assert selection.exact
    assert selection.gap == 0.0
    return selection


def step(layer: int, reads: list[tuple[int, int]], makes: list[tuple[int, int]], time: int, device: int = 0) -> Option:
    return Option((layer,), tuple(reads), tuple(makes), device, time)


def test_shared_conversion_is_paid_once() -> None:
    """0 -> 2 serves 2 -> 3 and 2 -> 4: 10 + 1 + 1, where separate paths cost 22 and direct ones 9 + 9."""
    edges = {(0, 2): 10, (2, 3): 1, (2, 4): 1, (0, 3): 9, (0, 4): 9}
    options = (
        step(0, [], [(0, 0)], 5),
        step(1, [(0, 3)], [(1, 0)], 1),
        step(2, [(0, 4), (1, 0)], [(2, 0)], 1),
    )
    problem = Problem(3, options, {0: {edge: Conversion(time) for edge, time in edges.items()}}, sinks=((2, 0),))
    selection = solve(problem)
    assert selection.time_ns == 7 + 12
    assert selection.conversions == {0: ((0, 2), (2, 3), (2, 4))}


def test_value_that_is_source_and_sink_and_read() -> None:
    options = (step(0, [(0, 1)], [(1, 0)], 3),)
    problem = Problem(1, options, {0: {(0, 1): Conversion(2), (1, 2): Conversion(4)}}, {0: 0}, ((0, 2), (0, 0), (1, 0)))
    selection = solve(problem)
    assert selection.time_ns == 3 + 2 + 4
    assert selection.conversions == {0: ((0, 1), (1, 2))}


def test_no_layers_still_converts_inputs() -> None:
    problem = Problem(0, (), {0: {(0, 1): Conversion(2)}}, {0: 0}, ((0, 1),))
    assert solve(problem).time_ns == 2


def test_unused_output_is_demanded_nowhere() -> None:
    options = (step(0, [], [(0, 0), (1, 5)], 1), step(1, [(0, 0)], [(2, 0)], 1))
    assert solve(Problem(2, options, sinks=((2, 0),))).time_ns == 2


def test_segment_cost_keeps_a_run_together() -> None:
    """The cheap middle step on device 1 would split device 0's run and start a second one."""
    options = (
        step(0, [], [(0, 0)], 10, 0),
        step(1, [(0, 0)], [(1, 0)], 10, 0),
        step(1, [(0, 0)], [(1, 0)], 4, 1),
        step(2, [(1, 0)], [(2, 0)], 10, 0),
    )
    problem = Problem(3, options, sinks=((2, 0),), segment_ns={0: 5, 1: 3})
    assert solve(problem).chosen == (0, 1, 3)
    assert solve(replace(problem, segment_ns={0: 2, 1: 3})).chosen == (0, 2, 3)


def test_region_hides_its_inner_value() -> None:
    """The region is cheaper, but layer 2 reads what it hides."""
    options = (
        step(0, [], [(0, 0)], 10),
        step(1, [(0, 0)], [(1, 0)], 10),
        Option((0, 1), (), ((1, 0),), 0, 1),
        step(2, [(0, 0), (1, 0)], [(2, 0)], 10),
    )
    assert solve(Problem(3, options, sinks=((2, 0),))).chosen == (0, 1, 3)
    alone = replace(options[3], inputs=((1, 0),))
    assert solve(Problem(3, (*options[:3], alone), sinks=((2, 0),))).chosen == (2, 3)


def test_limit_changes_the_plan_and_counts_conversions() -> None:
    options = (
        Option((0,), (), ((0, 0),), 0, 10, (0,)),
        Option((0,), (), ((0, 1),), 0, 2, (5,)),
    )
    table = {0: {(0, 2): Conversion(1, (2,)), (1, 2): Conversion(1, (0,))}}
    problem = Problem(1, options, table, sinks=((0, 2),), limits=(None,))
    assert solve(problem).chosen == (1,)
    assert solve(replace(problem, limits=(4,))).chosen == (0,)
    with pytest.raises(Infeasible, match=r"limit 0 cannot hold: at least 2 needed, 1 allowed") as caught:
        ExactTuner().select(replace(problem, limits=(1,)))
    assert caught.value.limits == (0,)


def test_limits_that_hold_only_one_at_a_time() -> None:
    options = (Option((0,), (), ((0, 0),), 0, 1, (0, 9)), Option((0,), (), ((0, 0),), 0, 1, (9, 0)))
    with pytest.raises(Infeasible, match="limits 0, 1 cannot hold together"):
        ExactTuner().select(Problem(1, options, sinks=((0, 0),), limits=(5, 5)))


def test_missing_layer_and_missing_conversion_are_named() -> None:
    made, read = step(0, [], [(0, 0)], 1), step(1, [(0, 3)], [(1, 0)], 1)
    with pytest.raises(Infeasible, match="layer 1: no candidate covers this layer"):
        ExactTuner().select(Problem(2, (made,)))
    with pytest.raises(Infeasible, match=r"layer 1: value 0 is made in specs \[0\] and wanted in \[3\]") as caught:
        ExactTuner().select(Problem(2, (made, read), {0: {(3, 0): Conversion(1)}}))
    assert (caught.value.layer_number, caught.value.value) == (1, 0)
    assert (caught.value.made, caught.value.wanted) == ((0,), (3,))


def test_combination_without_a_plan_is_explained() -> None:
    """Each reader alone can be served, but by different makers."""
    options = (
        step(0, [], [(0, 0)], 1),
        step(0, [], [(0, 1)], 1),
        step(1, [(0, 0)], [(1, 0)], 1),
        step(2, [(0, 1), (1, 0)], [(2, 0)], 1),
    )
    with pytest.raises(Infeasible, match="no combination of candidates up to this layer works: value 0"):
        ExactTuner().select(Problem(3, options, sinks=((2, 0),)))


def test_costs_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SelectionError, match="negative"):
        ExactTuner().select(Problem(1, (step(0, [], [(0, 0)], -1),)))
    with pytest.raises(SelectionError, match="too large"):
        ExactTuner().select(Problem(1, (step(0, [], [(0, 0)], 1 << 60),)))


@pytest.mark.parametrize("limits", [0, 2])
def test_forced_options_cost_what_the_marginals_say(limits: int) -> None:
    """Re-solving with each option forced (nothing else may touch its layers) gives the same numbers."""
    forced = impossible = 0
    for seed in range(25):
        problem = random_problem(seed, 7, 4, limits)
        try:
            selection = ExactTuner().select(problem)
        except Infeasible:
            continue
        marginals = ExactTuner().min_marginals(problem, selection)
        for option, marginal in zip(problem.options, marginals, strict=True):
            rivals = [o for o in problem.options if o is option or not set(o.layers) & set(option.layers)]
            try:
                time = ExactTuner().select(replace(problem, options=tuple(rivals))).time_ns
            except Infeasible:
                time = None
            assert marginal == time
            forced += 1
            impossible += time is None
        rows = explain(problem, selection, marginals)
        assert rows.time_ns == selection.time_ns
        assert {row.option for row in rows.options if row.chosen} == set(selection.chosen)
        assert all(row.slower_ns == 0 for row in rows.options if row.chosen)
    assert forced >= 200
    assert impossible >= 5


def test_bounded_searches_bracket_the_optimum_and_close_the_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no states allowed for the exact sweep, widths from 2 up find the optimum and prove it."""
    monkeypatch.setattr(exact, "FIRST_WIDTH", 2)
    closed = 0
    for seed in range(60):
        problem = random_problem(seed, 8, 4)
        try:
            best = ExactTuner().select(problem)
        except Infeasible:
            with pytest.raises(SelectionError):
                ExactTuner(max_states=0, use_ilp=False).select(problem)
            continue
        found = ExactTuner(max_states=0, use_ilp=False).select(problem)
        assert found.method == "bounds"
        assert found.lower_bound_ns <= best.time_ns <= found.time_ns
        closed += found.exact
    assert closed >= 20


def test_a_gap_is_stated_when_time_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round of width 1 only: the bound stays below the plan, and never above the optimum."""
    monkeypatch.setattr(exact, "FIRST_WIDTH", 1)
    gaps = 0
    for seed in range(80):
        problem = random_problem(seed, 8, 4)
        try:
            best = ExactTuner().select(problem).time_ns
            found = ExactTuner(max_states=0, budget_s=0.0, use_ilp=False).select(problem)
        except SelectionError:
            continue
        assert found.lower_bound_ns <= best <= found.time_ns
        if not found.exact:
            gaps += 1
            assert 0.0 < found.gap < 1.0
    assert gaps >= 10


def test_the_integer_programme_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """One search of width 1, then scipy closes whatever gap is left."""
    monkeypatch.setattr(exact, "FIRST_WIDTH", 1)
    if not ilp.available():
        pytest.skip("scipy is not installed (extra ilp)")
    taken = 0
    for seed in range(30):
        problem = random_problem(seed, 7, 4, seed % 2)
        try:
            best = ExactTuner().select(problem)
        except Infeasible:
            continue
        found = ExactTuner(max_states=0, budget_s=0.0).select(problem)
        assert found.time_ns == best.time_ns
        taken += found.method == "bounds+ilp"
    assert taken >= 5
