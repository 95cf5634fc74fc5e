"""OpenCL C to kernels: sources from ``kernels/``, built once for a device, binaries kept on disk.

A binary is kept under everything that decides it: device, driver, source, options. One that is cut short, altered or
refused by the driver is built again.
"""

from __future__ import annotations

import hashlib
import threading
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from softneuro_core.files import write_file
from softneuro_core.knobs import cache_folder
from softneuro_opencl.device import OpenCLDevice

FOLDER = Path(__file__).parent / "kernels"
OPTIONS = "-cl-std=CL1.2"
"""No relaxed arithmetic: infinities and NaN are the model's own."""
_BUILDING = threading.RLock()
Defines = Mapping[str, Any]


def kernel(device: OpenCLDevice, file: str, name: str, defines: Defines) -> Any:
    """A kernel object of its own: its arguments are nobody else's."""
    import pyopencl as cl

    with _BUILDING:
        return cl.Kernel(_program(device, file, tuple(sorted(defines.items()))), name)


@cache
def _program(device: OpenCLDevice, file: str, defines: tuple[tuple[str, Any], ...]) -> Any:
    """Lives as long as the process, as compiled CPU kernels do."""
    here = (("PREFETCHES", ""),) if device.prefetches else ()
    head = "".join(f"#define {name} {value}\n" for name, value in (*here, *defines))
    source = head + _text("common.cl") + _text(file)
    key = hashlib.sha256(f"{device.fingerprint()}\n{OPTIONS}\n{source}".encode()).hexdigest()[:32]
    kept = cache_folder() / "opencl" / f"{Path(file).stem}-{key}.bin"
    return _from_binary(device, kept) or _built(device, source, kept)


@cache
def _text(file: str) -> str:
    return (FOLDER / file).read_text(encoding="utf-8")


def _from_binary(device: OpenCLDevice, kept: Path) -> Any:
    import pyopencl as cl

    try:
        digest, _, binary = kept.read_bytes().partition(b"\n")
        if digest != hashlib.sha256(binary).hexdigest().encode():
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cl.Program(device.context, [device.handle], [binary]).build(OPTIONS)
    except (OSError, cl.Error):
        return None


def _built(device: OpenCLDevice, source: str, kept: Path) -> Any:
    import pyopencl as cl

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some compilers report success as a warning
        program = cl.Program(device.context, source).build(OPTIONS, cache_dir=False)
    binary = program.get_info(cl.program_info.BINARIES)[0]
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_file(kept, hashlib.sha256(binary).hexdigest().encode() + b"\n" + binary)
    except OSError:
        pass  # built again next time
    return program
