"""SqueezeNet 1.1 (arXiv 1602.07360) at 224x224, as torchvision has it."""

from __future__ import annotations

from benchmarks.nets.builder import Builder

FIRES = ((16, 64, 2), (32, 128, 2), (48, 192, 2), (64, 256, 2))
"""Squeezed, expanded (each of two halves), how many; a pooling before every group but the last."""


def _fire(b: Builder, x: str, squeezed: int, expanded: int) -> str:
    x = b.conv(x, squeezed, 1)
    return b.concat(b.conv(x, expanded, 1), b.conv(x, expanded, 3))


def squeezenet1_1(b: Builder) -> list[str]:
    x = b.conv(b.input("image", (1, 3, 224, 224)), 64, 3, 2, pad=0)
    for number, (squeezed, expanded, count) in enumerate(FIRES):
        if number < 3:
            x = b.max_pool(x, 3, 2, ceil=True)
        for _ in range(count):
            x = _fire(b, x, squeezed, expanded)
    return [b.flat(b.global_pool(b.conv(x, 1000, 1)))]
