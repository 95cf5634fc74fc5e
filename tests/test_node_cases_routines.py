"""ONNX's node cases with every installed routine forced in turn: a routine that claims a case must pass it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from softneuro_core.catalog import Catalog, load_plugins
from tests.claims import CORE, Case, cases, wrong_of


@cache
def catalog() -> Catalog:
    return load_plugins()


@cache
def known() -> list[Case]:
    return cases(catalog())


def installed_routines() -> list[str]:
    return [name for name in catalog().routines if name not in CORE]


@pytest.mark.long
@pytest.mark.parametrize("routine", installed_routines())
def test_a_routine_passes_every_case_it_claims(
    routine: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SOFTNEURO_CACHE_DIR", str(tmp_path))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="onnx")
        claimed, wrong = wrong_of(catalog(), routine, known())
    record_property("claimed", claimed)
    record_property("passed", claimed - len(wrong))
    with capsys.disabled():
        print(f"\n{routine}: claimed and run {claimed}, passed {claimed - len(wrong)}", end="")
    assert not wrong, "\n".join(wrong)
