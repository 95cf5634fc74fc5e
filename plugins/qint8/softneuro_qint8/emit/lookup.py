"""Copies of bytes through tables: what any function of one grid becomes on another, and where the bytes go."""

from __future__ import annotations

from llvmlite import ir
from softneuro_cpu_numba.emit.emitter import I8, I64, Emitter, Value
from softneuro_cpu_numba.native import emitted

OUTER = 7
"""Loops around the innermost one."""
TOGETHER = 8
"""Elements of a plain run a step of its loop takes."""
PERMUTED = 64
"""Bytes looked up at once where bytes of two registers can be permuted (AVX512_VBMI)."""
AXES = tuple(range(OUTER))
WORDS = (
    *("x", "y", "table", "first", "tasks", "per_task", "rows", "inner", "step_x", "step_y"),
    *(f"size{i}" for i in AXES),
    *(f"x{i}" for i in AXES),
    *(f"y{i}" for i in AXES),
)
"""Of a block: source, result and table; its first task and how many there are, rows a task, rows in all, elements of a
row and their steps; sizes of the loops over rows, outermost first, and their steps in source and result."""


@emitted
def lookup(e: Emitter, permutes: bool) -> None:
    """y[...] = table[x[...]] for every block. args: number of blocks, then :data:`WORDS` of each. ``permutes``: plain
    runs by four registers that hold the table, :data:`PERMUTED` bytes at a time."""
    blocks = e.word(0)

    def task(number: Value) -> None:
        def block(i: Value) -> None:
            first = e.add(e.mul(i, len(WORDS)), 1)
            a = {name: e.word(e.add(first, n)) for n, name in enumerate(WORDS)}
            mine = e.sub(number, a["first"])
            begin = e.mul(mine, a["per_task"])
            end = e.smaller(e.add(begin, a["per_task"]), a["rows"])
            inside = e.b.icmp_unsigned("<", mine, a["tasks"])
            begin, end = (e.b.select(inside, limit, e.i(0)) for limit in (begin, end))
            e.loop(end, lambda row: _row(e, a, row, permutes), first=begin)

        e.loop(blocks, block)

    e.loop(e.end, task, first=e.begin)


def _row(e: Emitter, a: dict[str, Value], row: Value, permutes: bool) -> None:
    source, target, rest = e.i(0), e.i(0), row
    for axis in reversed(AXES):
        rest, at = e.divmod(rest, a[f"size{axis}"])
        source = e.add(source, e.mul(at, a[f"x{axis}"]))
        target = e.add(target, e.mul(at, a[f"y{axis}"]))
    x, y, table = (e.b.inttoptr(a[name], I8.as_pointer()) for name in ("x", "y", "table"))
    x, y = e.at(x, source), e.at(y, target)

    def one(at: Value, to: Value) -> None:
        number = e.b.zext(e.b.load(e.at(x, at)), I64)
        e.b.store(e.b.load(e.b.gep(table, [number])), e.at(y, to))

    def together() -> tuple[()]:
        if permutes:
            e.run(a["inner"], _Permuted(e, table, x, y), lambda i: one(i, i), PERMUTED)
            return ()

        def several(i: Value) -> None:
            for n in range(TOGETHER):
                one(e.add(i, n), e.add(i, n))

        e.run(a["inner"], several, lambda i: one(i, i), TOGETHER)
        return ()

    def apart() -> tuple[()]:
        e.loop(a["inner"], lambda i: one(e.mul(i, a["step_x"]), e.mul(i, a["step_y"])))
        return ()

    plain = e.b.and_(e.b.icmp_signed("==", a["step_x"], e.i(1)), e.b.icmp_signed("==", a["step_y"], e.i(1)))
    e.when(plain, together, apart)


class _Permuted:
    """Looks up a vector of bytes: the low seven bits choose among half of the table, twice, the highest bit which."""

    def __init__(self, e: Emitter, table: Value, x: Value, y: Value) -> None:
        self.e, self.x, self.y = e, x, y
        self.quarters = [e.load_integers(table, PERMUTED * i, I8, PERMUTED) for i in range(4)]

    def __call__(self, i: Value) -> None:
        e, quarters = self.e, self.quarters
        seen = e.load_integers(self.x, i, I8, PERMUTED)
        halves = [
            e.intrinsic("llvm.x86.avx512.vpermi2var.qi.512", seen.type, [quarters[n], seen, quarters[n + 1]])
            for n in (0, 2)
        ]
        low = e.b.icmp_signed(">=", seen, ir.Constant(seen.type, [0] * PERMUTED))
        e.store(e.b.select(low, *halves), self.y, i)
