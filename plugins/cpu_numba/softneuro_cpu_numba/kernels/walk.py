"""Walkers over a table of native steps: alone on the calling thread, or shared with a crew of workers.

A row of the table is (kernel address, args address, tasks, fewest tasks taken at once). Two words a step, each on its
own cache line, are shared: ``next`` = generation << 32 | first task not yet taken, ``done`` = generation << 32 | tasks
finished. A step is over when its tasks are done, not when every thread came by: a thread that comes late takes what is
left or, finding another generation, nothing. So a run never waits for a sleeping thread.

The crew's words (see :data:`POST` and behind): a leader opens a walk by setting ``POST`` to an odd number, its
generation, and closes it by adding one. A worker that sees an odd number announces in ``HOLDS`` which walk it is about
to read (a hazard pointer: Michael, IEEE TPDS 2004), looks again, and walks. With nothing open it spins, then yields,
then marks itself ``PARKED`` and leaves for Python to sleep on a lock.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from softneuro_cpu_numba.kernels.base import I64, i64, i64_address, tile
from softneuro_cpu_numba.native import kernel

STEP_BYTES = 128
SPINS = 2000
"""Looks at a word with a pause between them before the thread starts yielding its core (40 to 140 us)."""
YIELDS = 2000
"""Yields of a worker without work before it parks: about 1 ms, so that the next run or the next native stretch of
this one finds it awake. Another number in ``PATIENCE`` holds until the worker parks."""

LINE = 128
"""Bytes between words that different threads write: two cache lines, since x86 fetches them in pairs."""
POST, JOB, YIELD, WORKERS, CALLS, WHERE, PATIENCE, FIRST_WORKER = (i * LINE for i in range(8))
"""Byte offsets in the crew's memory; from ``FIRST_WORKER`` on one line a worker: ``HOLDS``, ``PARKED``, ``SEEN``,
``CORE``. ``YIELD`` and ``WHERE`` are addresses of system functions: leave the core to others, name the core it is."""
HOLDS, PARKED, SEEN, CORE = 0, 8, 16, 24


@intrinsic
def invoke(typing_context: Any, address: Any, args: Any, begin: Any, end: Any, scratch: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        function = ir.FunctionType(ir.VoidType(), [I64] * 4).as_pointer()
        builder.call(builder.inttoptr(values[0], function), values[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), codegen


@intrinsic
def ask_system(typing_context: Any, address: Any) -> Any:
    """Calls the system's ``int function(void)`` at ``address``."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.call(builder.inttoptr(values[0], ir.FunctionType(ir.IntType(32), []).as_pointer()), [])

    return types.int32(types.int64), codegen


def _word(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, I64.as_pointer())


