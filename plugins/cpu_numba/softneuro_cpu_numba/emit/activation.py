"""Activations on a vector, as epilogues apply them: ``f(e, x, p0, p1)`` with both parameters splat.

The polynomials are those of ``kernels.base`` (Cephes expf and tanhf) in the same order of operations; erf is a quotient
of two, half the work of a polynomial in pieces that needs exp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from softneuro_cpu_numba.emit.emitter import I32, Emitter, Value

EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
TANH = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
ERF_UP = (
    *(-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05),
    *(-7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02),
)
ERF_DOWN = (
    *(-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03),
    *(-7.37332916720468e-03, -1.42647390514189e-02),
)
"""erf(x) = x P(x * x) / Q(x * x) up to 4: the rational approximation of Eigen."""
ROUNDING = 12582912.0 + 127.0
"""1.5 * 2**23 and the bias of a float32's exponent: a small n added to it is rounded, and the low bits are those of the
exponent of 2**n."""


def _polynomial(e: Emitter, x: Value, coefficients: Sequence[float]) -> Value:
    total = e.constant(coefficients[0])
    for c in coefficients[1:]:
        total = e.fma(total, x, e.constant(c))
    return total


def _power_of_two(e: Emitter, exponent: Value) -> Value:
    return e.b.bitcast(e.b.shl(e.b.add(exponent, e.whole(127)), e.whole(23)), e.vector_type())


def _negated(e: Emitter, x: Value) -> Value:
    return e.b.fsub(e.constant(-0.0), x)


def _absolute(e: Emitter, x: Value) -> Value:
    return e.intrinsic(f"llvm.fabs.v{e.lanes}f32", x.type, [x])


def exp(e: Emitter, x: Value) -> Value:
    """e**x, 2 ulp, right at 0, overflow and NaN (Cephes expf, scaled in two steps)."""
    z = e.minimum(e.constant(89.0), e.maximum(e.constant(-104.0), x))
    n = e.intrinsic(f"llvm.rint.v{e.lanes}f32", x.type, [e.b.fmul(z, e.constant(1.44269504088896341))])
    r = e.fma(n, e.constant(-0.693359375), z)
    r = e.fma(n, e.constant(2.12194440e-4), r)
    p = _polynomial(e, r, EXP)
    p = e.b.fadd(e.fma(e.b.fmul(p, r), r, r), e.constant(1.0))
    whole = e.b.fptosi(n, e.vector_type(element=I32))
    half = e.b.ashr(whole, e.whole(1))
    return e.b.fmul(e.b.fmul(p, _power_of_two(e, half)), _power_of_two(e, e.b.sub(whole, half)))


def exp_below_zero(e: Emitter, x: Value) -> Value:
    """e**x for x <= 0, 1e-7 relative, 0 below -87.7, NaN for NaN: half the work of :func:`exp`."""
    return _exp_within(e, e.maximum(e.constant(-88.0), x))


def _exp_within(e: Emitter, z: Value) -> Value:
    """e**z for -88 <= z <= 88, 1e-7 relative; 0 below -87.7."""
    shifted = e.fma(z, e.constant(1.44269504088896341), e.constant(ROUNDING))
    n = e.b.fsub(shifted, e.constant(ROUNDING))
    r = e.fma(n, e.constant(-0.693359375), z)
    r = e.fma(n, e.constant(2.12194440e-4), r)
    p = _polynomial(e, r, (*EXP, 1.0, 1.0))
    bits = e.b.shl(e.b.bitcast(shifted, e.vector_type(element=I32)), e.whole(23))
    return e.b.fmul(p, e.b.bitcast(bits, e.vector_type()))


def sigmoid(e: Emitter, x: Value) -> Value:
    """1 / (1 + e**-x), 2e-7 relative down to x = -88 and 6e-39 below."""
    one = e.constant(1.0)
    z = e.minimum(e.constant(88.0), e.maximum(e.constant(-88.0), _negated(e, x)))
    return e.b.fdiv(one, e.b.fadd(one, _exp_within(e, z)))


def tanh(e: Emitter, x: Value) -> Value:
    """tanh, 2e-7 relative (Cephes tanhf)."""
    a, one = _absolute(e, x), e.constant(1.0)
    z = e.b.fmul(x, x)
    small = e.fma(e.b.fmul(_polynomial(e, z, TANH), z), x, x)
    large = e.b.fsub(one, e.b.fdiv(e.constant(2.0), e.b.fadd(exp(e, e.b.fadd(a, a)), one)))
    return e.b.select(e.b.fcmp_ordered("<", a, e.constant(0.625)), small, _with_sign_of(e, large, x))


def _with_sign_of(e: Emitter, magnitude: Value, x: Value) -> Value:
    return e.b.select(e.b.fcmp_ordered("<", x, e.constant(0.0)), _negated(e, magnitude), magnitude)


def erf(e: Emitter, x: Value) -> Value:
    """erf, 4e-7."""
    z = e.minimum(e.constant(4.0), e.maximum(e.constant(-4.0), x))
    s = e.b.fmul(z, z)
    made = e.b.fdiv(e.b.fmul(z, _polynomial(e, s, ERF_UP)), _polynomial(e, s, ERF_DOWN))
    return e.minimum(e.constant(1.0), e.maximum(e.constant(-1.0), made))


def _clip(e: Emitter, x: Value, low: Value, high: Value) -> Value:
    return e.minimum(high, e.maximum(low, x))


def _leaky(e: Emitter, x: Value, alpha: Value, _: Value) -> Value:
    return e.b.select(e.b.fcmp_ordered("<", x, e.constant(0.0)), e.b.fmul(x, alpha), x)


def _hardsigmoid(e: Emitter, x: Value, alpha: Value, beta: Value) -> Value:
    return _clip(e, e.fma(x, alpha, beta), e.constant(0.0), e.constant(1.0))


def _gelu(e: Emitter, x: Value, _p0: Value, _p1: Value) -> Value:
    half = e.b.fmul(e.constant(0.5), x)
    return e.fma(half, erf(e, e.b.fmul(x, e.constant(0.7071067811865476))), half)


def _gelu_tanh(e: Emitter, x: Value, _p0: Value, _p1: Value) -> Value:
    cube = e.b.fmul(e.b.fmul(x, x), x)
    inner = e.b.fmul(e.constant(0.7978845608028654), e.fma(e.constant(0.044715), cube, x))
    return e.b.fmul(e.b.fmul(e.constant(0.5), x), e.b.fadd(e.constant(1.0), tanh(e, inner)))


ACTIVATIONS: dict[str, Callable[[Emitter, Value, Value, Value], Value]] = {
    "none": lambda e, x, _p0, _p1: x,
    "relu": lambda e, x, _p0, _p1: e.maximum(e.constant(0.0), x),
    "clip": _clip,
    "leaky": _leaky,
    "sigmoid": lambda e, x, _p0, _p1: sigmoid(e, x),
    "tanh": lambda e, x, _p0, _p1: tanh(e, x),
    "hardsigmoid": _hardsigmoid,
    "hardswish": lambda e, x, alpha, beta: e.b.fmul(x, _hardsigmoid(e, x, alpha, beta)),
    "swish": lambda e, x, alpha, _p1: e.b.fmul(x, sigmoid(e, e.b.fmul(x, alpha))),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
}
"""The kinds of ``kernels.base.ACTIVATIONS``, and the two that need no parameters."""
