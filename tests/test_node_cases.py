"""ONNX's own node cases through load and Session, with the core's reference routines alone."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from node_cases import arrays, assert_similar, exceptions, node_cases

from softneuro_core.catalog import Catalog, load_plugins
from softneuro_core.onnx_backend import SoftneuroBackend

CHUNKS = 12
"""Tests the cases are spread over: each process collects them once, whichever tests it gets."""


@pytest.fixture(scope="module")
def core_only() -> Catalog:
    return load_plugins(only=())


def failure(case: Any, catalog: Catalog) -> str | None:
    """Why a case fails, in one line; None if it passes."""
    try:
        prepared = SoftneuroBackend.prepare(case.model, catalog=catalog, threads=1)
        for inputs, outputs in case.data_sets:
            assert_similar(prepared.run(arrays(inputs)), arrays(outputs), case.rtol, case.atol)
    except Exception as error:
        return f"{case.name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return None


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_node_cases_pass_on_the_reference(chunk: int, core_only: Catalog) -> None:
    excepted = exceptions("reference")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="onnx")
        found = {case.name: failure(case, core_only) for case in node_cases()[chunk::CHUNKS]}
    assert len(found) > 100
    wrong = [why for name, why in found.items() if why is not None and name not in excepted]
    assert not wrong, "\n".join(wrong)
    stale = [name for name, why in found.items() if why is None and name in excepted and "random" not in excepted[name]]
    assert not stale, f"listed as exceptions, but they pass: {stale}"


def test_exceptions_name_existing_cases() -> None:
    names = {case.name for case in node_cases()}
    assert set(exceptions("reference")) <= names
    assert len(names) - len(exceptions("reference")) >= 1672, (
        "fewer cases than onnx.reference passes in a plain harness"
    )
