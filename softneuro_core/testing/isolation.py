"""The parent's side of the kit's worker: asks, waits so long, and says how the worker died if it did."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from typing import IO, Any

from softneuro_core.errors import PluginError
from softneuro_core.testing.subject import Finding, Report
from softneuro_core.testing.units import Unit

START_S = 120.0
"""To import a plugin, numba included, and ask every routine for offers."""
FRAMES = 3
"""Of a dead worker's stack: enough to get from ctypes or numpy to the plugin."""


class _Worker:
    """One running process; dead after a crash or a hang."""

    def __init__(self, plugin: str, cases: str | None, wants_list: bool) -> None:
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- closed with the worker
        self.process = subprocess.Popen(
            [sys.executable, "-m", "softneuro_core.testing.isolated"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            encoding="utf-8",
        )
        self.replies: queue.Queue[str] = queue.Queue()
        self.reader = threading.Thread(target=_read, args=(self.process.stdout, self.replies), daemon=True)
        self.reader.start()
        self.send({"sys_path": sys.path, "plugin": plugin, "cases": cases, "list": wants_list})

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin
        with contextlib.suppress(OSError):  # it is dead: the missing reply will say so
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def receive(self, timeout_s: float) -> dict[str, Any]:
        """The reply; raises :class:`TimeoutError`, or :class:`EOFError` if the process died."""
        try:
            line = self.replies.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError from None
        if not line:
            self.process.wait()
            raise EOFError
        reply: dict[str, Any] = json.loads(line)
        return reply

    def last_words(self) -> str:
        """The innermost frames faulthandler printed, or else the last line of stderr."""
        self.errors.seek(0)
        text = self.errors.read().decode(errors="replace").splitlines()
        frames = [line.strip() for line in text if line.strip().startswith("File ")]
        return f", in {' < '.join(frames[:FRAMES])}" if frames else (f": {text[-1]}" if text else "")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream is not None:
                with contextlib.suppress(OSError):  # a pipe whose reader is gone
                    stream.close()


def _read(stream: IO[str], replies: queue.Queue[str]) -> None:
    for line in stream:
        replies.put(line)
    replies.put("")


class Isolation:
    """A plugin checked in a process of its own, started when needed and again after it died.

    ``plugin`` and ``cases`` are ``module`` or ``module:attribute``, found through this process's ``sys.path``.
    """

    def __init__(self, plugin: str, cases: str | None = None) -> None:
        self.plugin, self.cases = plugin, cases
        self._worker: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _close_all, self._worker)

    def units(self) -> list[Unit]:
        """Everything to check; raises :class:`PluginError` if the plugin does not load."""
        self.close()
        reply = self._start(wants_list=True)
        return [Unit(*unit) for unit in reply["units"]]

    def check(self, unit: Unit, timeout_s: float) -> Report:
        """Runs one unit; a crash or a hang of the worker is a finding."""
        if not self._worker:
            self._start(wants_list=False)
        worker = self._worker[0]
        worker.send({"unit": list(unit), "timeout_s": timeout_s})
        where = f"{unit.name} on {unit.case}"
        try:
            reply = worker.receive(timeout_s)
        except TimeoutError:
            finding = Finding("hang", where, f"no answer within {timeout_s:g} s{worker.last_words()}")
        except EOFError:
            finding = Finding("crash", where, _cause_of_death(worker.process.returncode) + worker.last_words())
        else:
            if "error" in reply:
                self.close()
                raise PluginError(f"the kit failed on {unit.id}: {reply['error']}")
            found = tuple(Finding(*row) for row in reply["findings"])
            return Report(reply["offers"], found, reply["max_error"], reply["nmse"], reply["skipped"])
        self.close()
        return Report(0, (finding,))

    def close(self) -> None:
        """Ends the worker, if there is one."""
        _close_all(self._worker)

    def _start(self, wants_list: bool) -> dict[str, Any]:
        worker = _Worker(self.plugin, self.cases, wants_list)
        self._worker.append(worker)
        try:
            reply = worker.receive(START_S)
        except TimeoutError:
            problem = f"importing it and asking for offers took more than {START_S:g} s{worker.last_words()}"
        except EOFError:
            problem = _cause_of_death(worker.process.returncode) + worker.last_words()
        else:
            if "error" not in reply:
                return reply
            problem = reply["error"]
        self.close()
        raise PluginError(f"plugin {self.plugin}: {problem}")


def _close_all(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().close()


def _cause_of_death(code: int) -> str:
    if code >= 0:
        return f"the process ended with code {code:#x}"
    try:
        return f"the process died of {signal.Signals(-code).name}"
    except ValueError:
        return f"the process died of signal {-code}"
