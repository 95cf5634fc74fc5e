"""ViT-Ti/16 (arXiv 2012.12877: 12 layers, width 192, 3 heads) at 224x224, and a 4-layer BERT (width 256, 4 heads, the
BERT-mini of arXiv 1908.08962) on 128 tokens."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from benchmarks.inputs import VOCABULARY
from benchmarks.nets.builder import RESIDUAL_GAIN, Builder


def _heads(b: Builder, x: str, heads: int, order: tuple[int, ...]) -> str:
    _, tokens, width = b.shapes[x]
    return b.transpose(b.reshape(x, (1, tokens, heads, width // heads)), order)


def _attention(b: Builder, x: str, heads: int, mask: str | None = None) -> str:
    _, tokens, width = b.shapes[x]
    q = _heads(b, b.linear(x, width), heads, (0, 2, 1, 3))
    k = _heads(b, b.linear(x, width), heads, (0, 2, 3, 1))
    v = _heads(b, b.linear(x, width), heads, (0, 2, 1, 3))
    scores = b.scaled(b.matmul(q, k), 1 / math.sqrt(width // heads))
    weights = b.same("Softmax", b.same("Add", scores, mask) if mask else scores, axis=-1)
    mixed = b.reshape(b.transpose(b.matmul(weights, v), (0, 2, 1, 3)), (1, tokens, width))
    return b.linear(mixed, width, RESIDUAL_GAIN)


def _mlp(b: Builder, x: str, hidden: int) -> str:
    return b.linear(b.act(b.linear(x, hidden), "gelu"), b.shapes[x][-1], 2 * RESIDUAL_GAIN)


def _slice(b: Builder, x: str, axis: int, count: int) -> str:
    """The first ``count`` along an axis."""
    limits = [b.constant(np.array([v], np.int64)) for v in (0, count, axis)]
    shape = [count if i == axis else size for i, size in enumerate(b.shapes[x])]
    return b.node("Slice", [x, *limits], shape)


def vit_tiny(b: Builder) -> list[str]:
    width, heads, layers = 192, 3, 12
    patches = b.conv(b.input("image", (1, 3, 224, 224)), width, 16, 16, pad=0, act=None)
    x = b.transpose(b.reshape(patches, (1, width, 14 * 14)), (0, 2, 1))
    x = b.concat(b.weights((1, 1, width), 0.5), x, axis=1)
    x = b.same("Add", x, b.weights((1, 14 * 14 + 1, width), 0.2))
    for _ in range(layers):
        x = b.same("Add", x, _attention(b, b.layer_norm(x), heads))
        x = b.same("Add", x, _mlp(b, b.layer_norm(x), 4 * width))
    first = b.reshape(_slice(b, b.layer_norm(x), 1, 1), (1, width))
    return [b.gemm(first, 1000)]


def bert_4(b: Builder) -> list[str]:
    width, heads, layers, tokens = 256, 4, 4, 128
    ids = b.input("input_ids", (1, tokens), TensorProto.INT64)
    mask = b.input("attention_mask", (1, tokens), TensorProto.INT64)
    words = b.node("Gather", [b.weights((VOCABULARY, width), 1.0), ids], (1, tokens, width), axis=0)
    x = b.layer_norm(b.same("Add", words, b.weights((1, tokens, width), 0.3)))
    kept = b.node("Cast", [b.reshape(mask, (1, 1, 1, tokens))], (1, 1, 1, tokens), to=TensorProto.FLOAT)
    hidden = b.scaled(b.same("Sub", b.constant(np.array(1, np.float32)), kept), -1e4)
    for _ in range(layers):
        x = b.layer_norm(b.same("Add", x, _attention(b, x, heads, hidden)))
        x = b.layer_norm(b.same("Add", x, _mlp(b, x, 4 * width)))
    pooled = b.same("Tanh", b.gemm(b.reshape(_slice(b, x, 1, 1), (1, width)), width))
    return [x, pooled]
