"""A device tried before it is offered: one kernel built, run and compared, in a process of its own.

Some implementations list devices they cannot compile for (the PoCL wheel on newer CPUs), and a broken driver may end or
hang the process that asks. The answer is kept for as long as device and driver stay the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from softneuro_core.files import write_file
from softneuro_core.knobs import cache_folder

LONGEST_S = 60.0
SOURCE = """
__kernel void doubled(__global const float *x, __global float *y) {
    const int i = get_global_id(0);
    y[i] = 2.0f * x[i];
}
"""
HALF = "#pragma OPENCL EXTENSION cl_khr_fp16 : enable\n__kernel void h(__global half *x) { x[0] = x[0] * x[0]; }"
COUNT = 1000
TRIES, ROW = 50, 10
"""How often the start of a run is timed, and kernels of the longer of two."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``reason`` is empty for a device that works; ``half``: whether it computes in float16; ``segment_us``: what
    starting a run of kernels and waiting for it takes beside the kernels; ``shares``: whether the host's memory is its
    own."""

    reason: str = ""
    half: bool = False
    segment_us: float = 0.0
    shares: bool = False


def verdict_of(platform: int, device: int, identity: str) -> Verdict:
    """What the device of these numbers can do; asked once by this code for each ``identity`` (its name, its
    driver's version)."""
    asked = identity + Path(__file__).read_text(encoding="utf-8")
    name = hashlib.sha256(asked.encode()).hexdigest()[:24]
    file = cache_folder() / "opencl" / f"probe-{name}.json"
    try:
        return Verdict(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        found, is_lasting = _asked(platform, device)
    if is_lasting:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_file(file, json.dumps(asdict(found)).encode())
        except OSError:
            pass  # asked again next time
    return found


def _asked(platform: int, device: int) -> tuple[Verdict, bool]:
    """The other process's answer, and whether it is worth keeping: one that came too late says nothing."""
    path = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-m", __name__, str(platform), str(device)]
    try:
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, timeout=LONGEST_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Verdict(f"a kernel of one line was not built and run within {LONGEST_S:.0f} s"), False
    except OSError as error:
        return Verdict(f"it could not be tried: {error}"), False
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    try:
        return Verdict(**json.loads(lines[-1])), True
    except (IndexError, ValueError, TypeError):
        return Verdict(f"the process that tried it ended with status {done.returncode}"), True


def tried(platform: int, device: int) -> Verdict:
    """In this process: whether the device computes, and what else it can."""
    import pyopencl as cl

    try:
        one = cl.get_platforms()[platform].get_devices()[device]
        context = cl.Context([one])
        queue = cl.CommandQueue(context)
        x = np.arange(COUNT, dtype=np.float32)
        y = np.empty_like(x)
        source = cl.Buffer(context, cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR, hostbuf=x)
        made = cl.Buffer(context, cl.mem_flags.WRITE_ONLY, y.nbytes)
        kernel = cl.Kernel(cl.Program(context, SOURCE).build(), "doubled")
        kernel.set_args(source, made)
        cl.enqueue_nd_range_kernel(queue, kernel, x.shape, None)
        cl.enqueue_copy(queue, y, made)
        segment_us, shares = _segment_us(queue, kernel), _shares(one, queue, kernel)
    except Exception as error:
        return Verdict(_one_line(error))
    if not np.array_equal(y, 2 * x):
        return Verdict("it computes 2 * x wrongly")
    return Verdict("", _builds(context, HALF), segment_us, shares)


def _shares(device: Any, queue: Any, kernel: Any) -> bool:
    """Whether kernels and the host see each other's writes in the host's memory as soon as the queue is finished, with
    nothing mapped. The standard promises it for no buffer; on a CPU there is one memory and one set of caches, and
    Intel's runtime and PoCL use the pointer as it is. Anything but a CPU keeps to copies."""
    import pyopencl as cl

    if not device.type & cl.device_type.CPU:
        return False
    x, y = np.zeros(COUNT, np.float32), np.zeros(COUNT, np.float32)
    flags = cl.mem_flags.READ_WRITE | cl.mem_flags.USE_HOST_PTR
    buffers = [cl.Buffer(queue.context, flags, hostbuf=array) for array in (x, y)]  # the kernel keeps none alive
    kernel.set_args(*buffers)
    for turn in range(1, 4):
        x[:] = np.arange(COUNT) * turn
        cl.enqueue_nd_range_kernel(queue, kernel, x.shape, None)
        queue.finish()
        if not np.array_equal(y, 2 * x):
            return False
    return True


def _segment_us(queue: Any, kernel: Any) -> float:
    """Of a run of one kernel and of a run of ``ROW``, what they have in common."""
    import pyopencl as cl

    def fastest(count: int) -> float:
        best = float("inf")
        for _ in range(TRIES):
            start = time.perf_counter()
            for _ in range(count):
                cl.enqueue_nd_range_kernel(queue, kernel, (1,), None)
            queue.finish()
            best = min(best, time.perf_counter() - start)
        return best * 1e6

    one, row = fastest(1), fastest(ROW)
    return round(max(0.0, one - (row - one) / (ROW - 1)), 2)


def _builds(context: Any, source: str) -> bool:
    import pyopencl as cl

    try:
        cl.Program(context, source).build()
    except cl.Error:
        return False
    return True


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if "error:" in line), lines[0] if lines else type(error).__name__)
    return told[:200]


def main() -> None:
    """``python -m softneuro_opencl.probe PLATFORM DEVICE``: one line of JSON, the last of what is printed."""
    from softneuro_opencl.vendors import register

    register()
    print(json.dumps(asdict(tried(int(sys.argv[1]), int(sys.argv[2])))))


if __name__ == "__main__":
    main()
