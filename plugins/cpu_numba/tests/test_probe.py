"""Instructions are tried in a process of their own, once, before a kernel relies on them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from softneuro_cpu_numba import native, probe

from softneuro_core.device import HostDevice, Target

CHECKS = """
import os, signal

def right(target):
    return target.isa == "SSE2"

def wrong(target):
    return False

def fatal(target):
    os.kill(os.getpid(), signal.SIGILL)
"""
OLD = Target(HostDevice(), 1, "SSE2")


@pytest.fixture
def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Commands run, with a folder of its own for what they find."""
    package = tmp_path / "candidate"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "checks.py").write_text(CHECKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(probe, "cache_folder", lambda: tmp_path)
    probe._works.cache_clear()
    native.sources_of.cache_clear()
    commands: list[Any] = []
    run = probe.subprocess.run
    monkeypatch.setattr(probe.subprocess, "run", lambda *a, **k: commands.append(a[0]) or run(*a, **k))
    return commands


def test_what_works_is_tried_once_and_kept(tried: list[Any]) -> None:
    for _ in range(3):
        assert probe.works("candidate.checks:right", OLD)
        probe._works.cache_clear()  # as another process would
    assert len(tried) == 1


@pytest.mark.parametrize("name", ["wrong", *(["fatal"] if os.name == "posix" else [])])
def test_what_does_not_work_is_said_once_and_not_tried_again(tried: list[Any], name: str) -> None:
    with pytest.warns(RuntimeWarning, match="not offered"):
        assert not probe.works(f"candidate.checks:{name}", OLD)
    probe._works.cache_clear()
    assert not probe.works(f"candidate.checks:{name}", OLD)
    assert len(tried) == 1


def test_a_check_that_hangs_counts_as_failed_until_the_next_process(
    tried: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as slow, pytest.warns(RuntimeWarning, match="not offered"):
        slow.setattr(probe, "LONGEST_S", 0.01)
        assert not probe.works("candidate.checks:right", OLD)
    assert not probe.works("candidate.checks:right", OLD) and len(tried) == 1
    probe._works.cache_clear()
    assert probe.works("candidate.checks:right", OLD) and len(tried) == 2
