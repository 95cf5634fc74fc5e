"""Gelu in its forms, and LayerNormalization with the sums before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from softneuro_core.graph import Value
from softneuro_core.spec import INT32
from softneuro_qint8.contrib.signature import Absent, Signature
from softneuro_qint8.contrib.spelling import Spelling, Writer

SKIP = "input:real skip:real gamma:real beta:real? bias:real?"
EMBED = "input_ids:index segment_ids:index? word_embedding:real position_embedding:real segment_embedding:real? "
EMBED += "gamma:real beta:real mask:index? position_ids:index?"
EPSILON = {"epsilon": 1e-12}


def spellings() -> Iterator[Spelling]:
    yield Spelling("Gelu", Signature("X:real"), lambda w: [w.add("Gelu", w["X"])])
    yield Spelling("BiasGelu", Signature("A:real B:real"), lambda w: [w.add("Gelu", w.add("Add", w["A"], w["B"]))])
    yield Spelling("FastGelu", Signature("X:real bias:real?"), _fast_gelu)
    yield Spelling("QuickGelu", Signature("X:real", {"alpha": 1.702}), _quick_gelu)
    yield Spelling("SkipLayerNormalization", Signature(SKIP, EPSILON, outputs=4), _skip)
    yield Spelling("EmbedLayerNormalization", Signature(EMBED, EPSILON | {"mask_index_type": Absent(int)}, 3), _embed)


def _fast_gelu(w: Writer) -> Sequence[Value]:
    bias = w.get("bias")
    return [w.add("Gelu", w["X"] if bias is None else w.add("Add", w["X"], bias), approximate="tanh")]


def _quick_gelu(w: Writer) -> Sequence[Value]:
    x = w["X"]
    gate = w.add("Sigmoid", w.add("Mul", x, w.constant(np.array(w.attrs["alpha"], x.dtype.numpy), x.dtype)))
    return [w.add("Mul", x, gate)]


def _skip(w: Writer) -> Sequence[Value | None]:
    if any(v is not None for v in w.layer.outputs[1:3]):
        w.unsupported("mean and inv_std_var as outputs", "they serve training; export the model for inference")
    total = w.add("Add", w["input"], w["skip"])
    if (bias := w.get("bias")) is not None:
        total = w.add("Add", total, bias)
    return [_normalised(w, total), None, None, total]


def _normalised(w: Writer, x: Value) -> Value:
    return w.add("LayerNormalization", x, w["gamma"], w.get("beta"), axis=-1, epsilon=w.attrs["epsilon"])


def _embed(w: Writer) -> Sequence[Value]:
    ids, places = w["input_ids"], w.get("position_ids")
    if (w.get("segment_ids") is None) != (w.get("segment_embedding") is None):
        w.refuse("segment_ids and segment_embedding belong together, one is absent")
    if w.rank(ids) != 2:
        w.refuse(f"input input_ids is of rank {w.rank(ids)}, it must be (batch, sequence)")
    positions = w["position_embedding"]
    if places is None:
        length = w.add("Unsqueeze", w.size(ids, 1), w.integers((0,)))
        positions = w.add("Slice", positions, w.integers((0,)), length, w.integers((0,)))
    else:
        positions = w.add("Gather", positions, places)
    total = w.add("Add", w.add("Gather", w["word_embedding"], ids), positions)
    if (segments := w.get("segment_ids")) is not None:
        total = w.add("Add", total, w.add("Gather", w["segment_embedding"], segments))
    return [_normalised(w, total), _words(w, ids), total]


def _words(w: Writer, ids: Value) -> Value:
    """How many words each row has: the ones of its mask; none without a mask, as onnxruntime has it."""
    mask = w.get("mask")
    seen = w.add("Sub", ids, ids) if mask is None else w.add("Equal", mask, w.constant(np.ones((), mask.dtype.numpy)))
    return w.add("ReduceSum", w.add("Cast", seen, to=INT32.onnx), w.integers((1,)), keepdims=0)
