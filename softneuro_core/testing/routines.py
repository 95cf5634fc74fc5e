"""A routine on a case: are its offers sound, and does each of them keep its promises?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from softneuro_core.candidates import is_part, resolve
from softneuro_core.catalog import Catalog
from softneuro_core.errors import SoftneuroError
from softneuro_core.graph import Graph, Region, Value
from softneuro_core.routine import Offer, Routine
from softneuro_core.spec import OBJECT, TensorSpec
from softneuro_core.testing.case import Case, first_with_id
from softneuro_core.testing.checks import run_checks
from softneuro_core.testing.measure import Expected, expected
from softneuro_core.testing.subject import Finding, Report, Subject

FAST_NS, FAST_TRIES = 1_000_000, 10
"""A call that is fast once is fast: the best of several counts, so a busy machine fails nobody."""
OTHER_SEED = 1


def regions_of(routine: Routine, graph: Graph) -> list[Region]:
    """Legal regions the routine names that cover the whole case (parts of it are other cases' business)."""
    found = [Region(graph, tuple(layers)) for exit in graph.layers for layers in routine.regions(graph, exit)]
    return [region for region in found if len(region.layers) == len(graph.layers) and region.is_legal()]


def offers_for(catalog: Catalog, routine: Routine, graph: Graph, threads: int = 1) -> list[Offer]:
    """Every offer of the routine for a whole case; raises whatever the routine raises."""
    target = catalog.target(routine.device, threads)
    return [offer for region in regions_of(routine, graph) for offer in routine.offers(region, target)]


def check_routine(catalog: Catalog, name: str, case: Case) -> Report:
    """All checks on every offer the routine makes for the case; whatever the routine raises is a finding."""
    routine = catalog.routines[name]
    where = f"{name} on {case.name}"
    found: list[Finding] = []
    offers: list[tuple[Region, Offer]] = []
    try:
        regions = regions_of(routine, case.graph(catalog.operators))
    except Exception as error:  # a stranger's code
        return Report(0, (Finding("offers", where, f"regions(): {type(error).__name__}: {error}"),))
    for region in regions:
        mine, problems = _sound_offers(catalog, routine, region)
        offers += [(region, offer) for offer in mine]
        found += [Finding(check, where, detail) for check, detail in problems]
    if not offers:
        return Report(0, tuple(found))
    report = Report(len(offers), tuple(found))
    cases = (case, case.with_inputs(OTHER_SEED))
    try:
        wanted = _wanted(catalog, cases)
    except SoftneuroError as error:
        return replace(report, skipped=f"the reference cannot compute {case.name}: {error}")
    for region, offer in offers:
        narrow = _narrower(region, offer)
        held = (cases[0].rounded(narrow), cases[1].rounded(narrow))
        goals = _wanted(catalog, held) if narrow else wanted
        subject = _subject(catalog, routine, held[0], region, offer, goals[0], held[1], goals[1])
        outcome = run_checks(subject)
        findings = tuple(Finding(check, subject.name, detail) for check, detail in outcome.found)
        report = report.merged(Report(0, findings, outcome.max_error, outcome.nmse))
    return report


def _wanted(catalog: Catalog, cases: tuple[Case, Case]) -> tuple[Expected, Expected]:
    return expected(cases[0], catalog.operators), expected(cases[1], catalog.operators)


def _narrower(region: Region, offer: Offer) -> dict[str, np.dtype]:
    """Inputs the offer reads in floats narrower than their own: what those have lost is not the routine's fault."""
    return {
        value.name: spec.dtype.numpy
        for value, spec in zip(region.inputs, offer.inputs, strict=True)
        if value.dtype.is_float and spec.dtype.is_float and spec.dtype.itemsize < value.dtype.itemsize
    }


def _subject(
    catalog: Catalog,
    routine: Routine,
    case: Case,
    region: Region,
    offer: Offer,
    wanted: Expected,
    other: Case,
    other_wanted: Expected,
) -> Subject:
    def renewed(turns: int, identities: frozenset[int]) -> Subject | None:
        if not any(a.dtype.kind == "f" and a.size > 1 for a in case.constants.values()):
            return None
        moved = case.with_constants(turns, identities)
        fresh = moved.region(catalog.operators)
        fresh = first_with_id(lambda: Region(fresh.graph, fresh.layers), identities)
        if [v.shape for v in fresh.outputs] != [v.shape for v in region.outputs]:
            return None
        goal = expected(moved, catalog.operators)
        made = _subject(catalog, routine, moved, fresh, offer, goal, other, other_wanted)
        return replace(made, renewed=lambda turns, identities: None)

    return Subject(
        name=f"{routine.name} on {case.name} [{describe(offer)}]",
        catalog=catalog,
        device=routine.device,
        prepare=lambda target: routine.prepare(region, offer, target),
        inputs=tuple(zip(region.inputs, offer.inputs, strict=True)),
        outputs=tuple(zip(region.outputs, offer.outputs, strict=True)),
        arrays=case.arrays(region),
        wanted=wanted,
        other_arrays=other.arrays(region),
        other_wanted=other_wanted,
        accuracy=offer.accuracy,
        constants=tuple(v.data for v in region.constants if v.data is not None),
        inplace=offer.inplace,
        deterministic=offer.deterministic,
        strided=offer.strided,
        pitched=offer.pitched,
        parts=offer.parts,
        identities=frozenset(map(id, (region, *case.constants.values()))),
        renewed=renewed,
    )


def describe(offer: Offer) -> str:
    """``cpu:float32:NCHW -> cpu:float32:NCHW tile=4``."""
    specs = f"{', '.join(map(str, offer.inputs))} -> {', '.join(map(str, offer.outputs))}"
    return " ".join([specs, *(f"{k}={v}" for k, v in offer.params.items())])


# -- offers ------------------------------------------------------------------------------------------------------


def _sound_offers(catalog: Catalog, routine: Routine, region: Region) -> tuple[list[Offer], list[tuple[str, str]]]:
    """Offers that can be run, and what is wrong with the others or with ``offers`` itself."""
    target = catalog.target(routine.device, 1)
    constants = [v.data.copy() for v in region.constants if v.data is not None]
    before = _fingerprint(region)
    try:
        offers = list(routine.offers(region, target))
        again = list(routine.offers(region, target))
    except Exception as error:  # a stranger's code
        return [], [("offers", f"{type(error).__name__}: {error}")]
    problems: list[tuple[str, str]] = []
    if offers != again:
        problems.append(("pure", f"offered {len(offers)} ways, then {len(again)}, and they are not the same"))
    after = [v.data for v in region.constants if v.data is not None]
    if before != _fingerprint(region) or any(a.tobytes() != b.tobytes() for a, b in zip(constants, after, strict=True)):
        problems.append(("pure", "offers() changed the region it was asked about"))
    problems += _slowness(lambda: list(routine.offers(region, target)))
    sound = []
    for offer in offers:
        misfit = _misfit(region, offer, catalog)
        problems += misfit
        if not misfit:
            problems += _json_problem(region, routine, offer, catalog)
            sound.append(offer)
    return sound, problems


def _fingerprint(region: Region) -> str:
    def names(values: Sequence[Value | None]) -> list[object]:
        return [v and (v.name, str(v.dtype), v.shape) for v in values]

    layers = region.layers
    return repr([(x.name, x.op, dict(x.attrs), names(x.inputs), names(x.outputs)) for x in layers])


def _slowness(call: Callable[[], object]) -> list[tuple[str, str]]:
    best = FAST_NS
    for _ in range(FAST_TRIES):
        start = time.perf_counter_ns()
        call()
        took = time.perf_counter_ns() - start
        if took < FAST_NS:
            return []
        best = took if best == FAST_NS else min(best, took)
    return [("fast", f"took {best / 1e6:.1f} ms in the best of {FAST_TRIES} calls")]


def _misfit(region: Region, offer: Offer, catalog: Catalog) -> list[tuple[str, str]]:
    """Why this offer cannot be run at all."""
    if not isinstance(offer, Offer):
        return [("offers", f"gave a {type(offer).__name__}, wanted an Offer")]
    counts = (len(offer.inputs), len(offer.outputs))
    if counts != (wanted := (len(region.inputs), len(region.outputs))):
        return [("offers", f"has {counts} specs (inputs, outputs), the region {wanted}")]
    values: Sequence[tuple[object, TensorSpec]] = list(
        zip(region.inputs + region.outputs, offer.inputs + offer.outputs, strict=True)
    )
    for value, spec in values:
        if spec.device not in catalog.devices:
            return [("offers", f"{spec} is on a device that is not there")]
        if (spec.dtype is OBJECT) != value.is_object:  # type: ignore[attr-defined]
            return [("offers", f"value {value.name!r} cannot be stored as {spec}")]  # type: ignore[attr-defined]
    if offer.inplace is not None and not 0 <= offer.inplace < len(region.inputs):
        return [("offers", f"inplace={offer.inplace} is not the number of an input")]
    for number, (axis, first) in offer.parts.items():
        if not is_part(region, number, axis, first):
            return [("offers", f"parts: input {number} does not fit into output 0 at {first} of axis {axis}")]
    if not (isinstance(offer.accuracy, (int, float)) and offer.accuracy >= 0 and np.isfinite(offer.accuracy)):
        return [("offers", f"accuracy={offer.accuracy!r} is not a number of 0 or more")]
    return []


def _json_problem(region: Region, routine: Routine, offer: Offer, catalog: Catalog) -> list[tuple[str, str]]:
    try:
        params = json.loads(json.dumps(dict(offer.params)))
    except (TypeError, ValueError) as error:
        return [("json", f"params {dict(offer.params)!r}: {error}")]
    specs = [[TensorSpec.parse(str(s)) for s in side] for side in (offer.inputs, offer.outputs)]
    try:
        back = resolve(region, routine, specs, params, catalog.target(routine.device, 1))
    except SoftneuroError as error:
        return [("json", f"params {dict(offer.params)!r} come back as {params!r}: {error}")]
    return [] if back == offer else [("json", f"{describe(offer)} names two different offers")]
