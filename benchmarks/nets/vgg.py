"""VGG16 (arXiv 1409.1556, configuration D) at 224x224, and CSRNet (arXiv 1802.10062, back end B) at 1024x1024."""

from __future__ import annotations

from benchmarks.nets.builder import Builder

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
DILATED = (512, 512, 512, 256, 128, 64)


def _stage(b: Builder, x: str, filters: int, count: int) -> str:
    for _ in range(count):
        x = b.conv(x, filters)
    return x


def vgg16(b: Builder) -> list[str]:
    x = b.input("image", (1, 3, 224, 224))
    for filters, count in STAGES:
        x = b.max_pool(_stage(b, x, filters, count), 2, 2)
    x = b.gemm(b.gemm(b.flat(x), 4096, "relu"), 4096, "relu")
    return [b.gemm(x, 1000)]


def csrnet(b: Builder) -> list[str]:
    x = b.input("image", (1, 3, 1024, 1024))
    for number, (filters, count) in enumerate(STAGES[:4]):
        x = _stage(b, b.max_pool(x, 2, 2) if number else x, filters, count)
    for filters in DILATED:
        x = b.conv(x, filters, dilation=2)
    return [b.conv(x, 1, 1, act=None)]
