"""Explanations and summaries of plans as plain text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from softneuro_core.plan import AdapterStep, Plan
from softneuro_core.report.bounded import front_table, kept_table, others_line
from softneuro_core.report.explanation import REFERENCE, Alternative, Explanation, Row
from softneuro_core.report.table import Table
from softneuro_core.report.units import show_layers, show_us

TOP_STEPS = 8


def explanation_text(found: Explanation, layer: str | None = None, limit: int = 6) -> str:
    """Per step the choice and at most ``limit`` alternatives (0: all), then conversions, reference layers, notes.

    Alternatives of one routine with the same result specs are shown once, the cheapest of them.
    """
    lines = [] if layer else [*_head(found), ""]
    for row in found.rows_of(layer):
        lines += [*_row_lines(found, row, limit), ""]
    if not layer:
        lines += [*_bound_lines(found), *_tail(found)]
    for key, body in found.bodies.items():
        if not layer:
            lines += ["", f"body {key}", *("  " + line for line in explanation_text(body, None, limit).splitlines())]
    return "\n".join(lines).rstrip()


def _head(found: Explanation) -> Iterator[str]:
    yield f"{found.model}: {len(found.rows)} steps, {len(found.conversions)} conversions, {found.threads} threads"
    if found.table_us is None:
        yield "some steps of this plan are not in the cost table any more: its cost there is not known"
    else:
        yield f"cost of this plan on the table: {show_us(found.table_us)}" + _against_best(found)
    yield from prediction_lines(found.predictions)
    yield certificate_line(found.certificate)


def _against_best(found: Explanation) -> str:
    assert found.table_us is not None
    if found.bound is not None:
        return f"; {show_us(found.best_us)} is the least there, whatever it rounds"
    if found.table_us <= found.best_us * (1 + 1e-9):
        return " (no plan is faster)" if found.certificate.get("exact") else ""
    if "in_situ_us" in found.predictions:
        return f"; {show_us(found.best_us)} is the least there, but whole runs decided"
    return f"; the best plan now is {show_us(found.best_us)}: tune again"


def prediction_lines(predictions: object) -> Iterator[str]:
    """Isolated sum, in-place sum and whole run, where they are known."""
    if not isinstance(predictions, dict):
        return
    names = {
        "isolated_us": "predicted from isolated costs",
        "in_situ_us": "sum of steps seen in place",
        "whole_us": "whole run in the tuner's worker",
        "best_us": "its fastest",
    }
    known = [f"{text} {show_us(predictions[key])}" for key, text in names.items() if key in predictions]
    if known:
        yield "; ".join(known)


def certificate_line(certificate: object) -> str:
    """How sure the choice is."""
    if not isinstance(certificate, dict) or not certificate:
        return "certificate: none"
    how = f"{certificate.get('method')}, {certificate.get('states')} states, cost table {certificate.get('costs')}"
    if certificate.get("exact"):
        claim = certificate.get("claim", "optimal")
        return f"certificate: proven {claim} for the cost table ({how})"
    gap, bound = float(certificate.get("gap", 0.0)), float(certificate.get("lower_bound_us", 0.0))
    return f"certificate: at most {gap:.2%} from the optimum, lower bound {show_us(bound)} ({how})"


def _bound_lines(found: Explanation) -> Iterator[str]:
    """The plans tried and the layers kept in float, of a plan made within an accuracy bound."""
    if (reasons := found.bound) is None:
        return
    yield from front_table(reasons.bound).text().splitlines()
    yield ""
    if reasons.kept:
        yield from kept_table(reasons).text().splitlines()
    else:
        yield "kept in float: nothing that could be rounded"
    yield from filter(None, [others_line(reasons)])
    yield ""


def _row_lines(found: Explanation, row: Row, limit: int) -> Iterator[str]:
    yield f"[{row.index}] {row.name}  {'+'.join(row.ops)}  {row.shape}"
    shown = distinct(row.alternatives)
    kept = shown if not limit else [a for i, a in enumerate(shown) if i < limit or a.chosen]
    rows = [_cells(a, row, found.best_us) for a in kept]
    if row.chosen is None:
        rows.insert(
            0, (">", row.routine, _specs(s for _, s in row.makes), show_us(row.us), "", "", "not offered here now")
        )
    yield from _indented(Table.of(("", "routine", "makes", ">alone", ">whole plan", ">more", ""), rows))
    if len(kept) < len(shown):
        yield f"    and {len(shown) - len(kept)} more (--all)"
    for c in row.conversions:
        yield f"    then {c.value}: {c.src} -> {c.dst} by {c.adapter}, {show_us(c.us)}"


def _cells(a: Alternative, row: Row, base_us: float) -> tuple[str, ...]:
    whole = "no plan" if a.forced_us is None else show_us(a.forced_us)
    more = "" if a.forced_us is None else f"{(a.forced_us / base_us - 1) if base_us else 0:+.1%}"
    over = f"as {show_layers(a.layers)}" if a.layers != row.layers else ""
    remark = " ".join(part for part in (over, "" if a.source == "measured" else a.source) if part)
    return (">" if a.chosen else "", a.name, _specs(a.outputs), show_us(a.own_us), whole, more, remark)


def _specs(specs: Iterable[str]) -> str:
    return " ".join(dict.fromkeys(specs))


def _indented(table: Table) -> Iterator[str]:
    return ("    " + line for line in table.text().splitlines())


def distinct(alternatives: Iterable[Alternative]) -> list[Alternative]:
    """The cheapest of each routine, region and results; what was chosen always stays."""
    kept: dict[tuple[object, ...], Alternative] = {}
    for a in alternatives:
        key = (a.layers, a.routine, a.outputs)
        if key not in kept or (a.chosen and not kept[key].chosen):
            kept[key] = a
    return list(kept.values())


def _tail(found: Explanation) -> Iterator[str]:
    total = found.conversions_us
    yield f"conversions: {len(found.conversions)}, {show_us(total)} in all"
    for c in found.conversions:
        if c.after is None:
            yield f"    input {c.value}: {c.src} -> {c.dst} by {c.adapter}, {show_us(c.us)}"
    if found.segments_us >= 0.001:
        yield f"starting runs of steps on devices: {show_us(found.segments_us)}"
    yield reference_line(found.reference_layers)
    yield from (f"note: {note}" for note in found.notes)
    yield from (f"left out: {name}: {reason}" for name, reason in found.problems.items())


def reference_line(layers: tuple[str, ...]) -> str:
    """Which layers run through the reference."""
    if not layers:
        return "reference: no layer uses it"
    more = f" and {len(layers) - 8} more" if len(layers) > 8 else ""
    count = "1 layer uses" if len(layers) == 1 else f"{len(layers)} layers use"
    return f"reference: {count} it: {', '.join(layers[:8])}{more}"


def plan_summary(plan: Plan) -> str:
    """What ``tune`` prints: predictions, certificate, conversions, reference layers, the dearest steps."""
    kernels = plan.kernel_steps
    adapters = [s for s in plan.steps if isinstance(s, AdapterStep)]
    total = sum(s.us for s in plan.steps) or 1.0
    lines = [f"{plan.model.get('name', 'model')}: {len(kernels)} steps, {plan.threads} threads"]
    lines += [*prediction_lines(dict(plan.predictions)), certificate_line(dict(plan.certificate))]
    lines.append(f"conversions: {len(adapters)}, {show_us(sum(s.us for s in adapters))} in all")
    lines.append(reference_line(tuple(n for s in kernels if s.routine == REFERENCE for n in s.layers)))
    counts = Counter(s.routine for s in kernels)
    lines.append("routines: " + ", ".join(f"{name} x{count}" for name, count in counts.most_common()))
    dearest = sorted(kernels, key=lambda s: -s.us)[:TOP_STEPS]
    rows = [
        (show_layers(s.layers), s.routine, _specs(s.outputs), show_us(s.us), f"{s.us / total:.1%}", s.source)
        for s in dearest
    ]
    lines.append(Table.of(("dearest steps", "routine", "makes", ">time", ">share", ""), rows).text())
    lines += [f"note: {note}" for note in plan.notes]
    lines += [f"body {key}: {show_us(body.predicted_us)}, {len(body.steps)} steps" for key, body in plan.bodies.items()]
    return "\n".join(lines)
