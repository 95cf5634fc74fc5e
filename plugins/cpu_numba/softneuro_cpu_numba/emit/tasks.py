"""Tasks of a product, rows by columns, and neighbours among them done as one: what a thread takes at once it computes
at once."""

from __future__ import annotations

from collections.abc import Callable

from softneuro_cpu_numba.emit.emitter import Emitter, Index, Value
from softneuro_cpu_numba.tiles import HEAD_BYTES


def neighbours(
    e: Emitter, row_tasks: Index, panel_tasks: Index, most: Index, body: Callable[[Value, Value, Value], None]
) -> None:
    """``body(number, rows, panels)`` for the tasks the kernel is called for, several neighbours at a time.

    Tasks are numbered [...][row task][panel task]. Where all panels are one task, up to ``most`` row tasks are done
    together (``rows`` of them from ``number`` on); elsewhere panel tasks of the same rows (``panels``).
    """
    by_rows = e.b.icmp_signed("==", e.i(panel_tasks), e.i(1))
    inner, most = (e.b.select(by_rows, e.i(x), e.i(y)) for x, y in ((row_tasks, panel_tasks), (most, panel_tasks)))

    def stretch(number: Value) -> Value:
        _, place = e.divmod(number, inner)
        many = e.smaller(e.smaller(e.sub(e.end, number), most), e.sub(inner, place))
        body(number, e.b.select(by_rows, many, e.i(1)), e.b.select(by_rows, e.i(1), many))
        return many

    e.strides(e.end, stretch, first=e.begin)


def room(e: Emitter) -> Value:
    """The scratch of a kernel that uses :func:`once`, as floats."""
    return e.floats(e.at(e.scratch, HEAD_BYTES))


def once(e: Emitter, number: Value, make: Callable[[], object]) -> None:
    """``make()``, unless what this thread made last in this step was ``number`` as well (>= 0).

    The first word of a thread's scratch is zero when it comes to the step (``softneuro_core.routine.NativeCall``).
    """
    made = e.b.bitcast(e.scratch, e.args.type)
    name = e.add(number, 1)

    def anew() -> tuple[()]:
        make()
        e.b.store(name, made)
        return ()

    e.when(e.b.icmp_signed("!=", e.b.load(made), name), anew, tuple)
