"""A plan over several devices held against those that keep to one of its devices: which is faster whole.

What a second device costs the first is in no price: its waiting threads take turns on the same cores, and both share
caches and memory. So what prices say is checked whole, in turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from softneuro_core.errors import SelectionError
from softneuro_core.plan import Plan
from softneuro_core.profiling.in_place import InPlace
from softneuro_core.selection import Prices, chosen_candidates
from softneuro_core.settling import as_seen, settle
from softneuro_core.task import Task, Tuned

HOPELESS = 1.5
"""A plan of one device predicted to take so many times the joint one's time is not run."""


def settle_devices(
    tuned: Tuned,
    isolated: Prices,
    select: Callable[[Prices], Tuned],
    run_alone: Callable[[Plan], InPlace | None],
    run_in_turns: Callable[[Sequence[Plan]], Sequence[InPlace] | None],
    task: Task,
) -> Tuned:
    """``tuned``, or the best plan that computes on one of its devices alone, if that was seen to be faster whole."""
    devices = {candidate.routine.device for candidate in chosen_candidates(tuned.form, tuned.selection)}
    if len(devices) < 2 or task.is_over:
        return tuned
    joint_us = max(_isolated_us(tuned), tuned.plan.predicted_us)  # the latter is what was seen, once it is settled
    alone = [
        (device, settle(prices, task, first, run_alone, _on(device, select))[0])
        for device, prices, first in _first_choices(sorted(devices), isolated, select)
        if _isolated_us(first) <= HOPELESS * joint_us
    ]
    seen = run_in_turns([tuned.plan, *(found.plan for _, found in alone)]) if alone else None
    if seen is None:
        return tuned
    best = min(range(len(seen)), key=lambda number: seen[number].whole_us)
    if best == 0:
        return tuned
    device, found = alone[best - 1]
    note = (
        f"on {device} alone: {seen[best].whole_us:,.1f} us a run, {seen[0].whole_us:,.1f} with"
        f" {', '.join(sorted(devices - {device}))}, which was predicted to be faster"
    )
    task.progress.note(note)
    kept = as_seen(found, isolated, seen[best])
    return replace(kept, plan=kept.plan.with_notes(note))


def _first_choices(
    devices: Sequence[str], isolated: Prices, select: Callable[[Prices], Tuned]
) -> Iterator[tuple[str, Prices, Tuned]]:
    for device in devices:
        prices = _only(isolated, device)
        with suppress(SelectionError):  # it cannot compute everything
            yield device, prices, select(prices)


def _on(device: str, select: Callable[[Prices], Tuned]) -> Callable[[Prices], Tuned]:
    return lambda prices: select(_only(prices, device))


def _only(prices: Prices, device: str) -> Prices:
    return Prices({c: p for c, p in prices.kernels.items() if c.routine.device == device}, prices.adapters)


def _isolated_us(tuned: Tuned) -> float:
    return tuned.plan.predictions["isolated_us"]
