"""The command line as a user meets it: a fresh cost database, the core's own routines, no progress bars."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from softneuro_core.cli import cli
from tests.core.models import image, residual

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTNEURO_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SOFTNEURO_PLUGINS", "")
    monkeypatch.delenv("SOFTNEURO_DEBUG", raising=False)


@pytest.fixture
def run() -> Run:
    """Runs ``softneuro ARGUMENTS``; the result has ``exit_code``, ``stdout`` and ``stderr``."""

    def invoke(*arguments: object, **options: object) -> Result:
        return CliRunner().invoke(cli, [str(a) for a in arguments], **options)  # type: ignore[arg-type]

    return invoke


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small residual net, input x 1x3x8x8, output y 1x5."""
    path = tmp_path / "residual.onnx"
    onnx.save(residual(), path)
    return path


@pytest.fixture
def free_batch(tmp_path: Path) -> Path:
    """The same with a free batch."""
    path = tmp_path / "free.onnx"
    onnx.save(residual("N"), path)
    return path


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """An .npy for input x."""
    path = tmp_path / "x.npy"
    np.save(path, image())
    return path


@pytest.fixture
def plan(tmp_path: Path, model: Path, run: Run) -> Path:
    """A plan of estimates for ``model``."""
    path = tmp_path / "plan.json"
    result = run("tune", model, "-o", path, "--budget", 0, "--threads", 1)
    assert result.exit_code == 0, result.stderr
    return path


def the_line(result: Result) -> str:
    """The one line of error on stderr; fails if there is a traceback or more than one error line."""
    assert "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if "error:" in line]
    assert len(errors) == 1, result.stderr
    assert errors[0].startswith("softneuro: error: ")
    return errors[0]
