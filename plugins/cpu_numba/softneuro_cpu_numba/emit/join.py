"""Several independent kernels as one: their tasks in a row."""

from __future__ import annotations

from llvmlite import ir

from softneuro_cpu_numba.emit.emitter import I8, I64, Emitter, Value
from softneuro_cpu_numba.native import emitted

ROW = 4


@emitted
def parts(e: Emitter) -> None:
    """args: how many, then for each: kernel address, args address, first task, the next one's first task.
    scratch: the largest any part needs."""
    kind = ir.FunctionType(ir.VoidType(), [I64.as_pointer(), I64, I64, I8.as_pointer()]).as_pointer()

    def part(number: Value) -> None:
        address, args, first, after = (e.word(e.add(e.mul(number, ROW), 1 + i)) for i in range(ROW))
        begin, end = e.larger(e.begin, first), e.smaller(e.end, after)

        def call() -> tuple[()]:
            function = e.b.inttoptr(address, kind)
            e.b.store(e.i(0), e.b.bitcast(e.scratch, e.args.type))  # no part takes another's notes for its own
            e.b.call(function, [e.integers(args), e.sub(begin, first), e.sub(end, first), e.scratch])
            return ()

        e.when(e.less(begin, end), call, tuple)

    e.loop(e.word(0), part)
