"""Profiling from scripts, standard input and notebooks; killed and resumed; two at once."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from softneuro_core.costs import CostDatabase

SCRIPT = Path(__file__).with_name("resumed_script.py")
VARIANTS = 12


def environment(tmp_path: Path, variants: int) -> dict[str, str]:
    return {
        **os.environ,
        "SOFTNEURO_TEST_VARIANTS": str(variants),
        "SOFTNEURO_TEST_LOG": str(tmp_path / "prepared"),
        "SOFTNEURO_TEST_FOLDER": str(SCRIPT.parent),
        "TMPDIR": str(tmp_path),
    }


@contextmanager
def running(command: list[str], tmp_path: Path, variants: int) -> Iterator[subprocess.Popen[str]]:
    """A process that is gone afterwards, whatever happens."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=environment(tmp_path, variants), **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def stored(file: Path) -> int:
    with CostDatabase(file) as database:
        return len(database)


def test_script_without_main_guard(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path / "costs")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path, VARIANTS), timeout=120)
    assert done.stdout.splitlines() == ["ready", f"{VARIANTS} {VARIANTS} []"], done.stderr
    assert stored(tmp_path / "costs") == VARIANTS
    assert not list(tmp_path.glob("softneuro-values-*"))


def test_script_from_standard_input(tmp_path: Path) -> None:
    command = [sys.executable, "-", str(tmp_path / "costs")]
    code = SCRIPT.read_text(encoding="utf-8")
    done = subprocess.run(
        command, input=code, capture_output=True, text=True, env=environment(tmp_path, VARIANTS), timeout=120
    )
    assert done.stdout.splitlines() == ["ready", f"{VARIANTS} {VARIANTS} []"], done.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the notebook tools, not ours
def test_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    for name, value in environment(tmp_path, VARIANTS).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    setup = f"import sys; sys.argv = ['notebook', {str(tmp_path / 'costs')!r}]"
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(setup), nbformat.v4.new_code_cell(SCRIPT.read_text(encoding="utf-8"))]
    )
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    said = "".join(output.get("text", "") for output in notebook.cells[1].outputs)
    assert said.splitlines() == ["ready", f"{VARIANTS} {VARIANTS} []"]


@pytest.mark.parametrize(
    ("kills", "isolated"),
    [
        pytest.param(4, True, id="4-kills"),
        pytest.param(6, False, id="6-kills-in-process"),
        pytest.param(60, True, id="60-kills", marks=[pytest.mark.long, pytest.mark.timeout(900)]),
    ],
)
def test_killed_at_any_moment_and_resumed(tmp_path: Path, kills: int, isolated: bool) -> None:
    """After every kill the file is whole, nothing in it was stored twice, and at most the one measurement under way
    was lost."""
    file, variants = tmp_path / "costs", 40 * kills
    _count_every_insert(file)
    command = [sys.executable, str(SCRIPT), str(file), *([] if isolated else ["--here"])]
    chance, killed = random.Random(kills), 0
    while killed < kills:
        with running(command, tmp_path, variants) as process:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            time.sleep(chance.uniform(0.0, 0.35) + (chance.random() < 0.7 and isolated) * 0.7)
            process.kill()
            assert process.communicate()[0] == "", "the work ended before the kill"
        killed += 1
        assert set(_inserts(file).values()) <= {1}
    done = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path, variants), timeout=300)
    assert done.stdout.splitlines()[1] == f"{variants} {variants} []", done.stderr
    inserts = _inserts(file)
    assert len(inserts) == variants and set(inserts.values()) == {1}
    prepared = Counter((tmp_path / "prepared").read_text(encoding="utf-8").split())
    assert len(prepared) == variants and variants <= prepared.total() <= variants + killed


def test_two_profilers_share_one_database(tmp_path: Path) -> None:
    file = tmp_path / "costs"
    command = [sys.executable, str(SCRIPT), str(file)]
    both = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(tmp_path, 40)
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=180)[0].splitlines() for process in both]
    assert said == [["ready", "40 40 []"]] * 2
    assert stored(file) == 40


def _count_every_insert(file: Path) -> None:
    """Makes the database itself keep a line for every row ever written, in the writer's own transaction."""
    CostDatabase(file).close()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE inserts (digest TEXT)")
        connection.execute(
            "CREATE TRIGGER counted AFTER INSERT ON costs BEGIN INSERT INTO inserts VALUES (NEW.digest); END"
        )
    connection.close()


def _inserts(file: Path) -> Counter[str]:
    connection = sqlite3.connect(file)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return Counter(digest for (digest,) in connection.execute("SELECT digest FROM inserts"))
    finally:
        connection.close()
