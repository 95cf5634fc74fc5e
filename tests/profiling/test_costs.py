"""The cost database, with every kind of file that refuses."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from softneuro_core.costs import FILE_NAME, Cost, CostDatabase, CostKey, cache_folder, in_situ
from softneuro_core.errors import CostDatabaseError

GOOD = Cost("ok", 1200, 1100, 30, 25, 4096, 1e-6)
BAD = Cost.failed("crashed (SIGSEGV)")


def key(number: int, routine: str = "cpu/conv") -> CostKey:
    return CostKey.of({"kind": "kernel", "routine": routine, "params": {"tile": number}})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "costs.sqlite"


def test_costs_survive_the_process(file: Path) -> None:
    with CostDatabase(file) as database:
        database.put(key(1), GOOD)
        database.put(key(2), BAD)
        assert database.get_many([key(1), key(2), key(3)]) == {key(1): GOOD, key(2): BAD}
    with CostDatabase(file) as database:
        assert database.get(key(1)) == GOOD and database.get(key(3)) is None
        assert len(database) == 2 and database.notes == []


def test_each_put_is_its_own_commit(file: Path) -> None:
    writer, reader = CostDatabase(file), CostDatabase(file)
    for number in range(3):
        writer.put(key(number), GOOD)
        assert len(reader) == number + 1
    writer.close()
    reader.close()


def test_in_situ_costs_stand_apart(file: Path) -> None:
    with CostDatabase(file) as database:
        other = Cost("ok", 9, 9, 0, 1, context=in_situ("abc"))
        database.put(key(1), GOOD)
        database.put(key(1), other)
        assert database.get(key(1)) == GOOD and database.get(key(1), "in-situ:abc") == other


def test_many_keys_in_one_question(file: Path) -> None:
    with CostDatabase(file) as database:
        keys = [key(number) for number in range(1000)]
        database.merge(json.dumps({"key": k.parts, "cost": {"status": "failed", "reason": "x"}}) for k in keys[:900])
        assert set(database.get_many(keys)) == set(keys[:900])


def test_export_merge_clear_round_trip(tmp_path: Path) -> None:
    with CostDatabase(tmp_path / "a") as one, CostDatabase(tmp_path / "b") as other:
        one.put(key(1), GOOD)
        one.put(key(2, "cpu/relu"), BAD)
        one.put(key(1), Cost("ok", 5, 5, 0, 3, context="in-situ:p"))
        lines = list(one.export())
        assert other.merge(lines) == 3 and other.merge(lines) == 0
        assert list(other.export()) == lines
        assert other.clear("cpu/relu") == 1 and other.clear() == 2 and len(other) == 0
        assert other.merge(lines) == 3


def test_merge_keeps_the_better_measured(file: Path) -> None:
    with CostDatabase(file) as database:
        database.put(key(1), GOOD)
        rough = json.dumps({"key": key(1).parts, "cost": {"status": "ok", "time_ns": 1, "samples": 3}})
        better = json.dumps({"key": key(1).parts, "cost": {"status": "ok", "time_ns": 2, "samples": 99}})
        assert database.merge([rough]) == 0 and database.get(key(1)) == GOOD
        assert database.merge([rough, better]) == 1 and database.get(key(1)).samples == 99  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "line", ["no json", "[]", '{"key": 3, "cost": {}}', '{"key": {}, "cost": {"status": "ok"}}', '{"cost": {}}']
)
def test_merge_of_rubbish_names_the_line_and_changes_nothing(file: Path, line: str) -> None:
    good = json.dumps({"key": key(1).parts, "cost": {"status": "failed", "reason": "x"}})
    with CostDatabase(file) as database:
        with pytest.raises(CostDatabaseError, match="line 2 is not an exported cost"):
            database.merge([good, line])
        assert len(database) == 0


def test_damaged_file_is_moved_aside(file: Path) -> None:
    said: list[str] = []
    for rubbish, number in ((b"not a database at all" * 100, 1), (b"SQLite format 3\0" + b"\xff" * 5000, 2)):
        file.write_bytes(rubbish)
        with CostDatabase(file, on_note=said.append) as database:
            database.put(key(1), GOOD)
            assert "damaged" in database.notes[0] and said == database.notes
        assert file.with_name(f"{file.name}.damaged-{number}").read_bytes() == rubbish
        with CostDatabase(file) as database:
            assert database.get(key(1)) == GOOD and not database.notes
        said.clear()


def test_file_damaged_while_open_is_moved_aside(file: Path) -> None:
    database = CostDatabase(file)
    for number in range(200):
        database.put(key(number), GOOD)
    database._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = file.stat().st_size
    with file.open("r+b") as raw:
        raw.seek(4096)
        raw.write(b"\xff" * (size - 4096))
    database._connection.close()
    database._connection = database._open()
    database.get_many([key(n) for n in range(200)])
    database.put(key(7), GOOD)
    assert database.get(key(7)) == GOOD and "damaged" in database.notes[0]
    database.close()


def test_foreign_sqlite_file_with_another_table_is_moved_aside(file: Path) -> None:
    with sqlite3.connect(file) as foreign:
        foreign.execute("CREATE TABLE costs (apples INTEGER)")
    foreign.close()
    with CostDatabase(file) as database:
        database.put(key(1), GOOD)
        assert "damaged" in database.notes[0] and database.get(key(1)) == GOOD


def test_locked_file_costs_wait_in_memory_and_are_written_later(file: Path) -> None:
    CostDatabase(file).close()
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    database = CostDatabase(file, patience_s=0.05)
    database.put(key(1), GOOD)
    assert database.get(key(1)) == GOOD and any("locked" in note for note in database.notes)
    holder.execute("COMMIT")
    holder.close()
    database.put(key(2), BAD)
    database.close()
    with CostDatabase(file) as again:
        assert again.get_many([key(1), key(2)]) == {key(1): GOOD, key(2): BAD}


def test_new_file_locked_by_its_maker(file: Path) -> None:
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    database = CostDatabase(file, patience_s=0.05)
    holder.execute("COMMIT")
    holder.close()
    assert database.get(key(1)) is None
    database.put(key(1), GOOD)
    database.close()
    with CostDatabase(file) as again:
        assert again.get(key(1)) == GOOD and not again.notes


def test_full_disk_keeps_costs_in_memory(file: Path) -> None:
    database = CostDatabase(file)
    pages = database._connection.execute("PRAGMA page_count").fetchone()[0]
    database._connection.execute(f"PRAGMA max_page_count={pages + 4}")
    keys = [key(number) for number in range(300)]
    for each in keys:
        database.put(each, GOOD)
    assert any("full" in note for note in database.notes) and len(database.notes) == 1
    assert len(database.get_many(keys)) == 300 and len(database) == 300
    database._connection.execute("PRAGMA max_page_count=100000")  # someone made room
    database.close()
    with CostDatabase(file) as again:
        assert len(again.get_many(keys)) == 300


def test_close_says_what_is_lost(file: Path) -> None:
    database = CostDatabase(file)
    database._connection.execute("PRAGMA max_page_count=1")
    for number in range(300):
        database.put(key(number), GOOD)
    database.close()
    assert "could not be written and are lost" in database.notes[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of a POSIX file system")
@pytest.mark.parametrize("folder_too", [False, True])
def test_read_only_file_is_read_and_new_costs_stay_in_memory(tmp_path: Path, folder_too: bool) -> None:
    folder = tmp_path / "costs"
    folder.mkdir()
    file = folder / "c.sqlite"
    with CostDatabase(file) as database:
        database.put(key(1), GOOD)
    for path in [*folder.iterdir(), *([folder] if folder_too else [])]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    result = _as_stranger(
        f"""
        def key(n): return CostKey.of({{"kind": "kernel", "routine": "cpu/conv", "params": {{"tile": n}}}})
        database = CostDatabase({str(file)!r})
        database.put(key(2), Cost("ok", 7, 7, 0, 1))
        print(database.get(key(1)).time_ns, database.get(key(2)).time_ns, len(database), len(database.notes))
        print(database.notes[0])
        """,
        tmp_path,
    )
    folder.chmod(0o755)
    first, second = result.splitlines()
    assert first == "1200 7 2 1" and "cannot be written" in second


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of a POSIX file system")
def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o555)
    result = _as_stranger(
        f"""
        database = CostDatabase({str(tmp_path / "shut" / "deep" / "c.sqlite")!r})
        database.put(CostKey.of({{}}), Cost("ok", 7, 7, 0, 1))
        print(len(database), database.notes)
        """,
        tmp_path,
    )
    assert result.startswith("1 [") and "cannot be opened" in result


_STEP_DOWN = """
import os
from softneuro_core.costs import Cost, CostDatabase, CostKey
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
"""


def _as_stranger(code: str, folder: Path) -> str:
    """Output of Python code run by a user without rights (root may write everywhere, so it steps down)."""
    for parent in (folder, *folder.parents):
        if parent.name.startswith(("pytest-", "popen-", "test_")):
            parent.chmod(0o755)
    command = [sys.executable, "-c", _STEP_DOWN + textwrap.dedent(code)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_place_of_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOFTNEURO_CACHE_DIR", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    with CostDatabase() as database:
        database.put(key(1), GOOD)
    assert (tmp_path / "here" / FILE_NAME).is_file()
    monkeypatch.delenv("SOFTNEURO_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "xdg"))
    assert cache_folder().name == "softneuro"
