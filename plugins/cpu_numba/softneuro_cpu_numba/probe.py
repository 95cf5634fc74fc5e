"""Instructions of few processors, tried once before anything relies on them.

An emulator or a sandbox may not do what the processor's flags say, and a compiler may not know an instruction; both end
the process that tries. So the first time a kernel needs one, a small product is compiled, run and compared in a process
of its own; the answer is kept beside the compiled kernels. A process that was not started or took too long gives no
answer to keep: this process does without those kernels, and the next one tries again.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from softneuro_core.device import Buffer, HostDevice, Target, cpu_model
from softneuro_core.versions import library_versions
from softneuro_cpu_numba.native import NativeKernel, cache_folder, read_stored, sources_of, store

LONGEST_S = 120.0
YES, NO = b"yes", b"no"


def works(check: str, target: Target) -> bool:
    """Whether ``check`` (MODULE:FUNCTION, given a Target) finds right what it computes here.

    The first time of all it takes a second, and warns where the answer is no; then a file is read, once in a process.
    """
    return _works(check, target.isa)


@cache
def _works(check: str, isa: str) -> bool:
    package = check.partition(".")[0]
    known = repr((check, isa, cpu_model(), library_versions(), sources_of(__package__ or ""), sources_of(package)))
    file = cache_folder() / f"probe-{hashlib.sha256(known.encode()).hexdigest()[:24]}"
    answer = read_stored(file)
    if answer is None:
        answer = _tried(check, isa)
        if answer is not None:
            store(file, answer)
    return answer == YES


def _tried(check: str, isa: str) -> bytes | None:
    """What the other process finds; None if it did not come to an end."""
    path = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-m", __name__, check, isa]
    try:
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, timeout=LONGEST_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        answer, failure = None, str(error)
    else:
        if done.returncode == 0:
            return YES
        answer, failure = NO, f"exit status {done.returncode}"
    warnings.warn(
        f"{check} failed on this machine ({failure}): kernels with those instructions are not offered",
        RuntimeWarning,
        stacklevel=4,
    )
    return answer


def outcome(kernel: NativeKernel, inputs: Sequence[np.ndarray], result: np.ndarray) -> np.ndarray:
    """What a kernel makes of ``inputs``; ``result`` has the output's shape and type."""
    device = HostDevice()

    def buffer(array: np.ndarray) -> Buffer:
        return device.buffer(device.alloc(array.nbytes), 0, array.shape, array.dtype)

    sources, made = [buffer(x) for x in inputs], buffer(result)
    for source, x in zip(sources, inputs, strict=True):
        device.upload(source, x)
    kernel.bind(sources, [made], buffer(np.zeros(kernel.scratch, np.uint8))).run()
    return made.array.copy()


def main() -> int:
    """In the other process: status 0 where all is right."""
    check, isa = sys.argv[1:]
    module, _, name = check.partition(":")
    found: Callable[[Target], bool] = getattr(importlib.import_module(module), name)
    return 0 if found(Target(HostDevice(), 1, isa)) else 1


if __name__ == "__main__":
    sys.exit(main())
