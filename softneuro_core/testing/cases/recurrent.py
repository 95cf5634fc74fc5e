"""LSTM, GRU and RNN: directions, initial states, which outputs are wanted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from softneuro_core.testing.case import Case, Const, Operand, normal, single

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def cell(
    name: str,
    op: str,
    steps: int,
    batch: int,
    width: int,
    hidden: int,
    *,
    bias: bool = True,
    state: bool = False,
    outputs: tuple[str, ...] = ("y",),
    **attrs: Any,
) -> Case:
    """x (steps, batch, width); weights constant."""
    ways, gates = (2 if attrs.get("direction") == "bidirectional" else 1), GATES[op] * hidden
    weights: list[Operand] = [
        Const(0.5 * normal(ways, gates, width, seed=1)),
        Const(0.5 * normal(ways, gates, hidden, seed=2)),
        Const(normal(ways, 2 * gates, seed=3)) if bias else None,
    ]
    states: list[Operand] = [None]
    if state:
        states += [normal(ways, batch, hidden, seed=s) for s in ((4, 5) if op == "LSTM" else (4,))]
    x = normal(steps, batch, width)
    return single(name, op, x, *weights, *states, outputs=outputs, hidden_size=hidden, **attrs)


def cases() -> Iterator[Case]:
    for op in GATES:
        name = op.lower()
        everything = ("y", "h", "c") if op == "LSTM" else ("y", "h")
        yield cell(f"{name}-one-step", op, 1, 1, 5, 8)
        yield cell(f"{name}-h17", op, 4, 1, 7, 17)
        yield cell(f"{name}-batch2", op, 5, 2, 3, 8, outputs=everything)
        yield cell(f"{name}-nobias", op, 3, 1, 8, 7, bias=False)
        yield cell(f"{name}-state", op, 3, 2, 5, 8, state=True, outputs=everything)
        yield cell(f"{name}-last-only", op, 6, 1, 5, 16, outputs=("", "h"))
        yield cell(f"{name}-reverse", op, 4, 1, 5, 7, direction="reverse", outputs=everything)
        both: dict[str, Any] = {"direction": "bidirectional", "outputs": everything}
        yield cell(f"{name}-bidirectional", op, 4, 2, 5, 7, **both)
        yield cell(f"{name}-bidirectional-state", op, 3, 1, 5, 8, state=True, **both)
        yield cell(f"{name}-big", op, 16, 1, 64, 128)
    yield cell("gru-linear-before-reset", "GRU", 4, 2, 5, 8, linear_before_reset=1)
    yield cell("rnn-relu", "RNN", 4, 1, 5, 8, activations=["Relu"])
    peephole = Const(normal(1, 3 * 7, seed=6))
    x, w = normal(3, 1, 5), [Const(normal(1, 28, n, seed=1)) for n in (5, 7)]
    yield single("lstm-peephole", "LSTM", x, *w, None, None, None, None, peephole, hidden_size=7)
    lengths = Const(np.array([2, 4], np.int32))
    weights = [Const(normal(1, 32, n, seed=1)) for n in (5, 8)]
    yield single("lstm-lengths", "LSTM", normal(4, 2, 5), *weights, None, lengths, hidden_size=8)
