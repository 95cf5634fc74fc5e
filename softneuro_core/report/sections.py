"""The parts of the page: each turns data into one piece of HTML. Decides nothing, reads no files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from softneuro_core.graph import Graph
from softneuro_core.plan import AdapterStep, KernelStep, Plan
from softneuro_core.report.explanation import REFERENCE, Alternative, ConversionRow, Explanation, Row
from softneuro_core.report.memory_picture import ArenaPicture
from softneuro_core.report.memory_svg import memory_svg
from softneuro_core.report.plan_svg import DrawnRow, all_specs, plan_rows, plan_svg, spec_colours
from softneuro_core.report.text import distinct
from softneuro_core.report.units import show_bytes, show_layers, show_shape, show_us


def header(found: Explanation, plan: Plan) -> str:
    """Title line."""
    shapes = ", ".join(f"{name} {'x'.join(map(str, dims))}" for name, dims in plan.shapes.items())
    device = ", ".join(f"{name}: {text.partition(' [')[0]}" for name, text in found.machine.items())
    facts = [f"{len(found.rows)} steps", f"{found.threads} threads", shapes, device]
    return f"<header><h1>{escape(found.model)}</h1><p>{escape(' · '.join(f for f in facts if f))}</p></header>"


def tiles(found: Explanation, plan: Plan, measured: Mapping[str, float] | None) -> str:
    """The numbers a reader looks for first."""
    known, cards = found.predictions, list[str]()
    if measured:
        detail = f"min {show_us(measured['min_us'])}, {measured['runs']:.0f} runs, this process"
        cards.append(_tile("Measured", show_us(measured["median_us"]), detail))
    if "whole_us" in known:
        fastest = f"fastest {show_us(known['best_us'])}, " if "best_us" in known else ""
        cards.append(_tile("Whole run while tuning", show_us(known["whole_us"]), fastest + "in the tuner's worker"))
    isolated = known.get("isolated_us", plan.predicted_us)
    seen = f"seen in place {show_us(known['in_situ_us'])}" if "in_situ_us" in known else "not run in place"
    cards.append(_tile("Predicted, isolated costs", show_us(isolated), seen))
    cards.append(_certificate_tile(found.certificate))
    share = found.conversions_us / (sum(r.us for r in found.rows) + found.conversions_us or 1.0)
    cards.append(
        _tile("Conversions", str(len(found.conversions)), f"{show_us(found.conversions_us)}, {share:.1%} of the time")
    )
    reference = found.reference_layers
    of_time = sum(r.us for r in found.rows if r.routine == REFERENCE) / (sum(r.us for r in found.rows) or 1.0)
    detail = f"{of_time:.1%} of the time" if reference else "every layer has a fast routine"
    cards.append(_tile("Layers on the reference", str(len(reference)), detail, "bad" if reference else "good"))
    return f'<div class="tiles">{"".join(cards)}</div>'


def _certificate_tile(certificate: Mapping[str, object]) -> str:
    if certificate.get("exact"):
        return _tile(
            "Certificate", "Proven optimal", f"{certificate.get('states')} states, for the cost table used", "good"
        )
    gap = certificate.get("gap")
    text = f"gap {gap:.2%}" if isinstance(gap, float) else "none"
    return _tile("Certificate", text, "how much faster a plan could be at most", "bad")


def _tile(label: str, value: str, detail: str, mood: str = "") -> str:
    return (
        f'<div class="card tile {mood}"><div class="label">{escape(label)}</div>'
        f'<div class="value">{escape(value)}</div><div class="detail">{escape(detail)}</div></div>'
    )


def plan_section(graph: Graph, plan: Plan, found: Explanation, measured: Mapping[str, float], title: str) -> str:
    """The graph of the plan with a time bar for every step. ``measured`` maps step names to microseconds."""
    rows = plan_rows(graph, plan)
    colours = spec_colours(all_specs(rows))
    costs = {r.name: r.chosen.own_us for r in found.rows if r.chosen}
    largest = max([s.us for s in plan.steps] + list(measured.values()) + [0.001])
    body = "".join(_plan_row(row, graph, colours, costs, measured, largest) for row in rows)
    note = "The mark on a bar is the step's time measured in this process. " if measured else ""
    return (
        f"<h2>{escape(title)}</h2><p>From top to bottom in the order it runs. A line is a stored value, its colour how "
        f"it is stored; a diamond converts one into the other. {note}</p>"
        f"{_legend(colours, rows)}<div class='card scroll'><div class='plan'>{plan_svg(rows, colours)}"
        "<table><colgroup><col><col style='width:14%'><col style='width:11%'><col style='width:16%'>"
        "<col style='width:15%'><col style='width:82px'></colgroup><thead><tr><th>step</th><th>operators</th>"
        "<th>result</th><th>routine</th><th></th><th class='num'>time</th></tr></thead>"
        f"<tbody>{body}</tbody></table></div></div>"
    )


def _plan_row(
    row: DrawnRow,
    graph: Graph,
    colours: Mapping[str, str],
    costs: Mapping[str, float],
    measured: Mapping[str, float],
    largest: float,
) -> str:
    if not isinstance(row.step, KernelStep):
        return _other_row(row, measured, largest)
    layers = [graph.layer_by_name[name] for name in row.step.layers]
    results = ", ".join(show_shape(v.shape) for v in layers[-1].results)
    params = ", ".join(f"{k}={v}" for k, v in row.step.params.items())
    cells = (show_layers(row.step.layers), " + ".join(layer.op for layer in layers), results)
    routine, seen = row.step.routine, measured.get(row.step.name)
    alone = f", alone {show_us(costs[row.step.name])}" if row.step.name in costs else ""
    return (
        f'<tr class="{row.kind}">'
        + "".join(f'<td title="{escape(c)}">{escape(c)}</td>' for c in cells)
        + f'<td title="{escape(f"{routine} {params}")}">{_dot(row.step.outputs, colours)}{escape(routine)}</td>'
        + f'<td title="{escape(row.step.source + alone)}">{_track(row.step.us, largest, seen)}</td>'
        + f'<td class="num">{show_us(row.step.us)}</td></tr>'
    )


def _other_row(row: DrawnRow, measured: Mapping[str, float], largest: float) -> str:
    if not isinstance(row.step, AdapterStep):
        return f'<tr class="io"><td colspan="6">{row.kind} <b>{escape(row.title)}</b></td></tr>'
    step = row.step
    return (
        f'<tr class="conversion"><td colspan="3" title="{escape(row.title)}">convert {escape(row.title)}</td>'
        f"<td>{escape(step.adapter)}</td><td>{_track(step.us, largest, measured.get(step.name))}</td>"
        f'<td class="num">{show_us(step.us)}</td></tr>'
    )


def _dot(specs: Sequence[str], colours: Mapping[str, str]) -> str:
    return f'<i class="dots" style="background:{colours[specs[0]]}" title="{escape(specs[0])}"></i>' if specs else ""


def _track(us: float, largest: float, measured: float | None) -> str:
    mark = ""
    if measured is not None:
        left = min(100.0, 100 * measured / largest)
        mark = f'<i class="mark" style="left:{left:.2f}%" title="measured {show_us(measured)}"></i>'
    return f'<div class="track"><div class="bar" style="width:{min(100.0, 100 * us / largest):.2f}%"></div>{mark}</div>'


def _legend(colours: Mapping[str, str], rows: Sequence[DrawnRow]) -> str:
    items = [
        f'<span><i class="swatch" style="background:{c}"></i><code>{escape(s)}</code></span>'
        for s, c in colours.items()
    ]
    kinds = {row.kind for row in rows}
    shapes = {
        "layer": ("one layer", '<circle cx="8" cy="8" r="4.5" fill="var(--soft)"/>'),
        "region": (
            "several layers in one step",
            '<circle cx="8" cy="8" r="7" fill="none" stroke="var(--soft)" stroke-width="2"/>'
            '<circle cx="8" cy="8" r="4" fill="var(--soft)"/>',
        ),
        "reference": (
            "reference",
            '<circle cx="8" cy="8" r="4.5" fill="none" stroke="var(--soft)" stroke-width="2.5"/>',
        ),
        "conversion": ("conversion", '<path d="M8 2L14 8L8 14L2 8Z" fill="var(--move)"/>'),
    }
    for kind, (text, shape) in shapes.items():
        if kind in kinds:
            items.append(f'<span><svg width="16" height="16">{shape}</svg>{text}</span>')
    return f'<div class="legend">{"".join(items)}</div>'


def operators_section(found: Explanation) -> str:
    """Time by operators and routine, the largest first."""
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in found.rows:
        groups["+".join(row.ops), row.routine].append(row.us)
    if found.conversions:
        groups["conversions", "adapters"] = [c.us for c in found.conversions]
    total = sum(map(sum, groups.values())) or 1.0
    ordered = sorted(groups.items(), key=lambda item: -sum(item[1]))
    largest = sum(ordered[0][1]) if ordered else 1.0
    rows = "".join(_operator_row(op, routine, times, total, largest) for (op, routine), times in ordered[:14])
    more = f"<p class='soft'>and {len(ordered) - 14} more</p>" if len(ordered) > 14 else ""
    return (
        "<h2>Where the time goes</h2><p>Steps grouped by operators and routine.</p><div class='card'>"
        "<table class='plain bars'><tr><th>operators</th><th></th><th class='num'>time</th><th class='num'>share</th>"
        f"<th class='num'>steps</th><th>routine</th></tr>{rows}</table>{more}</div>"
    )


def _operator_row(op: str, routine: str, times: Sequence[float], total: float, largest: float) -> str:
    kind = "reference" if routine == REFERENCE else "conversion" if op == "conversions" else ""
    us = sum(times)
    bar = f"<div class='track'><div class='bar {kind}' style='width:{100 * us / (largest or 1):.2f}%'></div></div>"
    numbers = "".join(f"<td class='num'>{text}</td>" for text in (show_us(us), f"{us / total:.1%}", len(times)))
    return f"<tr><td>{escape(op)}</td><td>{bar}</td>{numbers}<td><code>{escape(routine)}</code></td></tr>"


def alternatives_section(found: Explanation, title: str) -> str:
    """Every step with its runner-up; opened, all alternatives with the whole plan's cost if forced."""
    rows = "".join(_alternatives(found, row) for row in found.rows)
    return (
        f"<h2>{escape(title)}</h2><p>What the best whole plan would cost if another routine were forced for a step, "
        "everything else chosen anew around it: exact for the cost table used, conversions included. "
        f"{_standing(found)}</p>"
        "<div><input class='filter' placeholder='Filter by layer, operator or routine' aria-label='filter'>"
        "<div class='card list'><div class='head'><span>step</span><span>chosen</span><span>runner-up</span>"
        f"<span>costs more</span></div>{rows}</div></div>"
    )


