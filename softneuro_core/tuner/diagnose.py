"""Why a problem has no answer: the layer, conversion or limits to blame. Runs only after a search found nothing."""

from __future__ import annotations

from dataclasses import replace

from softneuro_core.tuner.gaps import reachable
from softneuro_core.tuner.infeasible import Infeasible
from softneuro_core.tuner.labels import Budget
from softneuro_core.tuner.moves import Moves
from softneuro_core.tuner.problem import Conversion, Option, Problem
from softneuro_core.tuner.steiner import members
from softneuro_core.tuner.sweep import Sweep
from softneuro_core.tuner.widths import walk


def why_no_plan(problem: Problem) -> Infeasible:
    """The error when no plan exists even without limits: a value nobody can deliver, or failing that, the layer
    where the last choices run out."""
    moves = Moves(replace(problem, limits=(None,) * len(problem.limits)))
    for layer in range(problem.layer_count - 1, -1, -1):
        readers = [option for option in problem.options if option.exit == layer]
        missing = [gap for option in readers if (gap := _undeliverable(moves, option.inputs)) is not None]
        if readers and len(missing) == len(readers):
            wanted = sorted({spec for value, spec in missing if value == missing[0][0]})
            return _conversion(moves, layer, missing[0][0], wanted)
    gap = _undeliverable(moves, problem.sinks)
    if gap is not None:
        return _conversion(moves, None, gap[0], [gap[1]])
    return _where_it_died(moves)


def _undeliverable(moves: Moves, operands: tuple[tuple[int, int], ...]) -> tuple[int, int] | None:
    for value, spec in operands:
        rank = moves.rank_of[value]
        if not any(moves.trees[rank].front(made, 1 << spec) for made in moves.makers[rank]):
            return value, spec
    return None


def _conversion(moves: Moves, layer: int | None, value: int, wanted: list[int]) -> Infeasible:
    return Infeasible.no_conversion(layer, value, moves.makers[moves.rank_of[value]], wanted)


def _where_it_died(moves: Moves) -> Infeasible:
    """Every operand alone can be delivered, but no combination: shows one state the last layer could not serve."""
    sweep = Sweep(moves, Budget())
    frontier, dead_layer = sweep.start(), -1
    for layer in range(moves.problem.layer_count - 1, -1, -1):
        after = sweep.step(layer, frontier)
        if not after:
            dead_layer = layer
            break
        frontier = after
    ahead = sweep.expand(dead_layer, frontier) if dead_layer >= 0 else {}
    for state in ahead or frontier:
        for rank, mask in state.demands:
            lost = moves.made_by[rank] >= dead_layer or not reachable(moves.trees[rank], moves.makers[rank], mask)
            if lost:
                return _no_combination(moves, max(dead_layer, 0), rank, mask)
    return Infeasible(
        "no disjoint candidates cover the layers up to this one",
        layer_number=max(dead_layer, 0),
        remedy="install or allow a routine",
    )


def _no_combination(moves: Moves, layer: int, rank: int, mask: int) -> Infeasible:
    value, made, wanted = moves.value_of[rank], list(moves.makers[rank]), list(members(mask))
    return Infeasible(
        f"no combination of candidates up to this layer works: value {value}, made in specs {made} at best, "
        f"is wanted in {wanted}" + (" together" if len(wanted) > 1 else ""),
        layer_number=layer,
        value=value,
        made=made,
        wanted=wanted,
        remedy="install an adapter, or allow more routines",
    )


def why_limits(problem: Problem) -> Infeasible:
    """The error when plans exist, but none within the limits: names the first limit that cannot hold on its own,
    with the least it needs, else all of them together."""
    bounded = [i for i, bound in enumerate(problem.limits) if bound is not None]
    for i in bounded:
        end = walk(Sweep(Moves(_only(problem, i)), Budget()))
        least, bound = end.time if end else 0, problem.limits[i]
        if bound is not None and least > bound:
            cause = f"limit {i} cannot hold: at least {least} needed, {bound} allowed"
            return Infeasible.beyond_limits([i], cause, least)
    names = ", ".join(map(str, bounded))
    return Infeasible.beyond_limits(bounded, f"limits {names} cannot hold together, though each can alone")


def _only(problem: Problem, limit: int) -> Problem:
    """The problem whose time is the use of one limit."""

    def use(cost: Option | Conversion) -> int:
        return cost.uses[limit] if cost.uses else 0

    return Problem(
        problem.layer_count,
        tuple(replace(option, time_ns=use(option), uses=()) for option in problem.options),
        {
            value: {edge: Conversion(use(cost)) for edge, cost in table.items()}
            for value, table in problem.conversions.items()
        },
        problem.sources,
        problem.sinks,
    )
