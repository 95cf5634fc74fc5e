"""The front as a picture: time across, what is lost upwards."""

from __future__ import annotations

from html import escape

from softneuro_core.bound import Bound, FrontPoint
from softneuro_core.report.bounded import decibels
from softneuro_core.report.units import show_us

WIDTH, HEIGHT, MARGIN = 640, 360, 56
COLOURS = {"chosen": "#0a7d4f", "kept": "#3b6fb6", "too lossy": "#c2452d"}


def front_svg(found: Bound) -> str:
    """Measured time and drop of every plan tried, with the bound as a line; titles tell the rest."""
    most_us = max(p.us for p in found.front) * 1.05
    most_drop = max(*(p.drop for p in found.front), found.max_drop, 1e-9) * 1.1
    least_drop = min(0.0, *(p.drop for p in found.front))

    def place(us: float, drop: float) -> tuple[float, float]:
        x = MARGIN + (WIDTH - 2 * MARGIN) * us / most_us
        return x, HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (drop - least_drop) / (most_drop - least_drop)

    (left, bound), (right, _) = place(0, found.max_drop), place(most_us, 0)
    floor = HEIGHT - MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<path d="M{left:.1f} {MARGIN} V{floor} H{right:.1f}" fill="none" stroke="#444"/>',
        f'<path d="M{left:.1f} {bound:.1f} H{right:.1f}" stroke="#c2452d" stroke-dasharray="4 4"/>',
        f'<text x="{right:.1f}" y="{bound - 6:.1f}" text-anchor="end">allowed: {found.max_drop:g}</text>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 14}" text-anchor="middle">time of a run (to {show_us(most_us)})</text>',
        f'<text x="14" y="{MARGIN - 20}">drop of {escape(found.metric)} (to {most_drop:.3g})</text>',
    ]
    for point in found.front:
        x, y = place(point.us, point.drop)
        kind = "chosen" if point.chosen else "kept" if point.drop <= found.max_drop else "too lossy"
        radius = 7 if kind == "chosen" else 4
        title = escape(_title(point, kind))
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{COLOURS[kind]}"><title>{title}</title></circle>'
        )
    return "\n".join([*parts, "</svg>\n"])


def _title(point: FrontPoint, kind: str) -> str:
    layers = f"{point.rounded} layers on grids"
    return f"{show_us(point.us)}, drop {point.drop:.4f}, noise {decibels(point.seen_noise)}, {layers}: {kind}"