def _standing(found: Explanation) -> str:
    """How the plan shown compares with the best on the table the section is about."""
    if found.table_us is None:
        return f"The best plan there costs {show_us(found.best_us)}; steps of this plan are missing from it."
    if found.table_us <= found.best_us * (1 + 1e-9):
        return f"This plan costs {show_us(found.table_us)} there, and none costs less."
    costs = f"This plan costs {show_us(found.table_us)} there, the best {show_us(found.best_us)}"
    return f"{costs}; differences are from the best."


def _alternatives(found: Explanation, row: Row) -> str:
    base = found.best_us
    shown = distinct(row.alternatives)
    other = next((a for a in shown if not a.chosen and a.forced_us is not None), None)
    runner = _label(other, row) if other else "no other way" if len(shown) <= 1 else "no other plan"
    words = escape(" ".join((row.name, *row.ops, row.routine)).lower())
    body = "".join(_alternative(a, row, base) for a in shown)
    ops = f'<span class="soft">{escape("+".join(row.ops))}</span>'
    return (
        f'<details data-words="{words}"><summary><span class="step" title="{escape(row.name)}">'
        f"{escape(show_layers(row.layers))} {ops}</span><span title='{escape(row.routine)}'>"
        f"{escape(row.routine)}</span><span class='soft' title='{escape(runner)}'>{escape(runner)}</span>"
        f"{_difference(other, base)}</summary><div class='inner'><table class='plain'><tr><th>routine</th>"
        "<th>makes</th><th class='num'>alone</th><th class='num'>whole plan if forced</th>"
        "<th class='num'>difference</th><th></th></tr>"
        f"{body}</table></div></details>"
    )


