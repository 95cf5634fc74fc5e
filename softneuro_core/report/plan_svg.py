"""The plan as a picture: rows of :mod:`lanes` as inline SVG, coloured by how each value is stored."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import cast

from softneuro_core.graph import Graph
from softneuro_core.plan import AdapterStep, KernelStep, Plan
from softneuro_core.report.explanation import REFERENCE
from softneuro_core.report.lanes import DrawnStep, Edge, place

ROW, LEFT = 26, 12
"""Height of a row and the margin, in pixels. ``page.css`` has the same row height."""
WIDE_LANE, NARROW_LANE, MANY = 16, 10, 12
"""Width of a lane in pixels, and the number of lanes from which the narrow one is used."""
PALETTE = ("#3b82f6", "#f59e0b", "#10b981", "#ec4899", "#8b5cf6", "#06b6d4", "#84cc16", "#ef4444")
OBJECT_COLOUR = "#94a3b8"


@dataclass(frozen=True, slots=True)
class DrawnRow:
    """One row: a graph input or output, a step, or a conversion."""

    kind: str
    title: str
    step: KernelStep | AdapterStep | None
    drawn: DrawnStep


def plan_rows(graph: Graph, plan: Plan) -> list[DrawnRow]:
    """Inputs, steps in order, outputs; keys are (value name, spec)."""
    rows = [DrawnRow("input", v.name, None, DrawnStep((), ((v.name, str(v.host_spec)),))) for v in graph.inputs]
    for step in plan.steps:
        if isinstance(step, AdapterStep):
            drawn = DrawnStep(((step.value, step.src),), ((step.value, step.dst),))
            rows.append(DrawnRow("conversion", f"{step.value}: {step.src} -> {step.dst}", step, drawn))
        else:
            kind = "reference" if step.routine == REFERENCE else "region" if len(step.layers) > 1 else "layer"
            rows.append(DrawnRow(kind, step.name, step, _kernel(graph, step)))
    rows += [
        DrawnRow("output", v.name, None, DrawnStep(((v.name, str(v.host_spec)),), ()))
        for v in graph.outputs
        if not v.is_constant
    ]
    return rows


def _kernel(graph: Graph, step: KernelStep) -> DrawnStep:
    from softneuro_core.graph import Region

    region = Region(graph, tuple(graph.layer_by_name[name] for name in step.layers))
    reads = tuple((v.name, s) for v, s in zip(region.inputs, step.inputs, strict=True))
    return DrawnStep(reads, tuple((v.name, s) for v, s in zip(region.outputs, step.outputs, strict=True)))


def stored(key: Hashable) -> tuple[str, str]:
    """Value name and spec: the keys of :func:`plan_rows`."""
    return cast(tuple[str, str], key)


def spec_colours(specs: Iterable[str]) -> dict[str, str]:
    """A colour for each spec, in order of appearance; host objects are grey."""
    colours: dict[str, str] = {}
    for spec in specs:
        if spec not in colours:
            used = sum(colour != OBJECT_COLOUR for colour in colours.values())
            colours[spec] = OBJECT_COLOUR if spec.endswith(":object") else PALETTE[used % len(PALETTE)]
    return colours


def all_specs(rows: Sequence[DrawnRow]) -> list[str]:
    """Specs in order of appearance."""
    return list(dict.fromkeys(stored(key)[1] for row in rows for key in (*row.drawn.makes, *row.drawn.reads)))


def plan_svg(rows: Sequence[DrawnRow], colours: Mapping[str, str]) -> str:
    """The lanes beside the table of steps: as many rows of the same height."""
    drawing = place([row.drawn for row in rows])
    lane = WIDE_LANE if drawing.width < MANY else NARROW_LANE
    width, height = LEFT * 2 + (drawing.width - 1) * lane, len(rows) * ROW
    parts = [
        f'<svg class="lanes" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        'aria-label="data flow of the plan">'
    ]
    parts += [_path(edge, lane, colours) for edge in drawing.edges]
    parts += [_node(i, row, LEFT + drawing.lanes[i] * lane, colours) for i, row in enumerate(rows)]
    return "".join([*parts, "</svg>"])


def _y(row: int) -> float:
    return ROW * (row + 0.5)


def _path(edge: Edge, lane: int, colours: Mapping[str, str]) -> str:
    """Out of the step into the value's lane, straight down, and over to the reader."""
    name, spec = stored(edge.key)
    start_x, own_x, end_x = (LEFT + number * lane for number in (edge.start_lane, edge.lane, edge.end_lane))
    x, y = start_x, _y(edge.start)
    d = [f"M{x} {y}"]
    if edge.lane != edge.start_lane:
        d.append(_bend(x, y, own_x, y + ROW))
        y += ROW
    if edge.end_lane == edge.lane:
        d.append(f"V{_y(edge.end)}")
    else:
        if (turn := _y(edge.end) - ROW) > y:
            d.append(f"V{turn}")
            y = turn
        d.append(_bend(own_x, y, end_x, _y(edge.end)))
    title = f"<title>{escape(f'{name} as {spec}')}</title>"
    return f'<path class="flow" d="{"".join(d)}" stroke="{colours[spec]}">{title}</path>'


def _bend(x: float, y: float, to_x: float, to_y: float) -> str:
    middle = (y + to_y) / 2
    return f"C{x} {middle} {to_x} {middle} {to_x} {to_y}"


def _node(index: int, row: DrawnRow, x: int, colours: Mapping[str, str]) -> str:
    y = _y(index)
    keys = row.drawn.makes or row.drawn.reads
    colour = colours[stored(keys[0])[1]] if keys else OBJECT_COLOUR
    title = f"<title>{escape(row.title)}</title>"
    if row.kind == "conversion":
        before = colours[stored(row.drawn.reads[0])[1]]
        return (
            f'<g class="node">{title}<path class="solid" d="M{x} {y - 7}L{x + 7} {y}L{x} {y + 7}Z" fill="{colour}"/>'
            f'<path class="solid" d="M{x} {y - 7}L{x - 7} {y}L{x} {y + 7}Z" fill="{before}"/></g>'
        )
    if row.kind in ("input", "output"):
        place = f'x="{x - 5}" y="{y - 5}" width="10" height="10" rx="2"'
        return f'<rect class="node solid" {place} fill="{colour}">{title}</rect>'
    if row.kind == "reference":
        return f'<circle class="node hollow" cx="{x}" cy="{y}" r="4.5" stroke="{colour}">{title}</circle>'
    ring = f'<circle class="ring" cx="{x}" cy="{y}" r="7.5" stroke="{colour}"/>' if row.kind == "region" else ""
    return f'<g class="node">{title}{ring}<circle class="solid" cx="{x}" cy="{y}" r="4.5" fill="{colour}"/></g>'
