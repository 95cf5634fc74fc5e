"""A small U-Net (arXiv 1505.04597, padded convolutions) of 16 to 128 channels at 240x240: 2.67 GMAC."""

from __future__ import annotations

from benchmarks.nets.builder import Builder

WIDTHS = (16, 32, 64, 128)


def _double(b: Builder, x: str, filters: int) -> str:
    return b.conv(b.conv(x, filters), filters)


def unet_small(b: Builder) -> list[str]:
    x, kept = b.input("image", (1, 3, 240, 240)), []
    for filters in WIDTHS:
        x = _double(b, x, filters)
        kept.append(x)
        x = b.max_pool(x, 2, 2)
    x = _double(b, x, 2 * WIDTHS[-1])
    for filters, before in zip(reversed(WIDTHS), reversed(kept), strict=True):
        x = _double(b, b.concat(before, b.up_conv(x, filters)), filters)
    return [b.act(b.conv(x, 1, 1, act=None), "sigmoid")]
