"""A selected plan held against what its steps take in place, and selected again until both agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from softneuro_core.candidates import Candidates
from softneuro_core.corrections import Likeness, Seen, corrected
from softneuro_core.plan import AdapterStep, Plan
from softneuro_core.pricing import Pricing
from softneuro_core.profiling.in_place import InPlace
from softneuro_core.profiling.whole_plans import choice
from softneuro_core.selection import Prices, chosen_candidates, chosen_prices
from softneuro_core.task import Task, Tuned, select_plan

IN_SITU_ROUNDS = 4
TIMER_US = 1.0
"""What reading the clock and calling one step from Python may add to it in place."""


def settle_in_place(found: Candidates, prices: Prices, task: Task, first: Tuned, pricing: Pricing) -> Tuned:
    """The plan :func:`settle` keeps."""
    again = lambda other: select_plan(found, other, task, first.plan.bodies, first.bodies)  # noqa: E731
    return settle(prices, task, first, pricing.run_in_place, again)[0]


def settle(
    prices: Prices,
    task: Task,
    first: Tuned,
    run: Callable[[Plan], InPlace | None],
    select: Callable[[Prices], Tuned],
) -> tuple[Tuned, dict[Likeness, Seen]]:
    """Run the plan whole; where a step disagrees with its isolated time, correct all its like and select again, at most
    four rounds, never back to a plan already tried (decision 0064). The one with the fastest whole run is kept; with it
    comes what steps were seen to take."""
    tried: dict[str, Tuned] = {}
    steps: dict[Likeness, Seen] = {}
    current = first
    for number in range(1, IN_SITU_ROUNDS + 1):
        seen = run(current.plan)
        if seen is None:  # told in the progress notes; the isolated answer stands
            break
        tried[choice(current.plan)] = as_seen(current, prices, seen)
        task.progress.note(f"in place, round {number}: {seen.whole_us:,.1f} us a run")
        fresh = _steps_seen(current, prices, seen)
        steps |= fresh
        if task.is_over or all(step.us == step.alone_us for step in fresh.values()):
            break
        current = select(corrected(prices, steps))
        if choice(current.plan) in tried:
            break
    return min(tried.values(), key=lambda t: t.plan.predictions["best_us"], default=first), steps


def _steps_seen(tuned: Tuned, isolated: Prices, seen: InPlace) -> dict[Likeness, Seen]:
    """Every kernel step beside its isolated time, by the layers it computes; where both differ by no more than both
    spreads and the timer they count as the same."""
    chosen = iter(chosen_candidates(tuned.form, tuned.selection))
    found: dict[Likeness, Seen] = {}
    for step, us, spread_us in zip(tuned.plan.steps, seen.step_us, seen.spread_us, strict=True):
        if isinstance(step, AdapterStep):
            continue
        candidate = next(chosen)
        alone = isolated.kernels[candidate]
        alone_us = alone.time_ns / 1000
        doubt = max(0.1 * alone_us, 2 * spread_us, TIMER_US)
        differs = alone.source != "bodies" and abs(us - alone_us) > doubt
        found |= dict.fromkeys(Likeness.of(candidate), Seen(step.name, us if differs else alone_us, alone_us))
    return found


def as_seen(tuned: Tuned, isolated: Prices, seen: InPlace) -> Tuned:
    """The plan with the times seen in place as its own: they are what the runtime will pay."""
    plan = tuned.plan
    steps = tuple(replace(s, us=round(us, 3), source="in-situ") for s, us in zip(plan.steps, seen.step_us, strict=True))
    alone = chosen_prices(tuned.form, tuned.selection, isolated)
    predictions = {
        "isolated_us": sum(price.time_ns for price in alone) / 1000,
        "in_situ_us": sum(seen.step_us),
        "whole_us": seen.whole_us,
        "best_us": seen.best_us,
    }
    return replace(tuned, plan=replace(plan, steps=steps, predicted_us=seen.whole_us, predictions=predictions))
