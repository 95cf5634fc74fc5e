"""DynamicQuantizeLinear: two passes over the input, on one thread (the first must end before the second begins)."""

from __future__ import annotations

from llvmlite import ir
from softneuro_cpu_numba.emit.emitter import F32, I8, I32, Emitter, Value
from softneuro_cpu_numba.native import emitted

LEVELS = 255.0


@emitted
def quantise(e: Emitter) -> None:
    """args: x, y (uint8), scale (float32), zero point (uint8), elements. ONNX's meaning: scale = (most - least) / 255
    of an interval that includes 0, zero = saturate(round(-least / scale)), y = saturate(round(x / scale) + zero)."""
    x, scale_at = e.floats(e.word(0)), e.floats(e.word(2))
    y, zero_at = (e.b.inttoptr(e.word(i), I8.as_pointer()) for i in (1, 3))
    count = e.word(4)

    def task(_: Value) -> None:
        least, most = _extremes(e, x, count)
        scale = e.b.fdiv(e.b.fsub(most, least), ir.Constant(F32, LEVELS))
        zero = _saturated(e, _rounded(e, e.b.fdiv(e.b.fneg(least), scale)))
        e.b.store(scale, scale_at)
        e.b.store(e.b.trunc(e.b.fptoui(zero, I32), I8), zero_at)

        def one(i: Value) -> None:
            steps = e.b.fadd(_rounded(e, e.b.fdiv(e.b.load(e.at(x, i)), scale)), zero)
            e.b.store(e.b.trunc(e.b.fptoui(_saturated(e, steps), I32), I8), e.at(y, i))

        def vector(i: Value) -> None:
            steps = e.b.fdiv(e.load(x, i), e.splat(scale))
            steps = e.b.fadd(e.intrinsic(f"llvm.rint.v{e.lanes}f32", steps.type, [steps]), e.splat(zero))
            bounded = e.minimum(e.maximum(steps, e.constant(0.0)), e.constant(LEVELS))
            whole = e.b.fptoui(bounded, e.vector_type(element=I32))
            e.store(e.b.trunc(whole, e.vector_type(element=I8)), y, i)

        e.run(count, vector, one)

    e.loop(e.end, task, first=e.begin)


def _extremes(e: Emitter, x: Value, count: Value) -> tuple[Value, Value]:
    """Least and most of the elements and 0."""
    nothing = e.constant(0.0)
    whole = e.b.and_(count, e.i(-e.lanes))

    def vector(i: Value, least: Value, most: Value) -> list[Value]:
        seen = e.load(x, i)
        return [e.minimum(seen, least), e.maximum(seen, most)]

    least, most = e.loop(whole, vector, [nothing, nothing], step=e.lanes)
    lowest, highest = (_across(e, vector, below) for vector, below in ((least, True), (most, False)))

    def one(i: Value, least: Value, most: Value) -> list[Value]:
        seen = e.b.load(e.at(x, i))
        return [_further(e, seen, least, True), _further(e, seen, most, False)]

    lowest, highest = e.loop(count, one, [lowest, highest], first=whole)
    return lowest, highest


def _across(e: Emitter, vector: Value, below: bool) -> Value:
    """Least or most of the lanes."""
    found = e.b.extract_element(vector, ir.Constant(I32, 0))
    for lane in range(1, e.lanes):
        found = _further(e, e.b.extract_element(vector, ir.Constant(I32, lane)), found, below)
    return found


def _further(e: Emitter, x: Value, y: Value, below: bool) -> Value:
    return e.b.select(e.b.fcmp_ordered("<" if below else ">", x, y), x, y)


def _rounded(e: Emitter, x: Value) -> Value:
    return e.intrinsic("llvm.rint.f32", F32, [x])


def _saturated(e: Emitter, x: Value) -> Value:
    """0 to 255; 0 where x is no number, as it is where every element is 0."""
    bounded = _further(e, x, ir.Constant(F32, 0.0), below=False)
    return _further(e, bounded, ir.Constant(F32, LEVELS), below=True)
