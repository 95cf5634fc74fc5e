"""Packed weights on disk: found again, never wrong, never too many."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from softneuro_core import packing
from softneuro_core.mapped import is_mapped, map_file
from softneuro_core.packing import LEAST_BYTES, Entry, keeping, kept

COUNT = LEAST_BYTES // 4
FLOAT = np.dtype(np.float32)


def numbers(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((COUNT // 512, 512)).astype(np.float32)


def entry_of(folder: Path, recipe: object = "r", source: np.ndarray | None = None) -> Entry:
    with keeping(folder):
        entry = kept(recipe, numbers() if source is None else source, LEAST_BYTES)
    assert entry is not None
    return entry


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert entry_of(tmp_path).read((COUNT,), FLOAT) is None
    entry_of(tmp_path).write(numbers(1))
    found = entry_of(tmp_path).read((COUNT // 512, 512), FLOAT)
    assert found is not None and is_mapped(found) and found.ctypes.data % 64 == 0 and not found.flags.writeable
    np.testing.assert_array_equal(found, numbers(1))


def test_sizes_that_are_no_whole_words(tmp_path: Path) -> None:
    odd = np.arange(LEAST_BYTES + 3, dtype=np.uint32).astype(np.uint8)
    entry_of(tmp_path).write(odd)
    found = entry_of(tmp_path).read(odd.shape, odd.dtype)
    assert found is not None
    np.testing.assert_array_equal(found, odd)


def test_recipe_values_layout_and_type_are_told_apart(tmp_path: Path) -> None:
    one = numbers()
    near = one.copy()
    near[-1, -1] += 1
    sources = [one, near, one.T, one.reshape(-1), one.view(np.int32)]
    entries = {entry_of(tmp_path, recipe, source) for recipe in ("r", ("r", 2)) for source in sources}
    assert len(entries) == 2 * len(sources)
    assert entry_of(tmp_path, "r", one.copy()) in entries


@pytest.mark.parametrize("what", ["short", "long", "a bit", "a page of zeros", "the check", "empty"])
def test_a_damaged_entry_is_packed_again(what: str, tmp_path: Path) -> None:
    entry = entry_of(tmp_path)
    entry.write(numbers())
    content = bytearray(entry.file.read_bytes())
    if what == "a bit":
        content[LEAST_BYTES // 2] ^= 16
    elif what == "the check":
        content[-1] ^= 1
    elif what == "a page of zeros":
        content[8192 : 8192 + 4096] = bytes(4096)
    changed = {"short": content[:-1], "long": content + b"x", "empty": b""}
    entry.file.write_bytes(bytes(changed.get(what, content)))
    assert entry.read((COUNT,), FLOAT) is None
    entry.write(numbers())
    assert entry.read((COUNT,), FLOAT) is not None


def test_only_whole_plans_and_large_arrays_are_kept(tmp_path: Path) -> None:
    assert kept("r", numbers(), LEAST_BYTES) is None
    with keeping(tmp_path):
        assert kept("r", numbers(), LEAST_BYTES - 1) is None
    assert kept("r", numbers(), LEAST_BYTES) is None


def test_bytes_of_a_file_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []
    honest = packing._content_digest
    monkeypatch.setattr(packing, "_content_digest", lambda a: hashed.append(a.nbytes) or honest(a))
    file = tmp_path / "weights"
    file.write_bytes(numbers().tobytes())
    os.utime(file, (1, 1))
    store, view = tmp_path / "store", map_file(file).array.view(np.float32).reshape(-1, 512)
    first = entry_of(store, "r", view)
    assert entry_of(store, "r", map_file(file).array.view(np.float32).reshape(-1, 512)) == first
    assert entry_of(store, "s", view) != first
    assert hashed == [view.nbytes]
    assert entry_of(store, "r", numbers()) == first, "the same numbers in memory"
    fresh = file.with_name("fresh")
    fresh.write_bytes(numbers(1).tobytes())
    os.utime(fresh, (1, 1))
    os.replace(fresh, file)  # same name, size and date
    assert entry_of(store, "r", map_file(file).array.view(np.float32).reshape(-1, 512)) != first


def test_a_damaged_note_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(numbers().tobytes())
    os.utime(file, (1, 1))
    store, view = tmp_path / "store", map_file(file).array.view(np.float32)
    first = entry_of(store, "r", view)
    (note,) = store.glob("*.digest")
    for damage in (b"", b"\xff\xfe", b"cut short"):
        note.write_bytes(damage)
        assert entry_of(store, "r", view) == first


def test_what_was_used_longest_ago_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MOST_BYTES", 3 * LEAST_BYTES)
    entries = [entry_of(tmp_path, number) for number in range(3)]
    now = time.time()
    for number, entry in enumerate(entries[:2]):
        entry.write(numbers())
        os.utime(entry.file, (now - 100 + number, now - 100 + number))
    assert entries[0].read((COUNT,), FLOAT) is not None  # used now
    entries[2].write(numbers())
    assert [e.file.exists() for e in entries] == [True, False, True]
    assert {f.name for f in tmp_path.iterdir()} == {entries[0].file.name, entries[2].file.name}


def test_a_folder_that_cannot_be_written_only_costs_packing(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    entry = entry_of(blocked / "inside")
    entry.write(numbers())
    assert entry.read((COUNT,), FLOAT) is None


def test_a_full_disk_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "FREE_SHARE", 1 << 60)
    entry_of(tmp_path).write(numbers())
    assert not list(tmp_path.glob("*.packed"))
