"""Feeds mutants to load, Session and run; prints one JSON line for each that did not end as it must.

Run as a program in a process of its own, so that a crash of the interpreter is seen from outside:
``python -m tests.robustness.fuzz FILE FIRST COUNT``. A mutant ends well if it computes or raises a SoftneuroError.
"""

from __future__ import annotations

import faulthandler
import json
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import softneuro_core as sn
from softneuro_core.spec import OBJECT
from tests.robustness.mutants import mutant

PATIENCE_S = 60.0
MAX_MEM_BYTES = 1 << 28


def attempt(data: bytes, catalog: sn.Catalog) -> str:
    """``ran``, or the class of the SoftneuroError; anything else passes through."""
    try:
        with sn.Session(data, threads=1, catalog=catalog, max_mem_bytes=MAX_MEM_BYTES) as session:
            session.run({v.name: _zeros(v) for v in session.inputs})
            return "ran"
    except sn.SoftneuroError as error:
        assert str(error).strip(), "an error without a message"
        return type(error).__name__


def _zeros(value: sn.Value) -> Any:
    shape = [d if isinstance(d, int) else 1 for d in value.shape or ()]
    if value.dtype is OBJECT:
        return np.full(shape, "", object)
    if np.prod(shape, dtype=float) * value.dtype.itemsize > MAX_MEM_BYTES:
        raise sn.SoftneuroError("the test would not feed an input this large")
    return np.zeros(shape, value.dtype.numpy)


def main(file: str, first: int, count: int) -> None:
    source, catalog = Path(file).read_bytes(), sn.load_plugins()
    tally: dict[str, int] = {}
    warnings.simplefilter("ignore")
    for seed in range(first, first + count):
        faulthandler.dump_traceback_later(PATIENCE_S, exit=True)
        print(json.dumps({"at": seed}), file=sys.stderr, flush=True)
        begin = time.monotonic()
        try:
            end = attempt(mutant(source, seed), catalog)
        except BaseException:
            end = "FAILED"
            print(json.dumps({"seed": seed, "error": traceback.format_exc(limit=-3)[-800:]}), flush=True)
        tally[end] = tally.get(end, 0) + 1
        if (took := time.monotonic() - begin) > PATIENCE_S / 2:
            print(json.dumps({"seed": seed, "error": f"took {took:.0f} s"}), flush=True)
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps({"done": tally}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
