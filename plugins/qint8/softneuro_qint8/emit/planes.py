"""The few planes of an NCHW image as integers of a grid, NHWC: the way most images come in."""

from __future__ import annotations

from llvmlite import ir
from softneuro_cpu_numba.emit.emitter import F32, I8, I32, Emitter, Value
from softneuro_cpu_numba.native import emitted

ARGUMENTS = ("x", "y", "pixels", "block", "blocks", "scale", "low", "high", "zero")


@emitted
def planes(e: Emitter, channels: int) -> None:
    """y[image][pixel][channel] = round half to even(x[image][channel][pixel] / scale), bounded, + zero, in 8 bits.

    args: :data:`ARGUMENTS`. A task is ``block`` pixels, at least a vector of them, of an image of ``blocks``, the last
    one all that are left; its last vector is moved back to end with it. ``scale`` and the bounds, which do not count
    the zero point, are floats. At most four channels: a pixel is put together in 32 bits.
    """
    a = dict(zip(ARGUMENTS, e.words(0, len(ARGUMENTS)), strict=True))
    x, y = e.floats(a["x"]), e.b.inttoptr(a["y"], I8.as_pointer())
    scale, low, high = (e.splat(e.b.bitcast(e.b.trunc(a[name], I32), F32)) for name in ("scale", "low", "high"))
    zero = e.splat(e.b.trunc(a["zero"], I32))
    integers, kept = e.vector_type(element=I32), [4 * p + c for p in range(e.lanes) for c in range(channels)]
    order = ir.Constant(e.vector_type(len(kept), I32), kept)

    def byte(values: Value) -> Value:
        steps = e.b.fdiv(values, scale)
        for kind, bound in (("maxnum", low), ("minnum", high)):
            steps = e.intrinsic(f"llvm.{kind}.v{e.lanes}f32", steps.type, [steps, bound])
        rounded = e.intrinsic(f"llvm.lrint.v{e.lanes}i32.v{e.lanes}f32", integers, [steps])
        return e.b.and_(e.b.add(rounded, zero), e.whole(0xFF))

    def task(number: Value) -> None:
        image, place = e.divmod(number, a["blocks"])
        first = e.mul(place, a["block"])
        left = e.sub(a["pixels"], first)
        here = e.b.select(e.less(e.add(place, 1), a["blocks"]), a["block"], left)
        source = e.at(x, e.add(e.mul(image, a["pixels"], channels), first))
        out = e.at(y, e.mul(e.add(e.mul(image, a["pixels"]), first), channels))

        def pixels(at: Value) -> None:
            begin = e.smaller(at, e.sub(here, e.lanes))
            word = e.whole(0)
            for c in range(channels):
                seen = byte(e.load(source, e.add(begin, e.mul(a["pixels"], c))))
                word = e.b.or_(word, e.b.shl(seen, e.whole(8 * c)))
            every = e.b.bitcast(word, e.vector_type(4 * e.lanes, I8))
            e.store(e.b.shuffle_vector(every, every, order), out, e.mul(begin, channels))

        e.loop(here, pixels, step=e.lanes)

    e.loop(e.end, task, first=e.begin)
