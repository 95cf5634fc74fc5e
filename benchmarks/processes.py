"""Engines in processes of their own: starting them, asking them, freezing them while others have their turn.

Must not know what is measured with them.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS",
                    "NM_NUM_THREADS", "CL_CONFIG_CPU_TBB_NUM_WORKERS")  # fmt: skip
OWN_VENVS = {
    "deepsparse": ("--only-binary", ":all:", "deepsparse"),
    "litert": ("torch==2.13.0", "litert-torch==0.10.0", "onnx"),
    "openvino-int8": ("--only-binary", ":all:", "openvino", "nncf"),
    "ncnn": ("--no-deps", "numpy", "onnx", "ml-dtypes", "protobuf", "typing-extensions", "ncnn", "pnnx"),
}
"""Engines that cannot share .venv (deepsparse pins numpy < 2, LiteRT's converter brings torch, pnnx downgrades
protobuf, NNCF brings scikit-learn): what pip installs for each."""
LODGERS = {
    "litert-int8": "litert",
    "openvino-int8-bf16": "openvino-int8",
    **dict.fromkeys(("torch", "torch-graphs", "torch-half", "torch-half-graphs"), "litert"),
}
"""Engine -> the one whose venv it shares; torch runs in ours where that has it."""


class EngineError(Exception):
    """An engine that is missing, failed, died or took too long; the message is the reason to print."""


def _host(name: str) -> str:
    """The engine whose venv this one runs in."""
    if name.startswith("torch") and find_spec("torch") is not None:
        return name
    return LODGERS.get(name, name)


def own_venv(name: str) -> Path:
    return ROOT / f".venv-{_host(name)}"


def has_own_venv(name: str) -> bool:
    return _host(name) in OWN_VENVS


def python_of(name: str) -> Path:
    """The interpreter an engine runs in; raises EngineError where its venv is missing."""
    if not has_own_venv(name):
        return Path(sys.executable)
    binaries = own_venv(name) / ("Scripts" if os.name == "nt" else "bin")
    found = next(binaries.glob("python*"), None)
    if found is None:
        raise EngineError(f"no {own_venv(name).name} (make bench makes it)")
    return binaries / "python"


class Process:
    """One engine's process. Every request is answered, or raises EngineError and ends the process."""

    def __init__(self, name: str, threads: int, log: Path, command: list[str] | None = None, **more: str) -> None:
        self.name = name
        command = command or [str(python_of(name)), str(ROOT / "benchmarks" / "worker.py"), name]
        environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads)) | more
        self._log = log
        with open(log, "wb") as errors:
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE,
                                             stdout=subprocess.PIPE, stderr=errors, bufsize=0)  # fmt: skip

    def ask(self, timeout_s: float, **request: Any) -> dict[str, Any]:
        """The answer to one request."""
        self._wake()
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
        except OSError:
            raise EngineError(self._last_words()) from None
        answer: dict[str, Any] = json.loads(self._line(timeout_s))
        if "failed" in answer:
            raise EngineError(answer["failed"])
        return answer

    def _line(self, timeout_s: float) -> bytes:
        stdout = self._process.stdout
        assert stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            if os.name == "posix" and not select.select([stdout], [], [], timeout_s)[0]:
                self.close()
                raise EngineError(f"no answer within {timeout_s:.0f} s")
            piece = stdout.read(1 << 16)
            if not piece:
                raise EngineError(self._last_words())
            line += piece
        return line

    def _last_words(self) -> str:
        code = self._process.wait()
        words = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"its process ended ({code}): {words[-1] if words else 'no words'}"

    def freeze(self) -> None:
        """Stops all its threads until the next request, so that none spins during another engine's turn."""
        if hasattr(signal, "SIGSTOP") and self._process.poll() is None:
            self._process.send_signal(signal.SIGSTOP)

    def keep_to(self, cores: Collection[int]) -> None:
        """All its threads run on these cores from now on, where the system can do that."""
        if hasattr(os, "sched_setaffinity"):
            for thread in Path(f"/proc/{self._process.pid}/task").glob("*"):
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread.name), cores)

    def _wake(self) -> None:
        if hasattr(signal, "SIGCONT") and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def make_venv(name: str) -> None:
    """The engine's own venv, unless it is there; raises EngineError where pip cannot fill it."""
    folder = own_venv(name)
    if folder.exists():
        return
    steps = ([sys.executable, "-m", "venv", str(folder)],
             [str(folder / "bin" / "python"), "-m", "pip", "--quiet", "install", *OWN_VENVS[_host(name)]])  # fmt: skip
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            words = done.stderr.strip().splitlines() or ["no words"]
            raise EngineError(f"could not make {folder.name}: {words[-1]}")
