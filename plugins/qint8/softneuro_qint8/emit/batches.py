"""Tasks of a product of two computed factors: blocks of rows of every matrix of a batch."""

from __future__ import annotations

from collections.abc import Callable

from softneuro_cpu_numba.emit.emitter import I8, Emitter, Value
from softneuro_cpu_numba.emit.tasks import neighbours, once

SHARED = ("m", "n", "k", "a_row", "b_step", "y_row", "a_zero", "b_zero", "row_tasks", "rows_per_task", "most_tasks")
"""What every argument list of such a kernel holds, besides ``a``, ``b``, ``y`` and ``offsets``: int64 [batch, 3], where
the matrices of an entry begin. ``b_step``: elements between what does not lie together in B."""


def entries(
    e: Emitter, a: dict[str, Value], pack: Callable[[Value], None], body: Callable[[Value, Value, Value], None]
) -> None:
    """``body(rows of A, how many, where in Y)`` for the tasks the kernel is called for; ``pack(B)`` once an entry."""
    left, right = (e.b.inttoptr(a[name], I8.as_pointer()) for name in ("a", "b"))
    offsets = e.integers(a["offsets"])

    def tasks(number: Value, many: Value, _: Value) -> None:
        entry, block = e.divmod(number, a["row_tasks"])
        first = e.mul(block, a["rows_per_task"])
        here = e.smaller(e.mul(many, a["rows_per_task"]), e.sub(a["m"], first))
        begins = [e.integer(offsets, e.add(e.mul(entry, 3), n)) for n in range(3)]
        once(e, entry, lambda: pack(e.at(right, begins[1])))
        own = e.at(left, e.add(begins[0], e.mul(first, a["a_row"])))
        body(own, here, e.add(begins[2], e.mul(first, a["y_row"])))

    neighbours(e, a["row_tasks"], 1, a["most_tasks"], tasks)
