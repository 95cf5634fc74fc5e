"""Where OpenCL looks for implementations: makes Intel's CPU runtime visible where pip installed it.

The runtime's own registration names a folder of another packager, and pyopencl's loader looks in one folder only. So a
folder of ours lists what the system has and, beside it, that library. A folder the user chose is left alone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from softneuro_core.files import write_file
from softneuro_core.knobs import cache_folder

SYSTEM = Path("/etc/OpenCL/vendors")
CHOSEN = ("OPENCL_VENDOR_PATH", "OCL_ICD_VENDORS")
"""Set by users, read by the loader."""
LIBRARY = "libintelocl.so"


def register() -> None:
    """Before the first question to OpenCL; does nothing where the user chose a folder or the runtime is absent."""
    library = Path(sys.prefix, "lib", LIBRARY)
    if any(name in os.environ for name in CHOSEN) or not library.exists():
        return
    folder = cache_folder() / "opencl" / "vendors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for known in SYSTEM.glob("*.icd"):
            write_file(folder / known.name, known.read_bytes())
        write_file(folder / "intel-cpu.icd", f"{library}\n".encode())
    except OSError:
        return  # without a place for the folder there is what the system has
    os.environ[CHOSEN[0]] = str(folder)
