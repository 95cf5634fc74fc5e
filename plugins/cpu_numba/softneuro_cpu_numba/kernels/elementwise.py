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
from numba import types
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

from softneuro_cpu_numba.kernels import base
from softneuro_cpu_numba.kernels.base import float_arg, i64, i64_address
from softneuro_cpu_numba.native import kernel

MAX_OUTER = 6


def _scopes(module: Any) -> Any:
    domain = module.add_metadata(["softneuro elementwise"])
    return module.add_metadata([module.add_metadata(["operands", domain])])


@cache
def loader(dtype: str) -> Any:
    """Intrinsic ``(address, index) -> element``; bool comes as uint8, float16 as float32."""
    stored = from_dtype(np.dtype("uint8" if dtype == "bool" else "float32" if dtype == "float16" else dtype))

    @intrinsic
    def load(typing_context: Any, address: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            memory = ir.HalfType() if dtype == "float16" else context.get_data_type(stored)
            at = builder.gep(builder.inttoptr(args[0], memory.as_pointer()), [args[1]])
            value = builder.load(at, align=np.dtype(dtype).itemsize)
            value.set_metadata("alias.scope", _scopes(builder.module))
            return builder.fpext(value, ir.FloatType()) if dtype == "float16" else value

        return stored(types.int64, types.int64), codegen

    return load


@cache
def storer(dtype: str) -> Any:
    """Intrinsic ``(address, index, element)``, the inverse of :func:`loader`."""
    stored = from_dtype(np.dtype("uint8" if dtype == "bool" else "float32" if dtype == "float16" else dtype))

    @intrinsic
    def store(typing_context: Any, address: Any, index: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            memory = ir.HalfType() if dtype == "float16" else context.get_data_type(stored)
            value = builder.fptrunc(args[2], memory) if dtype == "float16" else args[2]
            at = builder.gep(builder.inttoptr(args[0], memory.as_pointer()), [args[1]])
            done = builder.store(value, at, align=np.dtype(dtype).itemsize)
            done.set_metadata("noalias", _scopes(builder.module))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, stored), codegen

    return store


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
        "cast": getattr(np, "uint8" if out == "bool" else "float32" if out == "float16" else out),
        "float_arg": float_arg,
        "i64": i64,
        "i64_address": i64_address,
        **{f"act_{kind}": function for kind, function in base.ACTIVATIONS.items()},
    }
    if wide:
        functions |= {n: getattr(math, n) for n in ("exp", "tanh", "erf", "sqrt", "floor")}
    functions |= {f"load{i}": loader(d) for i, d in enumerate(dtypes)}
    return functions | {"store": storer(out)}


@kernel
def mapped(dtypes, out, statements):
    """args: operand addresses, y | rows inner rows_per_task outer_rank numbers | outer sizes[6] | per operand: inner
    stride, outer strides[6] | float numbers. ``statements`` compute ``r`` from ``a0, a1, ..`` and ``p0, p1, ..``.

    A task is ``rows_per_task`` rows; the output is dense, in row order.
    """
    namespace = _namespace(dtypes, out)
    exec(_source(len(dtypes), statements), namespace)
    return namespace["run"]


def _source(count: int, statements: tuple[str, ...]) -> str:
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
    lines += ["        out = row * inner"]
    for number, pattern in enumerate(_patterns(count)):
        test = " and ".join(f"s{i} == {p}" for i, p in enumerate(pattern) if p is not None)
        lines += [f"        {'if' if number == 0 else 'elif'} {test}:" if test else "        else:"]
        lines += [f"            a{i} = load{i}(x{i}, o{i})" for i in operands if pattern[i] == 0]
        lines += ["            for i in range(inner):"]
        for i in operands:
            where = {1: f"o{i} + i", None: f"o{i} + i * s{i}"}.get(pattern[i])
            lines += [f"                a{i} = load{i}(x{i}, {where})"] if where else []
        lines += [f"                {s}" for s in statements] + ["                store(y, out + i, cast(r))"]
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
