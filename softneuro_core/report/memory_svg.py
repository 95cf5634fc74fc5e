"""The memory picture as inline SVG: steps across, addresses down."""

from __future__ import annotations

from html import escape

from softneuro_core.report.memory_picture import ArenaPicture, Block
from softneuro_core.report.plan_svg import PALETTE
from softneuro_core.report.units import show_bytes

WIDTH, HEIGHT, LEFT, BOTTOM = 1080, 340, 74, 22


def memory_svg(picture: ArenaPicture) -> str:
    """One arena; a block is as wide as it lives and as high as it is large."""
    columns, nbytes = len(picture.steps) + 2, max(1, picture.nbytes)
    parts = [f'<svg class="memory" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="memory of {picture.device}">']
    parts.append(f'<rect class="ground" x="{LEFT}" y="0" width="{WIDTH - LEFT}" height="{HEIGHT - BOTTOM}"/>')
    for i in range(5):
        y = (HEIGHT - BOTTOM) * i / 4
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH}"/>')
        parts.append(
            f'<text class="axis" x="{LEFT - 8}" y="{min(max(y + 4, 10), HEIGHT - BOTTOM)}" text-anchor="end">'
            f"{show_bytes(nbytes * i / 4)}</text>"
        )
    parts += [_block(block, i, columns, nbytes, len(picture.steps)) for i, block in enumerate(picture.blocks)]
    parts += [_tick(i, columns, len(picture.steps)) for i in _ticks(len(picture.steps))]
    return "".join([*parts, "</svg>"])


def _ticks(steps: int) -> list[int]:
    every = max(1, -(-steps // 12))
    return [-1, *range(0, steps, every), steps]


def _tick(step: int, columns: int, steps: int) -> str:
    label = "in" if step < 0 else "out" if step >= steps else str(step)
    x = LEFT + (step + 1.5) * (WIDTH - LEFT) / columns
    return f'<text class="axis" x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{label}</text>'


def _block(block: Block, index: int, columns: int, nbytes: int, steps: int) -> str:
    unit_x, unit_y = (WIDTH - LEFT) / columns, (HEIGHT - BOTTOM) / nbytes
    x, y = LEFT + (block.first + 1) * unit_x, block.offset * unit_y
    width, height = (block.last - block.first + 1) * unit_x, max(1.0, block.nbytes * unit_y)
    colour = "var(--scratch)" if block.kind == "scratch" else PALETTE[index % len(PALETTE)]
    until = "output" if block.last >= steps else f"step {block.last}"
    since = "input" if block.first < 0 else f"step {block.first}"
    title = f"{block.name}: {show_bytes(block.nbytes)} at {show_bytes(block.offset)}, {since} to {until}"
    label = ""
    if height >= 15 and width >= 60:
        most = int(width / 6.6) - 1
        name = block.name.partition(" as ")[0]
        text = name if len(name) <= most else "…" + name[-max(1, most - 1) :]  # the end of a path tells more
        label = f'<text class="inside" x="{x + 5:.1f}" y="{y + min(height / 2 + 4, 14):.1f}">{escape(text)}</text>'
    return (
        f'<g><title>{escape(title)}</title><rect class="block" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" style="fill:{colour}"/>{label}</g>'
    )
