"""Elementwise kernels, generated from expressions: any number of operands, broadcast by strides of 0.

The generated loop is one per pattern of inner strides, so that LLVM vectorises the usual ones. Loads and stores
carry scope metadata saying that a store never feeds a later load: true for any exact overlap (in-place) as well,
because element i of the output depends on element i of the operands only.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

from softneuro_core.spec import DTYPES
from softneuro_cpu_numba.emit.emitter import Bfloat
from softneuro_cpu_numba.kernels import base
from softneuro_cpu_numba.kernels.base import float_arg, i64, i64_address
from softneuro_cpu_numba.native import kernel

MAX_OUTER, LANES = 6, 16
NARROW = {"float16": ir.HalfType(), "bfloat16": ir.IntType(16)}
"""Floats that are widened when loaded and rounded when stored, as they lie in memory."""


def _scopes(module: Any) -> Any:
    domain = module.add_metadata(["softneuro elementwise"])
    return module.add_metadata([module.add_metadata(["operands", domain])])


def computed(dtype: str) -> str:
    """The type expressions see elements of ``dtype`` as."""
    return {"bool": "uint8", "float16": "float32", "bfloat16": "float32"}.get(dtype, dtype)


@cache
def loader(dtype: str) -> Any:
    """Intrinsic ``(address, index) -> element``, which is of type :func:`computed`."""
    seen = from_dtype(np.dtype(computed(dtype)))

    @intrinsic
    def load(typing_context: Any, address: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            memory = NARROW.get(dtype) or context.get_data_type(seen)
            at = builder.gep(builder.inttoptr(args[0], memory.as_pointer()), [args[1]])
            value = builder.load(at, align=DTYPES[dtype].itemsize)
            value.set_metadata("alias.scope", _scopes(builder.module))
            return _widened(builder, value, dtype)

        return seen(types.int64, types.int64), codegen

    return load


def _widened(builder: Any, value: Any, dtype: str) -> Any:
    if dtype == "bfloat16":  # fpext of bfloat is vectorised four lanes at a time: sums over an image took twice as long
        bits = builder.shl(builder.zext(value, ir.IntType(32)), ir.IntType(32)(16))
        return builder.bitcast(bits, ir.FloatType())
    return builder.fpext(value, ir.FloatType()) if dtype == "float16" else value


@cache
def storer(dtype: str) -> Any:
    """Intrinsic ``(address, index, element)``, the inverse of :func:`loader`; bfloat16 goes by :func:`narrow_row`."""
    seen = from_dtype(np.dtype(computed(dtype)))

    @intrinsic
    def store(typing_context: Any, address: Any, index: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            memory = NARROW.get(dtype) or context.get_data_type(seen)
            value = builder.fptrunc(args[2], memory) if dtype == "float16" else args[2]
            at = builder.gep(builder.inttoptr(args[0], memory.as_pointer()), [args[1]])
            done = builder.store(value, at, align=DTYPES[dtype].itemsize)
            done.set_metadata("noalias", _scopes(builder.module))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, seen), codegen

    return store


@cache
def _narrower(lanes: int) -> Any:
    """Intrinsic ``(source, target)``: so many float32 at an address, rounded to bfloat16 at another."""

    @intrinsic
    def narrow(typing_context: Any, source: Any, target: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            wide, short = (ir.VectorType(t, lanes).as_pointer() for t in (ir.FloatType(), Bfloat()))
            value = builder.load(builder.inttoptr(args[0], wide), align=4)
            rounded = builder.fptrunc(value, short.pointee)
            builder.store(rounded, builder.inttoptr(args[1], short), align=2)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    return narrow


_narrow_vector, _narrow_one = _narrower(LANES), _narrower(1)


@njit
def narrow_row(source, target, count):
    """``count`` float32 at one address, rounded to bfloat16 at another; the last vector may overlap the one before.

    Rounded one by one in the loop that computes them, LLVM takes four lanes at a time (HardSwish of 100,352 elements:
    41 us, 20 so, 15 in float32).
    """
    if count < LANES:
        for i in range(count):
            _narrow_one(source + 4 * i, target + 2 * i)
        return
    for i in range(0, count - LANES + 1, LANES):
        _narrow_vector(source + 4 * i, target + 2 * i)
    _narrow_vector(source + 4 * (count - LANES), target + 2 * (count - LANES))


def _namespace(dtypes: tuple[str, ...], out: str) -> dict[str, Any]:
    """What expressions may name: float32 functions that vectorise, or the math module's for other types."""
    wide = any(d == "float64" for d in dtypes)
    functions: dict[str, Any] = {
        "exp": base.exp32,
        "sigmoid": base.sigmoid32,
        "tanh": base.tanh32,
        "erf": base.erf32,
        "sqrt": base.sqrt32,
        "floor": base.floor32,
        "rint": base.rint32,
        "f": np.float64 if wide else np.float32,
        "math": math,
        "np": np,
        "cast": getattr(np, computed(out)),
        "float_arg": float_arg,
        "i64": i64,
        "i64_address": i64_address,
        **{f"act_{kind}": function for kind, function in base.ACTIVATIONS.items()},
    }
    if wide:
        functions |= {n: getattr(math, n) for n in ("exp", "tanh", "erf", "sqrt", "floor")}
    functions |= {f"load{i}": loader(d) for i, d in enumerate(dtypes)}
    return functions | {"store": storer("float32" if out == "bfloat16" else out), "narrow_row": narrow_row}