@intrinsic
def atomic_load(typing_context: Any, address: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load_atomic(_word(builder, values[0]), "seq_cst", 8)

    return types.int64(types.int64), codegen


def _exchange(operation: str) -> Any:
    @intrinsic
    def exchange(typing_context: Any, address: Any, amount: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.atomic_rmw(operation, _word(builder, values[0]), values[1], "seq_cst")

        return types.int64(types.int64, types.int64), codegen

    return exchange


atomic_add = _exchange("add")
atomic_swap = _exchange("xchg")
"""Stores and returns what stood there."""


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


@njit
def walk(args: Any, generation: Any, place: Any) -> None:
    """Goes through the steps of the walk at address ``args``, taking some of each one's tasks after the other.

    A thread takes its share of half of what is left (guided self-scheduling: Polychronopoulos and Kuck, IEEE Trans.
    Computers 1987): much while there is much, since neighbouring tasks are done as one, and little at the end, since
    cores of a shared machine are not equally fast from one moment to the next.

    ``args``: steps, table address, state address, yield address, threads, each place's scratch address.
    """
    words = i64(args)
    table, state, rest, threads, scratch = i64(words[1]), words[2], words[3], words[4], words[5 + place]
    for step in range(words[0]):
        row = 4 * step
        address, step_args, tasks, fewest = table[row], table[row + 1], table[row + 2], table[row + 3]
        upcoming = state + step * STEP_BYTES
        done = upcoming + STEP_BYTES // 2
        finished = 0
        i64(scratch)[0] = 0
        while True:
            word = atomic_load(upcoming)
            if word >> 32 != generation:
                return
            first = word & 0xFFFFFFFF
            if first >= tasks:
                break
            last = min(first + max(fewest, (tasks - first) // (2 * threads)), tasks)
            if atomic_swap_if(upcoming, word, (generation << 32) | last):
                invoke(address, step_args, first, last, scratch)
                finished += last - first
        if finished != 0:
            atomic_add(done, finished)
        over, spins = (generation << 32) | tasks, 0
        while True:
            word = atomic_load(done)
            if word == over:
                break
            if word >> 32 != generation:
                return
            pause()
            spins += 1
            if spins > SPINS:
                ask_system(rest)


@njit
def ready(args: Any, generation: Any) -> None:
    """Sets every step of the walk at ``args`` to "no task taken, none done"."""
    words = i64(args)
    for step in range(words[0]):
        upcoming = words[2] + step * STEP_BYTES
        atomic_swap(upcoming + STEP_BYTES // 2, generation << 32)
        atomic_swap(upcoming, generation << 32)


@njit
def core_of(crew: Any) -> Any:
    """Number of the core this thread is on, -1 where the system does not tell."""
    where = atomic_load(crew + WHERE)
    return ask_system(where) if where != 0 else -1


@kernel
def alone():
    """args: steps, table address. Runs every step on the calling thread."""

    def run(args, begin, end, scratch):
        table = i64(args[1])
        for step in range(args[0]):
            row = 4 * step
            i64(scratch)[0] = 0
            invoke(table[row], table[row + 1], 0, table[row + 2], scratch)

    return run


@kernel
def lead():
    """args: the crew's words; ``begin`` is the generation (odd), ``end`` the address of the walk's args.

    Opens the walk and, if every worker is awake and on a core of its own, walks it and closes it. Otherwise sets
    ``CALLS``, and ``PARKED`` of those asleep to 2 (3: on the way), and returns: the caller sees to them and calls
    :func:`go_on`.
    """

    def run(args, begin, end, scratch):
        crew = i64_address(args)
        ready(end, begin)
        atomic_swap(crew + JOB, end)
        atomic_swap(crew + POST, begin)
        here, calls = core_of(crew), 0
        for worker in range(atomic_load(crew + WORKERS)):
            line = crew + FIRST_WORKER + worker * LINE
            crowded = here >= 0 and atomic_load(line + CORE) == here and atomic_load(line + PARKED) == 0
            calls += crowded or atomic_swap_if(line + PARKED, 1, 2)
        atomic_swap(crew + CALLS, calls)
        if calls == 0:
            walk(end, begin, 0)
            atomic_swap(crew + POST, begin + 1)

    return run


@kernel
def go_on():
    """args, ``begin`` and ``end`` as :func:`lead`: walks and closes what it opened."""

    def run(args, begin, end, scratch):
        walk(end, begin, 0)
        atomic_swap(i64_address(args) + POST, begin + 1)

    return run


@kernel
def serve():
    """args: the crew's words; ``begin`` is the worker's place (1, 2, ...). Walks what is opened; returns, ``PARKED``,
    when nothing was for a while."""

    def run(args, begin, end, scratch):
        crew = i64_address(args)
        mine = crew + FIRST_WORKER + (begin - 1) * LINE
        rest = atomic_load(crew + YIELD)
        atomic_swap(mine + PARKED, 0)
        seen, idle = atomic_load(mine + SEEN), 0
        atomic_swap(mine + CORE, core_of(crew))
        while True:
            number = atomic_load(crew + POST)
            if number & 1 and number != seen:
                job = atomic_load(crew + JOB)
                atomic_swap(mine + CORE, core_of(crew))
                atomic_swap(mine + HOLDS, job)
                if atomic_load(crew + POST) == number:  # still open: its memory outlives our mark
                    walk(job, number, begin)
                atomic_swap(mine + HOLDS, 0)
                seen, idle = number, 0
                continue
            idle += 1
            if idle <= SPINS:
                pause()
            elif idle <= SPINS + max(YIELDS, atomic_load(crew + PATIENCE)):
                ask_system(rest)
                atomic_swap(mine + CORE, core_of(crew))
            else:
                atomic_swap(crew + PATIENCE, 0)
                atomic_swap(mine + SEEN, seen)
                atomic_swap(mine + PARKED, 1)
                number = atomic_load(crew + POST)
                if number & 1 and number != seen and atomic_swap_if(mine + PARKED, 1, 0):
                    idle = 0  # opened while we lay down and nobody is about to wake us
                    continue
                return

    return run


@kernel
def work():
    """args: repetitions of a tile of multiply-adds, the work of one task. 16 KiB of scratch."""
    dot = tile(6, 2, 8)

    def run(args, begin, end, scratch):
        for _ in range(begin, end):
            for _ in range(args[0]):
                dot(scratch, 256, 4, scratch + 2048, 64, 64, scratch + 8192)

    return run
