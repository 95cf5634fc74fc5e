"""Walkers over a table of native steps: one for a single thread, one that any number of threads share.

A row of the table is (kernel address, args address, tasks, chunk). Shared state is two words a step, each on its own
cache line: ``next`` = generation << 32 | first task not yet taken, and ``done`` = tasks finished in all generations.
A step is over when its tasks are done, not when every thread came by: a thread that wakes late takes what is
left or, finding another generation, nothing. So a run never waits for a sleeping thread.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from softneuro_cpu_numba.kernels.base import I64, i64
from softneuro_cpu_numba.native import kernel

STEP_BYTES = 128
SPINS = 2000


@intrinsic
def invoke(typing_context: Any, address: Any, args: Any, begin: Any, end: Any, scratch: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        function = ir.FunctionType(ir.VoidType(), [I64] * 4).as_pointer()
        builder.call(builder.inttoptr(values[0], function), values[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), codegen


@intrinsic
def yield_to_others(typing_context: Any, address: Any) -> Any:
    """Calls the system's yield function at ``address``."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.call(builder.inttoptr(values[0], ir.FunctionType(ir.IntType(32), []).as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


def _word(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, I64.as_pointer())


@intrinsic
def atomic_load(typing_context: Any, address: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load_atomic(_word(builder, values[0]), "acquire", 8)

    return types.int64(types.int64), codegen


@intrinsic
def atomic_add(typing_context: Any, address: Any, amount: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.atomic_rmw("add", _word(builder, values[0]), values[1], "seq_cst")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def atomic_swap_if(typing_context: Any, address: Any, expected: Any, new: Any) -> Any:
    """True if the word was ``expected`` and is now ``new``."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pair = builder.cmpxchg(_word(builder, values[0]), values[1], values[2], "seq_cst", "seq_cst")
        return builder.extract_value(pair, 1)

    return types.boolean(types.int64, types.int64, types.int64), codegen


@intrinsic
def pause(typing_context: Any) -> Any:
    """Tells an x86 core that this is a spin loop; nothing elsewhere."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        if builder.module.triple.startswith(("x86", "i686", "amd64")):
            void = ir.FunctionType(ir.VoidType(), [])
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", fnty=void), [])
        return context.get_dummy_value()

    return types.void(), codegen


@kernel
def alone():
    """args: steps, table address. Runs every step on the calling thread."""

    def run(args, begin, end, scratch):
        table = i64(args[1])
        for step in range(args[0]):
            row = 4 * step
            invoke(table[row], table[row + 1], 0, table[row + 2], scratch)

    return run


@kernel
def shared():
    """args: steps, table address, state address, yield address. ``begin`` is the generation (1, 2, ...)."""

    def run(args, begin, end, scratch):
        table, state, rest = i64(args[1]), args[2], args[3]
        for step in range(args[0]):
            row = 4 * step
            address, step_args, tasks, chunk = table[row], table[row + 1], table[row + 2], table[row + 3]
            upcoming = state + step * STEP_BYTES
            done = upcoming + STEP_BYTES // 2
            while True:
                word = atomic_load(upcoming)
                if word >> 32 != begin:
                    return
                first = word & 0xFFFFFFFF
                if first >= tasks:
                    break
                last = min(first + chunk, tasks)
                if atomic_swap_if(upcoming, word, (begin << 32) | last):
                    invoke(address, step_args, first, last, scratch)
                    atomic_add(done, last - first)
            spins = 0
            while atomic_load(done) < begin * tasks:
                pause()
                spins += 1
                if spins > SPINS:
                    yield_to_others(rest)

    return run


@kernel
def open_generation():
    """args as ``shared``. Readies every step for generation ``begin``; call it before any thread is woken."""

    def run(args, begin, end, scratch):
        state = args[2]
        for step in range(args[0]):
            upcoming = state + step * STEP_BYTES
            atomic_swap_if(upcoming, atomic_load(upcoming), begin << 32)

    return run