@kernel
def mapped(dtypes, out, statements):
    """args: operand addresses, y | rows inner rows_per_task outer_rank numbers | outer sizes[6] | per operand: inner
    stride, outer strides[6] | float numbers. ``statements`` compute ``r`` from ``a0, a1, ..`` and ``p0, p1, ..``.

    A task is ``rows_per_task`` rows; the output is dense, in row order. scratch: one row of float32 where ``out`` is
    bfloat16.
    """
    namespace = _namespace(dtypes, out)
    exec(_source(len(dtypes), statements, out == "bfloat16"), namespace)
    return namespace["run"]


def _source(count: int, statements: tuple[str, ...], narrow: bool) -> str:
    operands = range(count)
    head = count + 1
    numbers = max([0] + [i + 1 for i in range(9) if any(f"p{i}" in s for s in statements)])
    table = head + 5 + MAX_OUTER
    lines = ["def run(args, begin, end, scratch):"]
    lines += [f"    x{i} = args[{i}]" for i in operands] + [f"    y = args[{count}]"]
    lines += [f"    rows, inner, block, rank = args[{head}], args[{head + 1}], args[{head + 2}], args[{head + 3}]"]
    lines += [f"    s{i} = args[{table + i * (1 + MAX_OUTER)}]" for i in operands]
    lines += [f"    p{i} = float_arg(args[{table + count * (1 + MAX_OUTER) + i}])" for i in range(numbers)]
    lines += ["    for row in range(begin * block, min(rows, end * block)):", "        rest = row"]
    lines += [f"        o{i} = 0" for i in operands]
    lines += ["        for d in range(rank - 1, -1, -1):", f"            size = args[{head + 5} + d]"]
    lines += ["            at = rest % size", "            rest = rest // size"]
    lines += [f"            o{i} += at * args[{table + i * (1 + MAX_OUTER) + 1} + d]" for i in operands]
    lines += ["        line, out = scratch, 0"] if narrow else ["        line, out = y, row * inner"]
    for number, pattern in enumerate(_patterns(count)):
        test = " and ".join(f"s{i} == {p}" for i, p in enumerate(pattern) if p is not None)
        lines += [f"        {'if' if number == 0 else 'elif'} {test}:" if test else "        else:"]
        lines += [f"            a{i} = load{i}(x{i}, o{i})" for i in operands if pattern[i] == 0]
        lines += ["            for i in range(inner):"]
        for i in operands:
            where = {1: f"o{i} + i", None: f"o{i} + i * s{i}"}.get(pattern[i])
            lines += [f"                a{i} = load{i}(x{i}, {where})"] if where else []
        lines += [f"                {s}" for s in statements] + ["                store(line, out + i, cast(r))"]
    lines += ["        narrow_row(line, y + 2 * row * inner, inner)"] if narrow else []
    return "\n".join(lines) + "\n"


def _patterns(count: int) -> list[tuple[int | None, ...]]:
    """Inner strides that get a loop of their own, the general one last."""
    if count == 0:
        return [()]
    found: list[tuple[int | None, ...]] = [(1,) * count]
    if count in (2, 3):
        found += [tuple(0 if i == j else 1 for i in range(count)) for j in range(count)]
    if count == 3:
        found += [tuple(1 if i == j else 0 for i in range(count)) for j in range(count)]
    return [*found, (None,) * count]
