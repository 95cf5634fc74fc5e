"""The chart of a benchmark as SVG: a bar for every network and thread count, its interval, a line at 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

LEFT, WIDTH, BAR, GAP, TOP = 170, 560, 14, 10, 56
COLOURS = ("#2563a8", "#e08a2b", "#3f8f5b", "#8a4fa3")
INK = "#333333"


def write_chart(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    """Writes the chart of all rows that have a ratio against their best peer."""
    path.write_text(chart(rows), encoding="utf-8")
    return path


def chart(rows: Sequence[dict[str, Any]]) -> str:
    """SVG text; the bar is the median of best peer over ours, the whisker its 95 % interval."""
    shown = [row for row in rows if row["best"] in row["ratios"]]
    threads = sorted({row["threads"] for row in shown})
    models = list(dict.fromkeys(row["model"] for row in shown))
    most = max([1.0, *(row["ratios"][row["best"]][2] for row in shown)]) * 1.1
    scale = WIDTH / most
    parts, y = [], TOP
    for model in models:
        mine = [row for row in shown if row["model"] == model]
        parts.append(_text(LEFT - 8, y + len(mine) * BAR / 2 + 4, model, "end"))
        for row in mine:
            parts += _bar(row, y, scale, COLOURS[threads.index(row["threads"]) % len(COLOURS)])
            y += BAR
        y += GAP
    one = LEFT + scale
    parts.append(f'<line x1="{one:.1f}" y1="{TOP - 6}" x2="{one:.1f}" y2="{y}" stroke="{INK}" stroke-dasharray="4 3"/>')
    for index, count in enumerate(threads):
        x = LEFT + 110 * index
        colour = COLOURS[index % len(COLOURS)]
        parts.append(f'<rect x="{x}" y="30" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(x + 15, 39, f"{count} thread{'s' if count > 1 else ''}"))
    about = shown[0]["machine"]["cpu"] + ", " + shown[0]["date"] if shown else ""
    title = _text(LEFT, 18, f"Best peer's time over SoftNeuro's (above 1: SoftNeuro is faster). {about}")
    size = f'width="{LEFT + WIDTH + 130}" height="{y + 10}"'
    return (f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
            f'<rect width="100%" height="100%" fill="white"/>{title}{"".join(parts)}</svg>\n')  # fmt: skip


def _bar(row: dict[str, Any], y: float, scale: float, colour: str) -> list[str]:
    middle, low, high = row["ratios"][row["best"]]
    mid = y + BAR / 2
    return [
        f'<rect x="{LEFT}" y="{y + 1}" width="{middle * scale:.1f}" height="{BAR - 2}" fill="{colour}"/>',
        f'<line x1="{LEFT + low * scale:.1f}" y1="{mid}" x2="{LEFT + high * scale:.1f}" y2="{mid}" stroke="{INK}"/>',
        _text(LEFT + high * scale + 5, mid + 4, f"{middle:.2f} ({row['best']})"),
    ]


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}">{escape(words)}</text>'
