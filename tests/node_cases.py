"""The node cases that come with onnx: collecting them quietly, comparing results, the list of exceptions."""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx

EXCEPTIONS = Path(__file__).with_name("node_exceptions.toml")


@cache
def node_cases() -> list[Any]:
    """Every node case of the installed onnx (about 10 s: it makes the data)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases provoke overflows and divisions by zero on purpose
        from onnx.backend.test.case.node import collect_testcases

        return list(collect_testcases())


def exceptions(section: str) -> dict[str, str]:
    """Case -> reason of one section of the file."""
    return dict(tomllib.loads(EXCEPTIONS.read_text(encoding="utf-8")).get(section, {}))


def arrays(values: Sequence[Any]) -> list[Any]:
    """Inputs or outputs of a case; some cases hold TensorProtos in place of arrays."""
    return [onnx.numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else v for v in values]


def assert_similar(found: Sequence[Any], wanted: Sequence[Any], rtol: float, atol: float) -> None:
    """Same structure, shapes and types, numbers within the case's tolerance (bfloat16: two steps at least)."""
    assert len(found) == len(wanted), f"{len(found)} results, wanted {len(wanted)}"
    for a, b in zip(found, wanted, strict=True):
        if isinstance(b, list | tuple):
            assert isinstance(a, list | tuple), f"a {type(a).__name__}, wanted a sequence"
            assert_similar(a, b, rtol, atol)
            continue
        assert isinstance(a, np.ndarray), f"a {type(a).__name__}, wanted an array"
        assert a.shape == np.shape(b), f"shape {a.shape}, wanted {np.shape(b)}"
        if b.dtype.kind in "OU":
            np.testing.assert_array_equal(a, b)
            continue
        assert a.dtype == b.dtype, f"dtype {a.dtype}, wanted {b.dtype}"
        if a.dtype.kind not in "biufc":  # ml_dtypes
            np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), max(rtol, 2**-6), atol)
        else:
            np.testing.assert_allclose(a, b, rtol, atol)
