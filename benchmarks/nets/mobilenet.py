"""MobileNetV2 (arXiv 1801.04381), MobileNetV3-Large (arXiv 1905.02244), EfficientNet-B0 (arXiv 1905.11946), 224x224.

All three are inverted residuals: expand by 1x1, depthwise, perhaps squeeze and excite, project by 1x1.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.nets.builder import RESIDUAL_GAIN, Builder


@dataclass(frozen=True, slots=True)
class Block:
    """One inverted residual; ``squeeze`` is the width of its squeeze-and-excite, 0 for none."""

    kernel: int
    expanded: int
    out: int
    stride: int
    act: str
    squeeze: int = 0


def _block(b: Builder, x: str, block: Block, inner: str, gate: str) -> str:
    channels = b.channels(x)
    y = b.conv(x, block.expanded, 1, act=block.act) if block.expanded != channels else x
    y = b.depthwise(y, block.kernel, block.stride, block.act)
    if block.squeeze:
        y = b.squeeze_excite(y, block.squeeze, inner, gate)
    adds = block.stride == 1 and channels == block.out
    y = b.conv(y, block.out, 1, act=None, gain=RESIDUAL_GAIN if adds else None)
    return b.same("Add", x, y) if adds else y


V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet_v2(b: Builder) -> list[str]:
    x = b.conv(b.input("image", (1, 3, 224, 224)), 32, 3, 2, act="relu6")
    for factor, out, count, stride in V2:
        for number in range(count):
            expanded = b.channels(x) * factor
            x = _block(b, x, Block(3, expanded, out, 1 if number else stride, "relu6"), "relu", "sigmoid")
    return [b.gemm(b.flat(b.global_pool(b.conv(x, 1280, 1, act="relu6"))), 1000)]


V3 = (
    Block(3, 16, 16, 1, "relu"), Block(3, 64, 24, 2, "relu"), Block(3, 72, 24, 1, "relu"),
    Block(5, 72, 40, 2, "relu", 24), Block(5, 120, 40, 1, "relu", 32), Block(5, 120, 40, 1, "relu", 32),
    Block(3, 240, 80, 2, "hardswish"), Block(3, 200, 80, 1, "hardswish"), Block(3, 184, 80, 1, "hardswish"),
    Block(3, 184, 80, 1, "hardswish"), Block(3, 480, 112, 1, "hardswish", 120), Block(3, 672, 112, 1, "hardswish", 168),
    Block(5, 672, 160, 2, "hardswish", 168), Block(5, 960, 160, 1, "hardswish", 240),
    Block(5, 960, 160, 1, "hardswish", 240),
)  # fmt: skip


def mobilenet_v3_large(b: Builder) -> list[str]:
    x = b.conv(b.input("image", (1, 3, 224, 224)), 16, 3, 2, act="hardswish")
    for block in V3:
        x = _block(b, x, block, "relu", "hardsigmoid")
    x = b.flat(b.global_pool(b.conv(x, 960, 1, act="hardswish")))
    return [b.gemm(b.gemm(x, 1280, "hardswish"), 1000)]


B0 = ((3, 1, 16, 1, 1), (3, 6, 24, 2, 2), (5, 6, 40, 2, 2), (3, 6, 80, 3, 2), (5, 6, 112, 3, 1), (5, 6, 192, 4, 2),
      (3, 6, 320, 1, 1))  # fmt: skip


def efficientnet_b0(b: Builder) -> list[str]:
    x = b.conv(b.input("image", (1, 3, 224, 224)), 32, 3, 2, act="silu")
    for kernel, factor, out, count, stride in B0:
        for number in range(count):
            channels = b.channels(x)
            block = Block(kernel, channels * factor, out, 1 if number else stride, "silu", channels // 4)
            x = _block(b, x, block, "silu", "sigmoid")
    return [b.gemm(b.flat(b.global_pool(b.conv(x, 1280, 1, act="silu"))), 1000)]
