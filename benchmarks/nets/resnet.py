"""ResNet50 v1.5 (stride in the 3x3, as torchvision has it), BatchNorm folded."""

from __future__ import annotations

from benchmarks.nets.builder import RESIDUAL_GAIN, Builder

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
EXPANSION = 4


def _bottleneck(b: Builder, x: str, width: int, stride: int) -> str:
    out = width * EXPANSION
    inner = b.conv(b.conv(x, width, 1), width, 3, stride)
    branch = b.conv(inner, out, 1, act=None, gain=RESIDUAL_GAIN)
    short = b.conv(x, out, 1, stride, act=None) if stride > 1 or b.channels(x) != out else x
    return b.act(b.same("Add", branch, short), "relu")


def resnet50(b: Builder) -> list[str]:
    x = b.max_pool(b.conv(b.input("image", (1, 3, 224, 224)), 64, 7, 2), 3, 2, 1)
    for width, count, stride in STAGES:
        for number in range(count):
            x = _bottleneck(b, x, width, 1 if number else stride)
    return [b.gemm(b.flat(b.global_pool(x)), 1000)]
