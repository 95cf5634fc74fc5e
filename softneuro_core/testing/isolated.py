"""The kit's worker process, ``python -m softneuro_core.testing.isolated``.

A plugin that hangs or crashes takes only this process with it. One JSON line a request on stdin, one a reply on what
was stdout; what plugins print goes to stderr.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from typing import Any, TextIO


def main() -> None:
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    faulthandler.enable()
    first = json.loads(sys.stdin.readline())
    sys.path[:] = first["sys_path"]
    try:
        _serve(first, replies)
    except BaseException as error:  # whatever a stranger's module does on import
        _reply(replies, {"error": f"{type(error).__name__}: {error}"})


def _serve(first: dict[str, Any], replies: TextIO) -> None:
    from softneuro_core.testing.units import Unit, Workbench

    bench = Workbench(first["plugin"], first["cases"])
    _reply(replies, {"units": [list(unit) for unit in bench.units()]} if first["list"] else {"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        faulthandler.dump_traceback_later(0.9 * request["timeout_s"])  # so that a hang tells where
        report = bench.check(Unit(*request["unit"]))
        faulthandler.cancel_dump_traceback_later()
        findings = [[f.check, f.subject, f.detail] for f in report.findings]
        numbers = {"offers": report.offers, "max_error": report.max_error, "nmse": report.nmse}
        _reply(replies, {"findings": findings, "skipped": report.skipped, **numbers})


def _reply(replies: TextIO, message: dict[str, Any]) -> None:
    replies.write(json.dumps(message) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