def _label(a: Alternative, row: Row) -> str:
    layouts = " ".join(dict.fromkeys(s.partition(":")[2] for s in a.outputs))
    parts = [a.routine, layouts, "" if a.layers == row.layers else f"for {show_layers(a.layers)}"]
    return "  ".join(p for p in parts if p)


def _difference(a: Alternative | None, base: float) -> str:
    if a is None or a.forced_us is None:
        return '<span class="same">–</span>'
    change = a.forced_us - base
    mood = "same" if abs(change) < 0.0005 * base else "more" if change > 0 else "less"
    return f'<span class="{mood}">{"+" if change >= 0 else "−"}{show_us(abs(change))}</span>'


def _alternative(a: Alternative, row: Row, base: float) -> str:
    makes = " ".join(dict.fromkeys(a.outputs))
    whole = "no plan" if a.forced_us is None else show_us(a.forced_us)
    over = [] if a.layers == row.layers else [f"computes {show_layers(a.layers)}"]
    remark = ", ".join((["chosen"] if a.chosen else []) + over + ([] if a.source == "measured" else [a.source]))
    return (
        f"<tr class='{'chosen' if a.chosen else ''}'><td><code>{escape(a.name)}</code></td>"
        f"<td><code>{escape(makes)}</code></td>"
        f"<td class='num'>{show_us(a.own_us)}</td><td class='num'>{whole}</td>"
        f"<td class='num'>{_difference(a, base)}</td><td class='soft'>{escape(remark)}</td></tr>"
    )


