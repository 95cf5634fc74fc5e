"""The fastest plans for every amount of noise: corners of the front, each proven best for the noise it has.

A plan that minimises time + rate * noise is the fastest of all with no more noise than its own (H. Everett,
"Generalized Lagrange multiplier method", Operations Research 11, 1963); prices add up, so each rate is one ordinary
selection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from softneuro_core.accuracy.trial import Part, Trial
from softneuro_core.assembly import assemble
from softneuro_core.candidates import Candidate, rounds
from softneuro_core.errors import SelectionError
from softneuro_core.profiling.whole_plans import choice
from softneuro_core.selection import Price, Prices, chosen_candidates, chosen_prices
from softneuro_core.task import Tuned

MOST_POINTS = 12
STEEP = 1e15
"""Nanoseconds a unit of noise: more than any time there is to save."""
CLAIM = "the fastest of all plans with no more predicted noise"


@dataclass(frozen=True, slots=True)
class Aim:
    """The fastest plan where noise costs ``rate`` nanoseconds a unit (None: where nothing may round); with
    ``all_rounded`` of those in which whatever can round does."""

    rate: float | None
    all_rounded: bool = False


@dataclass(frozen=True, slots=True)
class Corner:
    """One plan of the front: what it is predicted to take, and the noise its parts have, added up."""

    tuned: Tuned
    time_ns: int
    noise: float
    aim: Aim


class Front:
    """Finds corners. ``noise`` is that of every candidate that rounds and computes; those it lacks have none."""

    def __init__(self, trial: Trial, parts: Mapping[Candidate, Part], noise: Mapping[Part, float]) -> None:
        self._trial, self._parts, self._by_part = trial, parts, noise
        self._noise = {candidate: noise[part] for candidate, part in parts.items()}

    def under(self, prices: Prices) -> Front:
        """The same noise, other prices."""
        return Front(replace(self._trial, prices=prices), self._parts, self._by_part)

    def corners(self) -> list[Corner]:
        """From the fastest to the one that rounds nothing (where limits forbid that, as little as they allow), at most
        :data:`MOST_POINTS`. Raises :class:`SelectionError` where no plan is within the limits."""
        ends = [self.at(Aim(0.0)), self._last()]
        found = {choice(c.tuned.plan): c for c in ends}
        gaps = [(ends[0], ends[1])]
        while gaps and len(found) < MOST_POINTS:
            gaps.sort(key=lambda gap: gap[1].time_ns - gap[0].time_ns)
            fast, exact = gaps.pop()
            if fast.noise <= exact.noise or fast.time_ns >= exact.time_ns:
                continue
            middle = self.at(Aim((exact.time_ns - fast.time_ns) / (fast.noise - exact.noise)))
            if found.setdefault(choice(middle.tuned.plan), middle) is middle:
                gaps += [(fast, middle), (middle, exact)]
        return sorted(found.values(), key=lambda corner: corner.time_ns)

    def _last(self) -> Corner:
        try:
            return self.at(Aim(None))
        except SelectionError:
            return self.at(Aim(STEEP))

    def at(self, aim: Aim) -> Corner:
        """The best plan of its kind; raises :class:`SelectionError` where there is none within the limits."""
        trial, prices = self._trial, self._trial.prices
        kernels = {c: p for c, p in prices.kernels.items() if self._may(c, aim.rate)}
        kernels = all_rounded(kernels) if aim.all_rounded else kernels
        dearer = {c: self._with_noise(c, p, aim.rate or 0.0) for c, p in kernels.items()}
        tuned = trial.select(Prices(dearer, prices.adapters))
        time_ns = sum(price.time_ns for price in chosen_prices(tuned.form, tuned.selection, prices))
        noise = sum(self._noise.get(c, 0.0) for c in chosen_candidates(tuned.form, tuned.selection))
        return Corner(self._as_priced(tuned, time_ns, noise), time_ns, noise, aim)

    def _as_priced(self, tuned: Tuned, time_ns: int, noise: float) -> Tuned:
        """With times as they are: what noise costs decided, it is no prediction."""
        trial = self._trial
        form, us = replace(tuned.form, prices=trial.prices), time_ns / 1000
        plan = assemble(form, tuned.selection, trial.task.catalog, trial.task.threads, {}, trial.task.request)
        proof = {**plan.certificate, "lower_bound_us": us * (1 - tuned.selection.gap), "noise": noise, "claim": CLAIM}
        plan = replace(plan, predicted_us=us, predictions={"isolated_us": us}, certificate=proof)
        return replace(tuned, form=form, plan=plan)

    def _may(self, candidate: Candidate, rate: float | None) -> bool:
        return not rounds(candidate) or (rate is not None and self._noise.get(candidate, 0.0) != float("inf"))

    def _with_noise(self, candidate: Candidate, price: Price, rate: float) -> Price:
        return replace(price, time_ns=price.time_ns + round(rate * self._noise.get(candidate, 0.0)))


def all_rounded(kernels: Mapping[Candidate, Price]) -> dict[Candidate, Price]:
    """Without what computes in float a layer that another candidate computes on grids."""
    rounded = {layer for candidate in kernels if rounds(candidate) for layer in candidate.region.layers}
    return {c: p for c, p in kernels.items() if rounds(c) or rounded.isdisjoint(c.region.layers)}
