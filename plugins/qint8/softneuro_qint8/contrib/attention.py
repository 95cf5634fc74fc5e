"""Attention and QAttention: one projection for Q, K and V, the heads, a mask, Softmax.

Written as exporters write attention, so that routines for it (``cpu/attention``) see what they know: three projections
by slices of the weights, which are cut once when a file is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from itertools import accumulate, pairwise

import numpy as np

from softneuro_core.graph import Value
from softneuro_core.spec import INT64
from softneuro_qint8.contrib.products import summed
from softneuro_qint8.contrib.signature import Absent, Signature
from softneuro_qint8.contrib.spelling import Spelling, Writer

FLOATS = "input:float32 weights:float32 bias:float32? mask_index:int32? past:float32? attention_bias:float32? "
FLOATS += "past_sequence_length:int32?"
BYTES = "input:byte weights:byte bias:float32 input_scale:float32 weight_scale:float32 mask_index:int32? "
BYTES += "input_zero_point:byte? weight_zero_point:byte? past:float32?"
NO_FUSION = "export the model without onnxruntime's attention fusion (FusionOptions.enable_attention = False)"
FILTER = -10000.0
Project = Callable[[Writer, int, int], Value]
"""Input times the columns of the weights from start to stop, plus their bias."""


def spellings() -> Iterator[Spelling]:
    shared = {"num_heads": int, "unidirectional": 0, "scale": Absent(float), "mask_filter_value": FILTER}
    shared |= {"do_rotary": 0, "past_present_share_buffer": 0}
    more = {"qkv_hidden_sizes": (), "rotary_embedding_dim": 0}
    yield Spelling("Attention", Signature(FLOATS, shared | more, outputs=2), lambda w: _attention(w, _floats))
    yield Spelling("QAttention", Signature(BYTES, shared, outputs=2), lambda w: _attention(w, _integers))


def _floats(w: Writer, start: int, stop: int) -> Value:
    made = w.add("MatMul", w["input"], w.sliced(w["weights"], start, stop, axis=1))
    bias = w.get("bias")
    return made if bias is None else w.add("Add", made, w.sliced(bias, start, stop))


def _integers(w: Writer, start: int, stop: int) -> Value:
    weights, zero = w.sliced(w["weights"], start, stop, axis=1), w.get("weight_zero_point")
    scale = w.add("Mul", w.scalar(w["input_scale"]), _columns(w, w["weight_scale"], start, stop))
    x_zero, bias = w.get("input_zero_point"), w.sliced(w["bias"], start, stop)
    zeros = x_zero and w.scalar(x_zero), zero and _columns(w, zero, start, stop)
    return summed(w, w["input"], zeros[0], weights, zeros[1], scale, bias)


def _columns(w: Writer, numbers: Value, start: int, stop: int) -> Value:
    """What belongs to some columns: a piece where there is one number for each."""
    return w.scalar(numbers) if numbers.shape in ((), (1,)) else w.sliced(numbers, start, stop)


def _attention(w: Writer, project: Project) -> Sequence[Value]:
    _refuse_what_is_missing(w)
    sizes = _hidden_sizes(w)
    heads = w.attrs["num_heads"]
    q, k, v = (project(w, *ends) for ends in pairwise(accumulate(sizes, initial=0)))
    q, k, v = (_heads(w, value, heads, size // heads) for value, size in zip((q, k, v), sizes, strict=True))
    scale = w.attrs["scale"] or 1 / np.sqrt(sizes[0] // heads)
    scores = w.add("MatMul", w.transposed(q, (0, 2, 1, 3)), w.transposed(k, (0, 2, 3, 1)))
    scores = w.add("Mul", scores, w.constant(np.float32(scale)))
    if masks := list(_masks(w)):
        scores = w.add("Add", scores, reduce(partial(w.add, "Add"), masks))
    mixed = w.add("MatMul", w.add("Softmax", scores, axis=-1), w.transposed(v, (0, 2, 1, 3)))
    return [w.add("Reshape", w.transposed(mixed, (0, 2, 1, 3)), w.integers((0, 0, sizes[2])))]


def _heads(w: Writer, value: Value, heads: int, depth: int) -> Value:
    return w.add("Reshape", value, w.integers((0, 0, heads, depth)))


def _refuse_what_is_missing(w: Writer) -> None:
    for name in ("past", "past_sequence_length"):
        if w.get(name) is not None:
            w.unsupported(f"input {name}", "export the model without past state")
    if any(v is not None for v in w.layer.outputs[1:]):
        w.unsupported("the output present", "export the model without past state")
    for name in ("do_rotary", "past_present_share_buffer"):
        if w.attrs[name]:
            w.unsupported(f"attribute {name} = {w.attrs[name]}", NO_FUSION)


def _hidden_sizes(w: Writer) -> tuple[int, int, int]:
    """Columns of Q, K and V in the weights."""
    if w.rank(w["input"]) != 3 or w.rank(w["weights"]) != 2:
        w.refuse("input must be (batch, sequence, hidden), weights (hidden, columns of Q, K and V)")
    columns, heads = (w["weights"].shape or ())[1], w.attrs["num_heads"]
    if not isinstance(columns, int):
        w.unsupported("weights of unknown size", "fix the input shapes (--shape)")
    sizes = w.attrs.get("qkv_hidden_sizes") or (columns // 3,) * 3
    if heads < 1 or len(sizes) != 3 or sum(sizes) != columns or sizes[0] != sizes[1] or any(n % heads for n in sizes):
        w.refuse(f"weights of {columns} columns are not Q, K and V of {heads} heads (sizes {list(sizes)})")
    return sizes


def _masks(w: Writer) -> Iterator[Value]:
    """What is added to the scores. What is later has no part at all, not even in a row all of which is masked."""
    mask = w.get("mask_index")
    if mask is not None:
        allowed = _by_index(w, mask) if w.rank(mask) == 1 else _by_element(w, mask)
        yield _where_not(w, allowed, w.attrs["mask_filter_value"])
    if w.attrs["unidirectional"]:
        places = _places(w)
        allowed = w.add("LessOrEqual", places, w.add("Unsqueeze", places, w.integers((1,))))
        yield _where_not(w, allowed, np.finfo(np.float32).min)
    if (bias := w.get("attention_bias")) is not None:
        yield bias


def _where_not(w: Writer, allowed: Value, number: float) -> Value:
    return w.add("Where", allowed, w.constant(np.float32(0)), w.constant(np.float32(number)))


def _places(w: Writer) -> Value:
    """0, 1, 2 ... as many as the sequence is long."""
    return w.add("Range", w.constant(np.int64(0)), w.size(w["input"], 1), w.constant(np.int64(1)))


def _by_index(w: Writer, mask: Value) -> Value:
    """Ends of the sequences (batch,), or ends and then starts (2 * batch,)."""
    (count,), batch = mask.shape or (None,), (w["input"].shape or ())[0]
    if not isinstance(count, int) or not isinstance(batch, int):
        w.unsupported("a mask_index by position whose length is not known", "fix the input shapes (--shape)")
    if count not in (batch, 2 * batch):
        w.unsupported(
            f"a mask_index of {count} positions for a batch of {batch}", f"{batch} or {2 * batch}; {NO_FUSION}"
        )
    places = _places(w)
    ends = w.add("Reshape", w.add("Cast", mask, to=INT64.onnx), w.integers((count // batch, batch, 1, 1, 1)))
    inside = w.add("Less", places, w.add("Gather", ends, w.constant(np.int64(0))))
    if count == batch:
        return inside
    return w.add("And", inside, w.add("GreaterOrEqual", places, w.add("Gather", ends, w.constant(np.int64(1)))))


def _by_element(w: Writer, mask: Value) -> Value:
    """(batch, sequence), or (batch, sequence of queries, sequence); 0 is masked."""
    rank = w.rank(mask)
    if rank not in (2, 3):
        w.unsupported(f"a mask_index of rank {rank}", f"rank 1 to 3; {NO_FUSION}")
    wide = w.add("Unsqueeze", mask, w.integers((1, 2) if rank == 2 else (1,)))
    return w.add("Greater", wide, w.constant(np.int32(0)))
