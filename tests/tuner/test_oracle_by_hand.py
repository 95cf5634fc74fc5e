"""The oracle itself, on problems small enough to solve on paper."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import pytest

from softneuro_core.errors import SelectionError
from softneuro_core.tuner.problem import Conversion, Option, Problem, Selection, Tuner

from .oracle import Oracle, Unusable, all_trees, complaint, covers, reprice

IN, A, B = 0, 1, 2


def layer(number: int, inputs: tuple, outputs: tuple, time_ns: int, device: int = 0, uses: tuple = ()) -> Option:
    return Option((number,), inputs, outputs, device, time_ns, uses)


def costs(table: Mapping[tuple[int, int], int]) -> dict[tuple[int, int], Conversion]:
    return {pair: Conversion(time_ns) for pair, time_ns in table.items()}


def best(problem: Problem) -> tuple[tuple[int, ...], int] | None:
    answer = Oracle(problem).best()
    return answer and (answer.chosen, answer.time_ns)


def two_readers(conversions: Mapping[tuple[int, int], int]) -> Problem:
    """A source in spec 0, read in spec 1 by one layer and in spec 2 by the next."""
    return Problem(
        layer_count=2,
        options=(layer(0, ((IN, 1),), ((A, 0),), 10), layer(1, ((IN, 2),), ((B, 0),), 20)),
        conversions={IN: costs(conversions)},
        sources={IN: 0},
        sinks=((A, 0), (B, 0)),
    )


def chain(devices: tuple[int, int, int], middle_elsewhere_ns: int) -> Problem:
    """Three layers in a row in one spec; the middle one has a second option on device 0."""
    options = [layer(n, ((n, 0),), ((n + 1, 0),), 10, device) for n, device in enumerate(devices)]
    options.append(layer(1, ((1, 0),), ((2, 0),), middle_elsewhere_ns, device=0))
    return Problem(3, tuple(options), sources={0: 0}, sinks=((3, 0),), segment_ns={0: 7, 1: 5})


@pytest.mark.parametrize(("specs", "trees"), [(1, 1), (2, 2), (3, 6), (4, 29), (5, 212)])
def test_trees_are_as_many_as_cayley_counts(specs: int, trees: int) -> None:
    # Sum over the other specs reached, k of n - 1, of the (k + 1) ** (k - 1) labelled trees on them and the root.
    table = {(a, b): 1 for a in range(specs) for b in range(specs) if a != b}
    problem = Problem(0, (), conversions={IN: costs(table)})
    found = list(all_trees(problem, IN, 0))
    assert len(found) == len({frozenset(tree.edges) for tree in found}) == trees


def test_conversion_on_the_way_is_shared() -> None:
    # 0 -> 3 -> {1, 2} costs 10 + 1 + 1; the two direct ways cost 8 + 8.
    problem = two_readers({(0, 3): 10, (3, 1): 1, (3, 2): 1, (0, 1): 8, (0, 2): 8})
    assert best(problem) == ((0, 1), 42)
    answer = Oracle(problem).best()
    assert answer
    assert answer.trees[IN].edges == ((0, 3), (3, 1), (3, 2))


def test_one_reader_s_spec_may_lie_on_the_way_to_the_other_s() -> None:
    assert best(two_readers({(0, 1): 4, (1, 2): 3, (0, 2): 6})) == ((0, 1), 37)


def test_conversion_for_two_readers_is_paid_once() -> None:
    problem = two_readers({(0, 1): 4})
    both = (problem.options[0], layer(1, ((IN, 1), (IN, 1)), ((B, 0),), 20))
    assert best(dataclasses.replace(problem, options=both)) == ((0, 1), 34)


def test_no_adapter_no_plan() -> None:
    assert best(two_readers({(0, 1): 4, (2, 1): 4})) is None


def test_one_layer_reads_one_value_in_two_specs() -> None:
    problem = Problem(
        layer_count=1,
        options=(layer(0, ((IN, 0), (IN, 1)), ((A, 1),), 10),),
        conversions={IN: costs({(0, 1): 4}), A: costs({(1, 0): 2, (1, 2): 9, (0, 2): 1})},
        sources={IN: 0},
        sinks=((A, 0), (A, 2), (IN, 0)),
    )
    assert best(problem) == ((0,), 10 + 4 + 2 + 1)


def test_segment_is_paid_once_a_run() -> None:
    # 0 1 0 pays 7 + 5 + 7 and 30 for the steps; all on device 0 pays 7 and 20 + the slower middle.
    assert best(chain((0, 1, 0), middle_elsewhere_ns=21)) == ((0, 3, 2), 48)
    assert best(chain((0, 1, 0), middle_elsewhere_ns=23)) == ((0, 1, 2), 49)


def test_region_hides_what_it_makes_inside() -> None:
    single = chain((0, 0, 0), middle_elsewhere_ns=99)
    fused = Option((0, 1), ((0, 0),), ((2, 0),), device=0, time_ns=3)
    problem = dataclasses.replace(single, options=(*single.options, fused))
    assert best(problem) == ((4, 2), 3 + 10 + 7)
    leaking = dataclasses.replace(problem, sinks=((3, 0), (1, 0)))
    assert best(leaking) == ((0, 1, 2), 37)
    assert best(dataclasses.replace(leaking, options=leaking.options[1:])) is None


def test_region_s_step_stands_where_its_exit_is() -> None:
    # Layers 0 and 2 are one step on device 0, which runs after layer 1 on device 1 and before layer 3 on device 0.
    fused = Option((0, 2), ((0, 0), (2, 0)), ((3, 0),), device=0, time_ns=3)
    options = (fused, layer(1, ((0, 0),), ((2, 0),), 1, device=1), layer(3, ((3, 0),), ((4, 0),), 1, device=0))
    problem = Problem(4, options, sources={0: 0}, sinks=((4, 0),), segment_ns={0: 7, 1: 5})
    assert best(problem) == ((1, 0, 2), 5 + 12)


def test_limit_sums_steps_and_conversions_and_may_ask_for_a_slower_tree() -> None:
    table = {(0, 1): Conversion(1, (5,)), (0, 2): Conversion(2, (1,)), (2, 1): Conversion(2, (1,))}
    step = layer(0, ((IN, 1),), ((A, 0),), 10, uses=(4,))
    problem = Problem(1, (step,), {IN: table}, {IN: 0}, ((A, 0),), limits=(9,))
    assert best(problem) == ((0,), 11)
    tight = dataclasses.replace(problem, limits=(8,))
    answer = Oracle(tight).best()
    assert answer
    assert (answer.time_ns, answer.uses, answer.trees[IN].edges) == (14, (6,), ((0, 2), (2, 1)))
    assert best(dataclasses.replace(problem, limits=(5,))) is None
    assert best(dataclasses.replace(problem, limits=(None,))) == ((0,), 11)


def test_every_option_s_best_plan() -> None:
    problem = chain((0, 1, 0), middle_elsewhere_ns=21)
    assert Oracle(problem).best_with_each() == [48, 49, 48, 48]
    assert sorted(covers(problem)) == [(0, 1, 2), (0, 3, 2)]


def _selection(problem: Problem) -> Selection:
    answer = Oracle(problem).best()
    assert answer
    edges = {value: tree.edges for value, tree in answer.trees.items()}
    return Selection(answer.chosen, edges, answer.time_ns, answer.uses, answer.time_ns, "oracle", 0, 0.0)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"chosen": (0,)}, "layers covered"),
        ({"chosen": (0, 0, 1)}, "layers covered"),
        ({"chosen": (1, 0)}, "not in order"),
        ({"conversions": {}}, "wanted in specs"),
        ({"conversions": {IN: ((0, 3), (3, 1), (3, 2), (2, 0))}}, "no conversion"),
        ({"conversions": {IN: ((3, 1), (0, 3), (3, 2))}}, "not there"),
        ({"conversions": {9: ((0, 1),)}}, "not there"),
    ],
)
def test_what_is_no_plan_has_no_price(change: dict, why: str) -> None:
    problem = two_readers({(0, 3): 10, (3, 1): 1, (3, 2): 1})
    selection = _selection(problem)
    assert reprice(problem, selection) == (42, ())
    with pytest.raises(Unusable, match=why):
        reprice(problem, dataclasses.replace(selection, **change))


def test_a_plan_over_its_limit_has_no_price() -> None:
    step = layer(0, ((IN, 0),), ((A, 0),), 10, uses=(4,))
    problem = Problem(1, (step,), sources={IN: 0}, sinks=((A, 0),), limits=(4,))
    assert reprice(problem, _selection(problem)) == (10, (4,))
    with pytest.raises(Unusable, match="exceed"):
        reprice(dataclasses.replace(problem, limits=(3,)), _selection(problem))


class Fixed(Tuner):
    """Gives the answer it was made with, None meaning that there is no plan."""

    def __init__(self, answer: Selection | None) -> None:
        self.answer = answer

    def select(self, problem: Problem) -> Selection:
        if self.answer is None:
            raise SelectionError("no plan")
        return self.answer

    def min_marginals(self, problem: Problem, selection: Selection) -> Sequence[int | None]:
        raise NotImplementedError


def test_comparison_accepts_the_best_plan_and_nothing_else() -> None:
    problem = chain((0, 1, 0), middle_elsewhere_ns=21)
    truth, right = Oracle(problem).best(), _selection(problem)
    assert complaint(problem, truth, Fixed(right)) is None
    slower = dataclasses.replace(right, chosen=(0, 1, 2), time_ns=49, lower_bound_ns=49)
    assert "the best takes 48" in str(complaint(problem, truth, Fixed(slower)))
    flattering = dataclasses.replace(slower, time_ns=48, lower_bound_ns=48)
    assert "the best takes 48" in str(complaint(problem, truth, Fixed(flattering)))
    assert "claims" in str(complaint(problem, truth, Fixed(dataclasses.replace(right, time_ns=47))))
    assert "unproven" in str(complaint(problem, truth, Fixed(dataclasses.replace(right, lower_bound_ns=40))))
    assert "no plan" in str(complaint(problem, truth, Fixed(dataclasses.replace(right, chosen=(0, 2)))))
    assert "found no plan" in str(complaint(problem, truth, Fixed(None)))


def test_comparison_wants_an_error_where_no_plan_exists() -> None:
    problem = two_readers({(0, 1): 4, (2, 1): 4})
    assert complaint(problem, None, Fixed(None)) is None
    assert "no plan exists" in str(complaint(problem, None, Fixed(_selection(chain((0, 1, 0), 21)))))
