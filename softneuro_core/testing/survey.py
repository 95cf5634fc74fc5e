"""The case table's other uses: which routine supports what, and how fast each is on the larger cases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from softneuro_core.costs import Cost
from softneuro_core.profiling.measure import Case as Measured
from softneuro_core.profiling.measure import Effort, measure
from softneuro_core.routine import Offer, Routine
from softneuro_core.testing.case import Case
from softneuro_core.testing.measure import expected
from softneuro_core.testing.routines import describe, offers_for, regions_of
from softneuro_core.testing.units import Workbench


def support(bench: Workbench) -> dict[tuple[str, str], dict[str, tuple[int, int]]]:
    """(operators, routine) -> spec of the first output -> (cases offered, cases of these operators)."""
    found: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for routine in bench.routines:
        cases = [case for case in bench.cases.values() if _might(routine, case)]
        for case in cases:
            for spec in {str(o.outputs[0]) for o in _offers(bench, routine, case) if o.outputs}:
                row = found.setdefault((" + ".join(routine.pattern) or "any", routine.name), {})
                row[spec] = (row.get(spec, (0, 0))[0] + 1, len(cases))
    return found


def _might(routine: Routine, case: Case) -> bool:
    return not routine.pattern or set(routine.pattern) == case.ops


def _offers(bench: Workbench, routine: Routine, case: Case) -> list[Offer]:
    try:
        return offers_for(bench.catalog, routine, bench.graph(case))
    except Exception:  # a stranger's code: the test names what it raised
        return []


@dataclass(frozen=True, slots=True)
class Timing:
    """One offer of one routine on one case, as the profiler would measure it."""

    routine: str
    case: str
    offer: str
    cost: Cost


def perf(bench: Workbench, routines: str = "*", cases: str = "*-big", threads: int = 1) -> Iterator[Timing]:
    """Measures what matches both patterns, in this process, through the profiler's own code."""
    for routine in bench.routines:
        for case in bench.cases.values():
            if fnmatchcase(routine.name, routines) and fnmatchcase(case.name, cases) and _might(routine, case):
                yield from _timings(bench, routine, case, threads)


def _timings(bench: Workbench, routine: Routine, case: Case, threads: int) -> Iterator[Timing]:
    target = bench.catalog.target(routine.device, threads)
    for region in regions_of(routine, bench.graph(case)):
        wanted = expected(case, bench.catalog.operators)
        for offer in routine.offers(region, target):
            job = Measured(
                prepare=lambda region=region, offer=offer: routine.prepare(region, offer, target),  # type: ignore[misc]
                inputs=tuple(zip(region.inputs, offer.inputs, strict=True)),
                outputs=tuple(zip(region.outputs, offer.outputs, strict=True)),
                arrays=case.arrays(region),
                expected=wanted.arrays,
                accuracy=offer.accuracy,
                target=target,
                devices=bench.catalog.devices,
                link=bench.catalog.link,
                slack=max(wanted.slack, 1e-7),
            )
            yield Timing(routine.name, case.name, describe(offer), measure(job, Effort()))
