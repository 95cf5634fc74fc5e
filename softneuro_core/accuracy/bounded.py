"""The fastest plan that loses no more than allowed: mixed precision, bounded on data, chosen by measured time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from softneuro_core.accuracy.front import Aim, Corner, Front
from softneuro_core.accuracy.metrics import Metric, Outputs, noise_of
from softneuro_core.accuracy.trial import Part, Samples, Trial, outputs_of, parts_of
from softneuro_core.bound import Bound, FrontPoint, PartNoise
from softneuro_core.candidates import Candidate, Candidates, Request, enumerate_candidates, rounds
from softneuro_core.corrections import Likeness, Seen, corrected
from softneuro_core.errors import InputError, SelectionError
from softneuro_core.graph import Graph
from softneuro_core.grids import grids_of
from softneuro_core.one_device import settle_devices
from softneuro_core.plan import Plan
from softneuro_core.pricing import Pricing
from softneuro_core.profiling.in_place import InPlace
from softneuro_core.profiling.whole_plans import choice
from softneuro_core.rivals import settle_rivals
from softneuro_core.selection import Prices, chosen_candidates, chosen_prices
from softneuro_core.settling import as_seen, settle
from softneuro_core.task import Task, Tuned, select_plan

TRIAL_SAMPLES = 8
"""Samples the noise of single layers is taken on; a plan is judged on all there are."""
RIVALS = 4
"""Plans likely to be the fastest are run in turns: looked at once each, minutes apart, the faster one may have had the
worse moment of a shared machine (decision 0051)."""
NOTHING_ROUNDED, ALL_ROUNDED = Aim(None), Aim(0.0, all_rounded=True)
INTEGERS = frozenset({"uint8", "int8"})


@dataclass(frozen=True, slots=True)
class Point:
    """A plan that was run on the data. ``predicted_us`` and ``noise`` were predicted from its parts, before the chosen
    point's plan was settled with rivals; ``seen_noise`` and ``drop`` were seen; ``us`` is the fastest of whole runs
    where plans are measured."""

    tuned: Tuned
    predicted_us: float
    us: float
    noise: float
    seen_noise: float
    drop: float
    aim: Aim = NOTHING_ROUNDED
    """What it was selected for."""

    @property
    def rounded_layers(self) -> frozenset[str]:
        """Layers computed on grids, or with constants on grids."""
        return frozenset(layer.name for c in _rounding(self.tuned) for layer in c.region.layers)

    def as_kept(self, chosen: bool) -> FrontPoint:
        """Without the plan itself."""
        numbers = self.predicted_us, self.us, self.noise, self.seen_noise, self.drop
        return FrontPoint(*numbers, len(self.rounded_layers), chosen)


@dataclass(frozen=True, slots=True)
class Bounded:
    """The plan chosen, all that were tried (the fastest first; the last rounds nothing), and the noise of each part.

    ``table`` is the fastest choice of all with every price it was made from: what other plans are explained by.
    """

    table: Tuned
    chosen: Point
    points: tuple[Point, ...]
    noise: Mapping[Part, float]
    metric: str
    max_drop: float
    samples: int
    notes: tuple[str, ...] = ()

    @property
    def plan(self) -> Plan:
        return self.tuned.plan

    @property
    def tuned(self) -> Tuned:
        """The answer, its plan saying what was seen."""
        seen = (
            f"{self.metric} drops by {self.chosen.drop:.4g} on {self.samples} samples, {self.max_drop:.4g} are allowed"
        )
        plan = replace(self.chosen.tuned.plan, bound=self.record)
        return replace(self.chosen.tuned, plan=plan.with_notes(seen, *self.notes))

    @property
    def record(self) -> Bound:
        """What the plan keeps of it."""
        graph, used = self.chosen.tuned.form.graph, self.chosen.tuned.plan.grids
        parts = [(sorted(part.layers, key=graph.index.__getitem__), part) for part in self.noise]
        parts.sort(key=lambda item: (graph.index[item[0][0]], item[1].constants))
        return Bound(
            self.metric,
            self.max_drop,
            self.samples,
            tuple(p.as_kept(p is self.chosen) for p in self.points),
            tuple(PartNoise(tuple(x.name for x in xs), self.noise[part], part.constants) for xs, part in parts),
            {name: numbers for name, numbers in grids_of(graph).items() if name not in used},
        )


def tune_bounded(
    graph: Graph,
    request: Request,
    samples: Samples,
    metric: Metric,
    max_drop: float,
    task: Task,
    sample: Mapping[str, Any] | None = None,
    known: Mapping[Part, float] | None = None,
) -> Bounded:
    """The fastest plan whose ``metric`` on ``samples`` is at most ``max_drop`` below the float plan's.

    ``graph`` carries grids (``calibration.apply.lay_grids``); samples are other data than they were found on. ``known``
    is the noise of parts another tuning of the graph has tried on the same samples (``Bounded.noise``). Raises
    :class:`InputError` where there is nothing to choose from, or the metric cannot judge the float plan's outputs;
    :class:`SelectionError` where no plan within the request's limits holds the bound. What is lost is judged against
    the float plan, be it within a limit of ``constant_bytes`` or not.
    """
    if any(layer.bodies for layer in graph.layers):
        raise InputError("control flow is not tuned within an accuracy bound", file=graph.name)
    if not samples:
        raise InputError("there is no sample to hold the bound on", file=graph.name)
    task = replace(task, request=replace(request, allow=request.allow | INTEGERS))
    found = enumerate_candidates(graph, task.catalog, task.threads, task.request)
    with Pricing(
        found, task.catalog, task.threads, task.database, task.progress, sample, request.clocks, task.measure
    ) as pricing:
        if task.measure:
            pricing.measure(task.deadline)
        prices = pricing.prices({})
        free = _without_memory_limit(task)
        exact, in_float = _rounding_nothing(found, prices, free, pricing)
        truth = outputs_of(graph, exact.plan, samples, task.catalog)
        metric.score(truth, truth)  # what is wrong with it is told now, not after all the trials
        judge = _Judge(graph, samples, truth, metric, task, pricing, prices)
        trial = Trial(found, prices, free, samples[:TRIAL_SAMPLES], truth[:TRIAL_SAMPLES])
        parts = parts_of(prices.kernels)
        noise = trial.noise_by_part(parts.values(), known or {})
        front = Front(replace(trial, task=task), parts, noise)
        if task.measure and not task.is_over:
            front = _corrected(front, prices, in_float, task, pricing)
        every = _with_all_rounded(front)
        points = [judge.point(corner) for corner in every if _rounds_any(corner)]
        if free is task:
            points.append(_float_point(exact))
        else:
            with suppress(SelectionError):
                points.append(_float_point(_rounding_nothing(found, prices, task, pricing)[0]))
        held = [number for number, point in enumerate(points) if point.drop <= max_drop]
        if not held:
            least = min(point.drop for point in points)
            cause = f"within the limits {metric.name} drops by {least:.4g} at least, {max_drop:.4g} are allowed"
            raise SelectionError(cause, file=graph.name, remedy="allow more of either")
        best = min(held, key=lambda number: points[number].us)
        if task.measure:
            best = held[fastest([points[number] for number in held], pricing.run_in_turns)]
            aim = points[best].aim
            points[best] = judge.settled(points[best], lambda p: front.under(p).at(aim).tuned, max_drop)
    return Bounded(every[0].tuned, points[best], tuple(points), noise, metric.name, max_drop, len(samples))


def _with_all_rounded(front: Front) -> list[Corner]:
    """The corners and, by time among them, the plan that rounds all it can: predicted to be no faster than the first,
    which was not always true in place (decision 0051)."""
    corners = front.corners()
    with suppress(SelectionError):
        every = front.at(ALL_ROUNDED)
        if choice(every.tuned.plan) not in {choice(corner.tuned.plan) for corner in corners}:
            corners = sorted((*corners, every), key=lambda corner: corner.time_ns)
    return corners


def _without_memory_limit(task: Task) -> Task:
    limits = {name: limit for name, limit in task.request.limits.items() if name != "constant_bytes"}
    return task if limits == task.request.limits else replace(task, request=replace(task.request, limits=limits))


def _rounding_nothing(
    found: Candidates, prices: Prices, task: Task, pricing: Pricing
) -> tuple[Tuned, dict[Likeness, Seen]]:
    """The fastest plan in float, settled where plans are measured, with what its steps were seen to take."""
    plain = Prices({c: p for c, p in prices.kernels.items() if not rounds(c)}, prices.adapters)
    select = lambda other: select_plan(found, other, task, {}, {})  # noqa: E731
    exact = select(plain)
    return settle(plain, task, exact, pricing.run_in_place, select) if task.measure else (exact, {})


def _corrected(front: Front, prices: Prices, in_float: dict[Likeness, Seen], task: Task, pricing: Pricing) -> Front:
    """The front with prices as they were seen in place, in plans that round nothing and in the fastest of all: large
    weights, for one, are nearer in a network than in a kernel measured alone."""
    select = lambda other: front.under(other).at(Aim(0.0)).tuned  # noqa: E731
    with suppress(SelectionError):
        _, ratios = settle(prices, task, select(prices), pricing.run_in_place, select)
        return front.under(corrected(prices, in_float | ratios))
    return front.under(corrected(prices, in_float))


def _float_point(exact: Tuned) -> Point:
    best_us = exact.plan.predictions.get("best_us", exact.plan.predicted_us)
    priced_us = sum(price.time_ns for price in chosen_prices(exact.form, exact.selection)) / 1000
    return Point(exact, priced_us, best_us, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class _Judge:
    """What plans are run on and held against: ``truth`` are the outputs of the plan that rounds nothing."""

    graph: Graph
    samples: Samples
    truth: list[Outputs]
    metric: Metric
    task: Task
    pricing: Pricing
    isolated: Prices

    def point(self, corner: Corner) -> Point:
        """The corner run on the data, and timed whole."""
        tuned, us = corner.tuned, corner.time_ns / 1000
        seen_noise, drop = self._lost(tuned.plan)
        seen = self.pricing.run_in_place(tuned.plan) if self.task.measure else None
        if seen is not None:  # else told in the progress notes; the prediction stands
            tuned = as_seen(tuned, self.isolated, seen)
        best_us = us if seen is None else seen.best_us
        return Point(tuned, us, best_us, corner.noise, seen_noise, drop, corner.aim)

    def settled(self, point: Point, select: Callable[[Prices], Tuned], max_drop: float) -> Point:
        """The point with rivals of its steps, or on one of its devices, where that was seen to be faster and loses no
        more than allowed either."""
        pricing = self.pricing
        tuned = settle_rivals(point.tuned, self.isolated, select, pricing.run_in_turns, self.task)
        tuned = settle_devices(tuned, self.isolated, select, pricing.run_in_place, pricing.run_in_turns, self.task)
        if tuned is point.tuned:
            return point
        seen_noise, drop = self._lost(tuned.plan)
        if drop > max_drop:
            return point
        best_us = tuned.plan.predictions["best_us"]
        return replace(point, tuned=tuned, us=best_us, seen_noise=seen_noise, drop=drop)

    def _lost(self, plan: Plan) -> tuple[float, float]:
        """Noise seen at the outputs, and by how much the metric drops."""
        made = outputs_of(self.graph, plan, self.samples, self.task.catalog)
        return noise_of(made, self.truth), self.metric.drop(made, self.truth)


def fastest(points: Sequence[Point], run_in_turns: Callable[[Sequence[Plan]], Sequence[InPlace] | None]) -> int:
    """Which has the least median of whole runs, those run in turns that may have it: the :data:`RIVALS` of the least
    predicted time and the fastest seen. The latter where they cannot be run."""
    seen_best = min(range(len(points)), key=lambda number: points[number].us)
    likely = sorted(range(len(points)), key=lambda number: points[number].predicted_us)[:RIVALS]
    rivals = list(dict.fromkeys((*likely, seen_best)))
    seen = run_in_turns([points[number].tuned.plan for number in rivals]) if len(rivals) > 1 else None
    if seen is None:
        return seen_best
    return min(zip(rivals, seen, strict=True), key=lambda pair: pair[1].whole_us)[0]


def _rounds_any(corner: Corner) -> bool:
    return bool(_rounding(corner.tuned))


def _rounding(tuned: Tuned) -> list[Candidate]:
    """What the plan is made of that rounds."""
    return [candidate for candidate in chosen_candidates(tuned.form, tuned.selection) if rounds(candidate)]