def conversions_section(found: Explanation) -> str:
    """All conversions; nothing if there are none."""
    if not found.conversions:
        return ""
    rows = "".join(
        f"<tr><td>{escape(c.value)}</td><td><code>{escape(c.src)}</code> → <code>{escape(c.dst)}</code></td>"
        f"<td><code>{escape(c.adapter)}</code></td><td>{escape(_after(c))}</td>"
        f"<td class='num'>{show_us(c.us)}</td></tr>"
        for c in found.conversions
    )
    headings = "".join(f"<th>{text}</th>" for text in ("value", "from → to", "adapter", "after"))
    return (
        "<h2>Conversions</h2><p>Changes of layout, element type or device that the plan pays for because the steps "
        "around them gain more.</p><div class='card'><table class='plain'>"
        f"<tr>{headings}<th class='num'>time</th></tr>{rows}</table></div>"
    )


def _after(conversion: ConversionRow) -> str:
    return show_layers(conversion.after.split("+")) if conversion.after else "graph input"


def memory_section(pictures: Iterable[ArenaPicture], constant_bytes: int) -> str:
    """One picture per device."""
    head = (
        "<h2>Memory</h2><p>Steps from left to right, addresses from top to bottom. Packed weights take "
        f"{show_bytes(constant_bytes)} more.</p>"
    )
    return head + "".join(map(_arena, pictures))


def _arena(picture: ArenaPicture) -> str:
    facts = (
        f"{show_bytes(picture.nbytes)} for {len(picture.blocks)} blocks",
        f"no plan needs less than {show_bytes(picture.bound_bytes)}",
        f"separate buffers would take {show_bytes(picture.separate_bytes)}",
    )
    head = f"<p class='soft'><b>{escape(picture.device)}</b>: {'; '.join(facts)}.</p>"
    return f"{head}<div class='card'>{memory_svg(picture)}</div>"


def facts_section(found: Explanation, plan: Plan) -> str:
    """Certificate, machine, libraries, request, notes."""
    rows: list[tuple[str, str]] = [(f"certificate: {k}", str(v)) for k, v in found.certificate.items()]
    rows += [(f"prediction: {k.removesuffix('_us')}", show_us(v)) for k, v in found.predictions.items()]
    rows += [(f"device {name}", text) for name, text in found.machine.items()]
    rows += [(name, version) for name, version in plan.libraries.items()]
    rows += [(f"asked: {k}", str(v)) for k, v in plan.request.items() if v not in ([], {}, "default")]
    terms = "".join(f"<dt>{escape(k)}</dt><dd><code>{escape(v)}</code></dd>" for k, v in rows)
    notes = [*found.notes, *(f"left out: {name}: {reason}" for name, reason in found.problems.items())]
    told = f"<ul class='notes'>{''.join(f'<li>{escape(n)}</li>' for n in notes)}</ul>" if notes else ""
    return f"<h2>Certificate, machine, notes</h2><div class='card'><dl>{terms}</dl>{told}</div>"
