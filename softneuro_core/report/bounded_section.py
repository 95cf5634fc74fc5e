"""The page's part on an accuracy bound: the front as picture and table, and what was kept in float."""

from __future__ import annotations

from html import escape

from softneuro_core.report.bounded import front_table, kept_table, others_line
from softneuro_core.report.front_svg import front_svg
from softneuro_core.report.kept import BoundReasons
from softneuro_core.report.table import Table


def bounded_section(found: BoundReasons | None) -> str:
    """Nothing for a plan made without a bound."""
    if found is None:
        return ""
    chosen = found.bound.chosen
    told = (
        f"{found.bound.metric} drops by {chosen.drop:.4g} on {found.bound.samples} samples, "
        f"{found.bound.max_drop:.4g} are allowed; {chosen.rounded} layers are on grids of integers."
    )
    parts = [
        f"<h2>Accuracy</h2><p>{escape(told)}</p>",
        f"<div class='card'>{front_svg(found.bound)}{_table(front_table(found.bound))}</div>",
        "<h2>Kept in float</h2><p>What each would have cost: its noise at the outputs when rounded alone, seen while "
        "tuning, and what the whole plan would take more or less with it rounded as well. "
        f"{escape(others_line(found))}</p>",
        f"<div class='card'>{_table(kept_table(found))}</div>",
    ]
    return "".join(parts)


def _table(table: Table) -> str:
    kinds = ["class='num'" if right else "" for right in table.flush_right]
    head = "".join(f"<th {kind}>{escape(text)}</th>" for kind, text in zip(kinds, table.headings, strict=True))
    rows = "".join(
        "<tr>" + "".join(f"<td {kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in table.rows
    )
    return f"<table class='plain'><tr>{head}</tr>{rows}</table>"
