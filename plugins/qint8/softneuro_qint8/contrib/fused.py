"""A product and the activation behind it, which onnxruntime's optimiser joined, taken apart again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from softneuro_core.graph import Value
from softneuro_qint8.contrib.signature import WINDOW, Absent, Signature
from softneuro_qint8.contrib.spelling import Spelling, Writer

PARAMETERS = {
    "Relu": (),
    "Sigmoid": (),
    "Tanh": (),
    "Softplus": (),
    "Softsign": (),
    "LeakyRelu": ("alpha",),
    "Elu": ("alpha",),
    "ThresholdedRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Clip": ("min", "max"),
}
"""Activations that may be fused, with what their parameters are called, in order."""
ADDED = "X:real W:real B:real? Z:real?"


def spellings() -> Iterator[Spelling]:
    fused = {"activation": Absent(str), "activation_params": ()}
    yield Spelling("FusedConv", Signature(ADDED, WINDOW | fused), _conv)
    gemm = {"transA": 0, "transB": 0, "alpha": 1.0, "beta": 1.0, "activation": Absent(str)}
    gemm |= {f"activation_{name}": Absent(float) for name in ("alpha", "beta", "gamma")}
    yield Spelling("FusedGemm", Signature("A:real B:real C:real?", gemm), _gemm)
    turned: dict[str, Any] = {"transA": 0, "transB": 0, "alpha": 1.0}
    batches = {"transBatchA": 0, "transBatchB": 0}
    yield Spelling("FusedMatMul", Signature("A:real B:real", turned | batches), _matmul)
    yield Spelling("TransposeMatMul", Signature("A:real B:real", turned), _matmul)


def _conv(w: Writer) -> Sequence[Value]:
    sums = w.add("Conv", w["X"], w["W"], w.get("B"), **w.given(*FUSED))
    if (added := w.get("Z")) is not None:
        sums = w.add("Add", sums, added)
    return [_activated(w, sums, w.attrs["activation_params"])]


def _gemm(w: Writer) -> Sequence[Value]:
    sums = w.add("Gemm", w["A"], w["B"], w.get("C"), **w.given(*FUSED))
    given = [w.attrs[f"activation_{name}"] for name in ("alpha", "beta", "gamma")]
    return [_activated(w, sums, [v for v in given if v is not None])]


FUSED = ("activation", "activation_params", "activation_alpha", "activation_beta", "activation_gamma")


def _activated(w: Writer, sums: Value, numbers: Sequence[float]) -> Value:
    type = w.attrs["activation"]
    if not type:
        return sums
    if type not in PARAMETERS:
        w.unsupported(f"the activation {type!r}", "one of " + ", ".join(PARAMETERS) + "; or export without this fusion")
    names = PARAMETERS[type]
    if numbers and len(numbers) != len(names):
        w.refuse(f"{type} has {len(names)} parameters, not {len(numbers)}")
    if type == "Clip":
        dtype = w["X" if "X" in w else "A"].dtype
        return w.add("Clip", sums, *(w.constant(np.array(n, dtype.numpy), dtype) for n in numbers))
    return w.add(type, sums, **dict(zip(names, numbers, strict=bool(numbers))))


def _matmul(w: Writer) -> Sequence[Value]:
    """alpha * A' B'; what is turned is a matter of strides to most routines."""
    product = w.add("MatMul", *(_turned(w, side) for side in "AB"))
    alpha, dtype = w.attrs["alpha"], w["A"].dtype
    return [product if alpha == 1 else w.add("Mul", product, w.constant(np.array(alpha, dtype.numpy), dtype))]


def _turned(w: Writer, side: str) -> Value:
    """A factor with its batches moved (the first axis behind the others but one), then as a matrix transposed."""
    value = w[side]
    rank = w.rank(value)
    order = list(range(rank))
    if w.attrs.get(f"transBatch{side}") and rank > 2:
        order = [*order[1:-1], 0, order[-1]]
    if w.attrs[f"trans{side}"] and rank > 1:
        order[-2:] = order[:-3:-1]
    return value if order == sorted(order) else w.transposed(value, order)
