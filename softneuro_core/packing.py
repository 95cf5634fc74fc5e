"""Packed weights kept on disk, so that a tuned model opens by mapping files instead of packing again.

Owns the folder, the keys, the check of what is read and the bound on what is kept. Knows nothing of packing: a routine
brings a recipe (all that decides the result besides the source: code, parameters) and fills what is not there yet.
Only whole plans are kept (``keeping``), not the candidates a profile tries.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from softneuro_core.files import write_file
from softneuro_core.knobs import cache_folder
from softneuro_core.mapped import map_file, release, span_of

FORMAT = 1
LEAST_BYTES = 1 << 20
"""Smaller ones are packed sooner than a file is opened (measured: docs/decisions/0035)."""
MOST_BYTES = 4 << 30
"""Of all files together; those used longest ago go first."""
FREE_SHARE = 4
"""Nothing is kept that would take more than one part in so many of the free disk space."""
CHECK_BYTES = 8
HASHED_BYTES = 16 << 20
"""Of a mapped file, no more than this is in memory for being hashed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one packed array is kept, or will be."""

    file: Path

    def read(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray | None:
        """The array, mapped, read-only and page-aligned; None if it is missing, cut short or altered."""
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        try:
            whole = map_file(self.file).array
        except (OSError, ValueError):
            return None
        if len(whole) != nbytes + CHECK_BYTES or _check(whole[:nbytes]) != whole[nbytes:].tobytes():
            return None
        with contextlib.suppress(OSError):
            os.utime(self.file)  # the date of its last use
        return whole[:nbytes].view(dtype).reshape(shape)

    def write(self, packed: np.ndarray) -> None:
        """Keeps a contiguous array; a full disk or read-only folder only costs packing again."""
        with contextlib.suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            if packed.nbytes * FREE_SHARE > shutil.disk_usage(self.file.parent).free:
                return
            content = packed.reshape(-1).view(np.uint8)
            write_file(self.file, content.data, _check(content))
            _make_room(self.file.parent)


_folder: ContextVar[Path | None] = ContextVar("softneuro folder of packed weights", default=None)


@contextlib.contextmanager
def keeping(folder: Path | None = None) -> Iterator[None]:
    """Within, :func:`kept` finds entries; ``folder`` defaults to one in the user's cache folder."""
    token = _folder.set(folder or cache_folder() / "packed")
    try:
        yield
    finally:
        _folder.reset(token)


def kept(recipe: object, source: np.ndarray, nbytes: int) -> Entry | None:
    """The place of what ``recipe`` (told by its ``repr``) makes of ``source``, ``nbytes`` large; None where nothing is
    kept: outside :func:`keeping`, or too small."""
    folder = _folder.get()
    if folder is None or nbytes < LEAST_BYTES:
        return None
    return Entry(folder / f"{_hash(repr((FORMAT, recipe, _digest(source, folder))))}.packed")


def _digest(source: np.ndarray, folder: Path) -> str:
    """Hash of an array's contents and layout; that of a file's bytes is computed once and noted beside the entries."""
    span = span_of(source)
    note = None if span is None else folder / f"{_hash(repr(span))}.digest"
    if note is not None:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            known = note.read_text(encoding="ascii")
            if len(known) == len(_hash("")):
                return known
    made = _content_digest(source)
    if note is not None:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            write_file(note, made)
    return made


def _content_digest(source: np.ndarray) -> str:
    order = np.argsort([-abs(step) for step in source.strides], kind="stable")
    ordered = np.ascontiguousarray(source.transpose(order))  # no copy, as a rule
    content, whole = hashlib.sha256(), ordered.reshape(-1).view(np.uint8)
    for start in range(0, len(whole), HASHED_BYTES):
        part = whole[start : start + HASHED_BYTES]
        content.update(part.data)
        release(part)
    return _hash(repr((content.hexdigest(), source.dtype.str, source.shape, order.tolist())))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _check(content: np.ndarray) -> bytes:
    """Sum of an array's bytes, eight at a time: 30 GB/s, and another one where a page is missing or a bit differs."""
    whole = len(content) // 8 * 8
    total = int(np.add.reduce(content[:whole].view(np.uint64))) + int(np.add.reduce(content[whole:], dtype=np.uint64))
    return (total % 2**64).to_bytes(CHECK_BYTES, "little")


def _make_room(folder: Path) -> None:
    """Removes what was used longest ago until ``MOST_BYTES`` are left."""
    files = [(f, f.stat()) for f in folder.iterdir() if f.is_file()]
    total = sum(status.st_size for _, status in files)
    for file, status in sorted(files, key=lambda pair: pair[1].st_mtime):
        if total <= MOST_BYTES:
            return
        with contextlib.suppress(OSError):  # Windows keeps a mapped file
            file.unlink()
            total -= status.st_size
