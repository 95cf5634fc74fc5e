"""What kernels are written with: typed pointers, vector tiles, vectorisable transcendental functions.

Transcendentals are polynomials because no vector math library can be counted on; their stated accuracy holds
against float64 (see tests/test_kernels.py).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

I64, F32 = ir.IntType(64), ir.FloatType()
STRICT = {"contract"}
FAST_SUM = {"contract", "reassoc", "nsz"}


@cache
def pointer(dtype: str) -> Any:
    """Intrinsic ``address -> typed pointer``; indexing it checks nothing and never wraps."""
    element = from_dtype(np.dtype(dtype))

    @intrinsic
    def at(typing_context: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_data_type(element).as_pointer())

        return types.CPointer(element)(types.int64), codegen

    return at


f32 = pointer("float32")
i64 = pointer("int64")


def _unary(name: str, result: Any, operand: Any, emit: Any) -> Any:
    @intrinsic
    def function(typing_context: Any, x: Any) -> Any:
        return result(operand), lambda context, builder, signature, args: emit(builder, args[0])

    function.__name__ = name
    return function


def _llvm_unary(name: str) -> Any:
    def emit(builder: Any, x: Any) -> Any:
        return builder.call(builder.module.declare_intrinsic(name, [x.type]), [x])

    return emit


rint32 = _unary("rint32", types.float32, types.float32, _llvm_unary("llvm.rint"))
sqrt32 = _unary("sqrt32", types.float32, types.float32, _llvm_unary("llvm.sqrt"))
floor32 = _unary("floor32", types.float32, types.float32, _llvm_unary("llvm.floor"))
int_of = _unary("int_of", types.int32, types.float32, lambda b, x: b.fptosi(x, ir.IntType(32)))
float_of_bits = _unary("float_of_bits", types.float32, types.int32, lambda b, x: b.bitcast(x, F32))
float_arg = _unary("float_arg", types.float32, types.int64, lambda b, x: b.bitcast(b.trunc(x, ir.IntType(32)), F32))


@intrinsic
def i64_address(typing_context: Any, p: Any) -> Any:
    """The address an int64 pointer holds."""
    return types.int64(types.CPointer(types.int64)), lambda c, builder, s, args: builder.ptrtoint(args[0], I64)


@cache
def tile(rows: int, vectors: int, lanes: int) -> Any:
    """Intrinsic ``tile(a, a_row, a_k, b, b_k, k, c)``: C[rows][vectors*lanes] = sum over k of A[r, k] * B[k, :].

    Addresses in bytes, strides in bytes; C is dense and written once. All accumulators are SSA values, so they stay
    in registers (rows*vectors + vectors + 1 of them must exist).
    """
    vector, one = ir.VectorType(F32, lanes), ir.Constant(I64, 1)

    def splat(builder: Any, scalar: Any) -> Any:
        single = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        return builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), zeros)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, a_row, a_k, b, b_k, count, c = args
        fma_type = ir.FunctionType(vector, [vector] * 3)
        fma = builder.module.declare_intrinsic(f"llvm.fmuladd.v{lanes}f32", fnty=fma_type)
        a_rows = [builder.add(a, builder.mul(a_row, ir.Constant(I64, r))) for r in range(rows)]
        before = builder.block
        loop, done = builder.append_basic_block("tile"), builder.append_basic_block("tile_done")
        zero = ir.Constant(vector, [0.0] * lanes)
        builder.cbranch(builder.icmp_signed(">", count, ir.Constant(I64, 0)), loop, done)
        builder.position_at_end(loop)
        index, a_at, b_at = (builder.phi(I64) for _ in range(3))
        sums = [builder.phi(vector) for _ in range(rows * vectors)]
        for phi, start in [(index, ir.Constant(I64, 0)), (a_at, ir.Constant(I64, 0)), (b_at, b)]:
            phi.add_incoming(start, before)
        panel = builder.inttoptr(b_at, vector.as_pointer())
        columns = [builder.load(builder.gep(panel, [ir.Constant(I64, v)]), align=4) for v in range(vectors)]
        new = []
        for r in range(rows):
            x = builder.load(builder.inttoptr(builder.add(a_rows[r], a_at), F32.as_pointer()), align=4)
            x = splat(builder, x)
            new += [builder.call(fma, [x, columns[v], sums[r * vectors + v]]) for v in range(vectors)]
        after = builder.add(index, one)
        index.add_incoming(after, loop)
        a_at.add_incoming(builder.add(a_at, a_k), loop)
        b_at.add_incoming(builder.add(b_at, b_k), loop)
        for phi, value in zip(sums, new, strict=True):
            phi.add_incoming(zero, before)
            phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", after, count), loop, done)
        builder.position_at_end(done)
        totals = [builder.phi(vector) for _ in new]
        for phi, value in zip(totals, new, strict=True):
            phi.add_incoming(zero, before)
            phi.add_incoming(value, loop)
        out = builder.inttoptr(c, vector.as_pointer())
        for i, value in enumerate(totals):
            builder.store(value, builder.gep(out, [ir.Constant(I64, i)]), align=4)
        return context.get_dummy_value()

    @intrinsic
    def run(typing_context: Any, a: Any, a_row: Any, a_k: Any, b: Any, b_k: Any, k: Any, c: Any) -> Any:
        return types.void(*[types.int64] * 7), codegen

    return run


@njit(fastmath=STRICT, inline="always")
def _exp_parts(z):
    """(n, r, p) with e**z = 2**n * e**r, |r| <= ln 2 / 2, and e**r = 1 + r + p r**2 (Cephes expf)."""
    n = rint32(z * np.float32(1.44269504088896341))
    r = z - n * np.float32(0.693359375)
    r = r - n * np.float32(-2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    return n, r, p


@njit(fastmath=STRICT, inline="always")
def exp32(x):
    """e**x, 2 ulp, right at 0, overflow and NaN (Cephes expf, scaled in two steps)."""
    low = np.float32(-104.0) if x < np.float32(-104.0) else x
    z = np.float32(89.0) if low > np.float32(89.0) else low
    n, r, p = _exp_parts(z)
    p = p * r * r + r + np.float32(1.0)
    whole = int_of(n)
    half = whole >> np.int32(1)
    a = float_of_bits(np.int32((half + np.int32(127)) << np.int32(23)))
    b = float_of_bits(np.int32((whole - half + np.int32(127)) << np.int32(23)))
    return p * a * b


@njit(fastmath=STRICT, inline="always")
def sigmoid32(x):
    """1 / (1 + e**-x), 2e-7 relative down to x = -88 and 6e-39 below; half the work of :func:`exp32`."""
    low = np.float32(-88.0) if -x < np.float32(-88.0) else -x
    z = np.float32(88.0) if low > np.float32(88.0) else low
    n, r, p = _exp_parts(z)
    p = (p * r + np.float32(1.0)) * r + np.float32(1.0)
    power = float_of_bits(np.int32((int_of(n) + np.int32(127)) << np.int32(23)))
    return np.float32(1.0) / (np.float32(1.0) + p * power)


@njit(fastmath=STRICT, inline="always")
def tanh32(x):
    """tanh, 2e-7 relative (Cephes tanhf)."""
    a = abs(x)
    z = x * x
    p = np.float32(-5.70498872745e-3)
    p = p * z + np.float32(2.06390887954e-2)
    p = p * z + np.float32(-5.37397155531e-2)
    p = p * z + np.float32(1.33314422036e-1)
    p = p * z + np.float32(-3.33332819422e-1)
    small = p * z * x + x
    large = np.float32(1.0) - np.float32(2.0) / (exp32(a + a) + np.float32(1.0))
    signed = -large if x < np.float32(0.0) else large
    return small if a < np.float32(0.625) else signed


@njit(fastmath=STRICT, inline="always")
def erf32(x):
    """erf, 2e-7 (two minimax polynomials joined at 0.9277)."""
    t = abs(x)
    s = x * x
    r = np.float32(-1.72853470e-5) * t + np.float32(3.83197126e-4)
    u = np.float32(-3.88396438e-3) * t + np.float32(2.42546219e-2)
    r = r * s + u
    r = r * t + np.float32(-1.06777877e-1)
    r = r * t + np.float32(-6.34846687e-1)
    r = r * t + np.float32(-1.28717512e-1)
    r = r * t - t
    large = np.float32(1.0) - exp32(r)
    signed = -large if x < np.float32(0.0) else large
    q = np.float32(-5.96761703e-4)
    q = q * s + np.float32(4.99119423e-3)
    q = q * s + np.float32(-2.67681349e-2)
    q = q * s + np.float32(1.12819925e-1)
    q = q * s + np.float32(-3.76125336e-1)
    q = q * s + np.float32(1.28379166e-1)
    small = q * x + x
    return signed if t > np.float32(0.927734375) else small


@njit(fastmath=STRICT, inline="always")
def _clip(x, low, high):
    y = low if x < low else x
    return high if y > high else y


@njit(fastmath=STRICT, inline="always")
def _leaky(x, alpha, unused):
    return x * alpha if x < np.float32(0.0) else x


@njit(fastmath=STRICT, inline="always")
def _sigmoid(x, unused, unused2):
    return sigmoid32(x)


@njit(fastmath=STRICT, inline="always")
def _tanh(x, unused, unused2):
    return tanh32(x)


@njit(fastmath=STRICT, inline="always")
def _hardsigmoid(x, alpha, beta):
    return _clip(x * alpha + beta, np.float32(0.0), np.float32(1.0))


@njit(fastmath=STRICT, inline="always")
def _hardswish(x, alpha, beta):
    return x * _clip(x * alpha + beta, np.float32(0.0), np.float32(1.0))


@njit(fastmath=STRICT, inline="always")
def _swish(x, alpha, unused):
    return x * sigmoid32(x * alpha)


@njit(fastmath=STRICT, inline="always")
def _gelu(x, unused, unused2):
    return np.float32(0.5) * x * (np.float32(1.0) + erf32(x * np.float32(0.7071067811865476)))


@njit(fastmath=STRICT, inline="always")
def _gelu_tanh(x, unused, unused2):
    inner = np.float32(0.7978845608028654) * (x + np.float32(0.044715) * x * x * x)
    return np.float32(0.5) * x * (np.float32(1.0) + tanh32(inner))


ACTIVATIONS = {
    "clip": _clip,
    "leaky": _leaky,
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "hardsigmoid": _hardsigmoid,
    "hardswish": _hardswish,
    "swish": _swish,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
}
"""What an epilogue may apply, by kind: ``f(x, p0, p1)``. ``clip`` with infinite bounds is the identity."""
