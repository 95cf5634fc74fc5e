"""The default tuner: exact by dynamic programming, and honest about the gap where a budget stops it.

Knows in which order the solvers are tried and what each of them proves; the recurrence is :mod:`sweep`'s.
"""

from __future__ import annotations

import time as clock
from collections.abc import Sequence
from dataclasses import dataclass, replace

from softneuro_core.errors import SelectionError
from softneuro_core.tuner import ilp
from softneuro_core.tuner.chains import Contracted, Plan, as_it_is, contract
from softneuro_core.tuner.diagnose import why_limits, why_no_plan
from softneuro_core.tuner.infeasible import Infeasible
from softneuro_core.tuner.labels import Budget, Label, OutOfBudget
from softneuro_core.tuner.marginals import min_marginals
from softneuro_core.tuner.moves import Moves
from softneuro_core.tuner.price import price, within
from softneuro_core.tuner.problem import Problem, Selection, Tuner
from softneuro_core.tuner.sweep import Sweep
from softneuro_core.tuner.widths import relax, restrict, walk

FIRST_WIDTH = 256
"""Labels per layer in the first bounded search; four times as many in each that follows."""


@dataclass(frozen=True, slots=True)
class Found:
    """A plan (None: there is none) and a proven bound below every plan."""

    plan: Plan | None
    lower_bound_ns: int
    method: str


class ExactTuner(Tuner):
    """Backward dynamic programming over demanded specs, covers and devices, chains of layers contracted first.

    Within ``max_states`` states and half of ``budget_s`` seconds the answer is proven best. Beyond, searches of
    bounded width (upper and lower bounds, see :mod:`widths`) and, where scipy is installed and ``use_ilp`` holds,
    an integer programme improve the plan and the bound until the budget is spent or they meet.
    """

    def __init__(self, max_states: int = 5_000_000, budget_s: float = 120.0, use_ilp: bool = True) -> None:
        self.max_states, self.budget_s, self.use_ilp = max_states, budget_s, use_ilp

    def select(self, problem: Problem) -> Selection:
        """The best plan; raises :class:`Infeasible` if none exists, :class:`SelectionError` if none was found
        within the budget."""
        return _Search(self, problem).run()

    def min_marginals(self, problem: Problem, selection: Selection) -> Sequence[int | None]:
        """For every option the time of the best plan that uses it, exactly; None if there is none."""
        return min_marginals(problem)


class _Search:
    """One call of ``select``: its clock and its count of states."""

    def __init__(self, tuner: ExactTuner, problem: Problem) -> None:
        self.tuner, self.problem = tuner, problem
        self.begun = clock.monotonic()
        self.states = 0

    def run(self) -> Selection:
        found = self._find(replace(self.problem, limits=(None,) * len(self.problem.limits)))
        if found.plan is None:
            raise why_no_plan(self.problem)
        if not within(self.problem, price(self.problem, *found.plan)[1]):
            unlimited = found
            found = self._find(self.problem)
            if found.plan is None:
                raise why_limits(self.problem)
            found = replace(found, lower_bound_ns=max(found.lower_bound_ns, unlimited.lower_bound_ns))
        return self._selection(found)

    def _selection(self, found: Found) -> Selection:
        assert found.plan is not None
        chosen, conversions = found.plan
        time, uses = price(self.problem, chosen, conversions)
        bound = min(found.lower_bound_ns, time)
        seconds = clock.monotonic() - self.begun
        return Selection(chosen, conversions, time, uses, bound, found.method, self.states, seconds)

    def _left(self) -> float:
        return self.tuner.budget_s - (clock.monotonic() - self.begun)

    def _find(self, problem: Problem) -> Found:
        contracted, moves = _compiled(problem)
        budget = Budget(self.tuner.max_states, self._left() / 2)
        try:
            end = walk(Sweep(moves, budget))
        except OutOfBudget:
            return self._bounded(problem, contracted, moves)
        finally:
            self.states += budget.states
        if end is None:
            return Found(None, 0, "dp")
        return Found(_plan(contracted, moves, end), end.time, "dp")

    def _bounded(self, problem: Problem, contracted: Contracted, moves: Moves) -> Found:
        """Wider and wider searches, then the integer programme, from whatever is known."""
        use_ilp = self.tuner.use_ilp and ilp.available()
        until = self._left() / 2 if use_ilp else 0.0
        best: Label | None = None
        lower, width = 0, FIRST_WIDTH
        while best is None or best.time > lower:
            seconds = None if width == FIRST_WIDTH else self._left() - until
            try:
                upper = self._walk(moves, width, seconds, upper=True)
                if upper is not None and (best is None or upper.time < best.time):
                    best = upper
                below = self._walk(moves, width, seconds, upper=False)
            except OutOfBudget:
                break
            if below is None:
                return Found(None, 0, "bounds")
            lower, width = max(lower, below.time), 4 * width
            if self._left() < until:
                break
        found = Found(None if best is None else _plan(contracted, moves, best), lower, "bounds")
        if use_ilp and (best is None or best.time > lower):
            found = self._improve(problem, found)
        if found.plan is None:
            raise SelectionError("no plan found within the budget", remedy="raise max_states or budget_s")
        return found

    def _walk(self, moves: Moves, width: int, seconds: float | None, upper: bool) -> Label | None:
        budget = Budget(None, seconds)
        try:
            return walk(Sweep(moves, budget), width, restrict if upper else relax)
        finally:
            self.states += budget.states

    def _improve(self, problem: Problem, found: Found) -> Found:
        answer = ilp.solve(problem, max(self._left(), 1.0))
        if answer is None:
            return found
        plan = found.plan
        known = None if plan is None else price(problem, *plan)[0]
        if known is None or answer.time_ns < known:
            plan, known = (answer.chosen, dict(answer.conversions)), answer.time_ns
        bound = answer.lower_bound_ns if answer.lower_bound_ns <= known else 0  # a refuted claim (seen) proves nothing
        return Found(plan, max(found.lower_bound_ns, bound), "bounds+ilp")


def _compiled(problem: Problem) -> tuple[Contracted, Moves]:
    """The problem with its chains contracted, ready for sweeping. Raises :class:`Infeasible` for a layer no option
    covers."""
    contracted = contract(problem)
    try:
        return contracted, Moves(contracted.problem, contracted.first_device)
    except Infeasible:  # the layers it names are not the caller's, or a chain has no path: the original knows
        return as_it_is(problem), Moves(problem)


def _plan(contracted: Contracted, moves: Moves, label: Label) -> Plan:
    """Options in step order and the conversion trees of a complete plan."""
    choices = list(label.choices())
    conversions = {
        moves.value_of[rank]: edges
        for choice in choices
        for rank, made, wanted, tree in choice.trees
        if (edges := moves.trees[rank].edges(made, wanted, tree))
    }
    return contracted.expand((tuple(choice.option for choice in choices if choice.option >= 0), conversions))
