"""A YOLO-like detector at 224x224: SiLU, strided convolutions, residual splits, upsample and concat neck,
three scales."""

from __future__ import annotations

from benchmarks.nets.builder import RESIDUAL_GAIN, Builder

WIDTHS = (16, 32, 64, 128)
PER_CELL = 85


def _split(b: Builder, x: str, filters: int, *, adds: bool = True) -> str:
    """Two halves by 1x1, one through a bottleneck, joined by 1x1 (C3 of YOLOv5)."""
    half = filters // 2
    left, right = b.conv(x, half, 1, act="silu"), b.conv(x, half, 1, act="silu")
    inner = b.conv(b.conv(left, half, 1, act="silu"), half, 3, act="silu", gain=RESIDUAL_GAIN if adds else None)
    return b.conv(b.concat(b.same("Add", left, inner) if adds else inner, right), filters, 1, act="silu")


def yolo_tiny(b: Builder) -> list[str]:
    x, kept = b.conv(b.input("image", (1, 3, 224, 224)), WIDTHS[0], 3, 2, act="silu"), []
    for filters in (*WIDTHS[1:], 2 * WIDTHS[-1]):
        x = _split(b, b.conv(x, filters, 3, 2, act="silu"), filters)
        kept.append(x)
    small, middle, large = kept[1:]
    joined = _split(b, b.concat(b.upsample(b.conv(large, 128, 1, act="silu")), middle), 128, adds=False)
    fine = _split(b, b.concat(b.upsample(b.conv(joined, 64, 1, act="silu")), small), 64, adds=False)
    cells = []
    for scale in (fine, joined, large):
        seen = b.conv(scale, b.channels(scale), 3, act="silu")
        found = b.act(b.conv(seen, PER_CELL, 1, act=None, gain=RESIDUAL_GAIN), "sigmoid")
        _, count, height, width = b.shapes[found]
        cells.append(b.transpose(b.reshape(found, (1, count, height * width)), (0, 2, 1)))
    return [b.concat(*cells, axis=1)]
