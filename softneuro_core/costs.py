"""The cost database: every measured time, kept in SQLite in the user's cache folder.

Owns storage and what to do when storage fails; must not know how anything is measured. Tuning never dies of its
database: whatever is wrong with the file is said once in ``notes``, and costs stay in memory meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from softneuro_core.errors import CostDatabaseError
from softneuro_core.knobs import cache_folder
from softneuro_core.profiling.keys import CostKey, adapter_key, canonical, cost_key

__all__ = ["Cost", "CostDatabase", "CostKey", "adapter_key", "cache_folder", "cost_key", "in_situ"]

FILE_NAME = "costs-1.sqlite"
"""The number is that of the table below."""
_SCHEMA = """CREATE TABLE IF NOT EXISTS costs (
    digest TEXT NOT NULL, context TEXT NOT NULL, key TEXT NOT NULL, cost TEXT NOT NULL,
    PRIMARY KEY (digest, context)) WITHOUT ROWID"""
_PUT = "INSERT OR REPLACE INTO costs (digest, context, key, cost) VALUES (?, ?, ?, ?)"
_CHUNK = 400
"""Digests in one query: SQLite before 3.32 takes at most 999 parameters."""
PATIENCE_S = 5.0
"""How long a statement waits for another process's lock; once that was in vain, later ones wait a twentieth."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one measurement found. Times are integer nanoseconds of ``clock``; ``time_ns`` is a median.

    ``status`` is ``ok`` or ``failed`` (then ``reason`` says why). ``error`` is the largest deviation from the reference
    seen: relative to the largest output for real outputs, in steps for integers; None if it could not be checked.
    ``context`` is empty for a measurement in isolation, ``in-situ:PLAN`` for one inside a running plan.
    """

    status: str
    time_ns: int = 0
    min_ns: int = 0
    spread_ns: int = 0
    samples: int = 0
    constant_bytes: int = 0
    error: float | None = None
    reason: str = ""
    clock: str = "wall"
    context: str = ""

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    def better_of(self, other: Cost) -> Cost:
        """Of two measurements of one thing the less disturbed: the smaller median, with the smaller minimum."""
        if not (self.ok and other.ok):
            return other if self.ok else self
        calm = min(self, other, key=lambda cost: cost.time_ns)
        return replace(calm, min_ns=min(self.min_ns, other.min_ns), samples=self.samples + other.samples)

    @staticmethod
    def failed(reason: str) -> Cost:
        return Cost("failed", reason=reason)

    @staticmethod
    def from_json(parts: Mapping[str, Any]) -> Cost:
        """The inverse of ``dataclasses.asdict``; raises ``ValueError`` or ``TypeError`` for anything else."""
        cost = Cost(**parts)
        if cost.status not in ("ok", "failed"):
            raise ValueError(f"status {cost.status!r} is neither ok nor failed")
        for field in fields(cost):
            value, kind = getattr(cost, field.name), str(field.type)
            wanted = (int,) if kind == "int" else (str,) if kind == "str" else (float, int, type(None))
            if not isinstance(value, wanted) or isinstance(value, bool):
                raise ValueError(f"{field.name} is {value!r}")
        if cost.ok and (cost.time_ns <= 0 or cost.samples <= 0):
            raise ValueError("a measured cost has a time and samples")
        return cost


def in_situ(plan_hash: str) -> str:
    """The context of costs measured inside the plan of this hash."""
    return f"in-situ:{plan_hash}"


_Row = tuple[CostKey, Cost]


class CostDatabase:
    """Costs by key and context. One commit per ``put`` or ``put_many``; safe with several processes on one file.

    ``path`` None means the file in :func:`cache_folder`; ``":memory:"`` keeps nothing. A file that cannot be written
    is read; one that is damaged is moved aside; while it is locked or the disk is full, new costs wait in memory and
    are written with the next ``put`` or ``close`` that succeeds. Each such event adds a line to ``notes`` and is given
    to ``on_note``.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        on_note: Callable[[str], None] | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.path = ":memory:" if str(path) == ":memory:" else str(path or cache_folder() / FILE_NAME)
        self.notes: list[str] = []
        self.writable = True
        self._patient = True
        self._on_note, self._patience_s = on_note, patience_s
        self._waiting: dict[tuple[CostKey, str], Cost] = {}
        self._connection = self._open()

    def __enter__(self) -> CostDatabase:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- reading and writing -----------------------------------------------------------------------------------

    def get_many(self, keys: Iterable[CostKey], context: str = "") -> dict[CostKey, Cost]:
        """The costs known of these keys."""
        wanted = {key.digest: key for key in keys}
        found: dict[CostKey, Cost] = {}
        digests = list(wanted)
        for start in range(0, len(digests), _CHUNK):
            part = digests[start : start + _CHUNK]
            marks = ",".join("?" * len(part))
            query = f"SELECT digest, cost FROM costs WHERE context = ? AND digest IN ({marks})"
            for digest, text in self._read(query, (context, *part)):
                with contextlib.suppress(ValueError, TypeError):  # a row some other program wrote
                    found[wanted[digest]] = Cost.from_json(json.loads(text))
        found.update({key: self._waiting[key, context] for key in wanted.values() if (key, context) in self._waiting})
        return found

    def get(self, key: CostKey, context: str = "") -> Cost | None:
        return self.get_many([key], context).get(key)

    def put(self, key: CostKey, cost: Cost) -> None:
        """Stores one cost under its key and context, for good when this returns (in memory if the file refuses)."""
        self.put_many({key: cost})

    def put_many(self, costs: Mapping[CostKey, Cost]) -> None:
        """Stores them in one transaction: all or none."""
        self._waiting |= {(key, cost.context): cost for key, cost in costs.items()}
        self._flush()

    def _flush(self) -> None:
        if not self.writable or not self._waiting:
            return
        rows = [(key.digest, context, key.text, canonical(asdict(c))) for (key, context), c in self._waiting.items()]
        try:
            self._write(rows)
        except sqlite3.Error as error:
            self._after_failed_write(error, rows)
        else:
            self._waiting.clear()
            self._be_patient(True)

    def _be_patient(self, patient: bool) -> None:
        """A file that stays locked must not slow the tuning down."""
        if patient != self._patient:
            self._patient = patient
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute(f"PRAGMA busy_timeout={int(self._patience_s * (1000 if patient else 50))}")

    def _write(self, rows: Sequence[tuple[str, str, str, str]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.execute(_SCHEMA)  # a file that was locked when we opened it may still be empty
            self._connection.executemany(_PUT, rows)
            self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    def _after_failed_write(self, error: sqlite3.Error, rows: Sequence[tuple[str, str, str, str]]) -> None:
        if _is_damage(error):
            self._connection = self._replace_damaged(error)
            with contextlib.suppress(sqlite3.Error):
                self._write(rows)
                self._waiting.clear()
            return
        self._be_patient(False)
        self.note(f"cost database {self.path}: {error}; new costs are kept in memory meanwhile")

    def _read(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            if _is_damage(error):
                self._connection = self._replace_damaged(error)
            elif "no such table" not in str(error):
                self.note(f"cost database {self.path}: {error}; known costs cannot be read now")
            return []

    def rows(self) -> Iterator[_Row]:
        """Every cost with its key, in a stable order; each cost knows its context."""
        stored = self._read("SELECT key, context, cost FROM costs ORDER BY digest, context")
        seen = {(CostKey(key), context) for key, context, _ in stored}
        for key, context, text in stored:
            waiting = self._waiting.get((CostKey(key), context))
            with contextlib.suppress(ValueError, TypeError):
                yield CostKey(key), waiting or Cost.from_json(json.loads(text))
        for (key_waiting, context), cost in self._waiting.items():
            if (key_waiting, context) not in seen:
                yield key_waiting, cost

    def __len__(self) -> int:
        return sum(1 for _ in self.rows())

    # -- export, merge, clear ----------------------------------------------------------------------------------

    def export(self) -> Iterator[str]:
        """Every cost as one line of JSON, ``{"key": {...}, "cost": {...}}``, without line ends."""
        for key, cost in self.rows():
            yield canonical({"key": key.parts, "cost": asdict(cost)})

    def merge(self, lines: Iterable[str]) -> int:
        """Adds exported costs and returns how many changed; of two for one key the one with more samples stays.

        Raises :class:`CostDatabaseError` naming the line that is not a cost; nothing is merged then.
        """
        given = [_parse_line(number, line) for number, line in enumerate(lines, 1) if line.strip()]
        best: dict[tuple[CostKey, str], Cost] = {}
        for context in {cost.context for _, cost in given}:
            known = self.get_many([key for key, cost in given if cost.context == context], context)
            best.update({(key, context): cost for key, cost in known.items()})
        changed: dict[tuple[CostKey, str], Cost] = {}
        for key, cost in given:
            before = best.get((key, cost.context))
            if before is None or _worth(cost) > _worth(before):
                best[key, cost.context] = changed[key, cost.context] = cost
        self._waiting.update(changed)
        self._flush()
        return len(changed)

    def clear(self, routine: str | None = None) -> int:
        """Forgets every cost, or those of one routine or adapter, and returns how many.

        Raises :class:`CostDatabaseError` if the file cannot be written.
        """
        doomed = [(key, cost) for key, cost in self.rows() if routine in (None, key.parts.get("routine"))]
        for key, cost in doomed:
            self._waiting.pop((key, cost.context), None)
        if not self.writable:
            raise CostDatabaseError("the cost database cannot be written", file=self.path)
        try:
            with self._connection:
                self._connection.executemany(
                    "DELETE FROM costs WHERE digest = ? AND context = ?",
                    [(key.digest, cost.context) for key, cost in doomed],
                )
        except sqlite3.Error as error:
            raise CostDatabaseError(f"costs could not be cleared: {error}", file=self.path) from error
        return len(doomed)

    def close(self) -> None:
        """Writes what waits and closes the file."""
        self._flush()
        if self._waiting and self.writable:
            self.note(f"cost database {self.path}: {len(self._waiting)} new costs could not be written and are lost")
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def note(self, text: str) -> None:
        """Says something once."""
        if text not in self.notes:
            self.notes.append(text)
            if self._on_note is not None:
                self._on_note(text)

    # -- opening -----------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        if self.path == ":memory:":
            return self._in_memory()
        try:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            return self._open_file()
        except sqlite3.DatabaseError as error:
            if _is_damage(error):
                return self._replace_damaged(error)
            return self._open_read_only(error)
        except OSError as error:
            return self._open_read_only(error)

    def _open_file(self) -> sqlite3.Connection:
        """The file opened for writing; raises ``sqlite3.Error``."""
        connection = sqlite3.connect(self.path, timeout=self._patience_s, isolation_level=None, check_same_thread=False)
        try:
            # Where the folder does not allow a shared-memory file SQLite stays with its rollback journal by itself.
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(_SCHEMA)
            connection.execute("BEGIN IMMEDIATE")  # a file we may not write, or that is locked, shows here
            connection.execute("SELECT digest, context, key, cost FROM costs LIMIT 1").fetchone()
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_read_only(self, cause: Exception) -> sqlite3.Connection:
        """What can be read of a file we cannot write; ``immutable`` where even its lock files cannot be made."""
        if isinstance(cause, sqlite3.OperationalError) and _is_temporary(cause):
            return self._open_locked(cause)
        self.writable = False
        for mode in ("mode=ro", "mode=ro&immutable=1"):
            try:
                uri = Path(self.path).absolute().as_uri() + "?" + mode
                connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
                connection.execute("SELECT digest, context, key, cost FROM costs LIMIT 1").fetchone()
            except sqlite3.Error:
                continue
            self.note(f"cost database {self.path} cannot be written ({cause}); new costs are kept in memory")
            return connection
        self.note(f"cost database {self.path} cannot be opened ({cause}); costs are kept in memory")
        return self._in_memory()

    def _open_locked(self, cause: Exception) -> sqlite3.Connection:
        """A file another process holds, or whose disk is full: opened without a write, which later puts try again."""
        self._patient = False
        connection = sqlite3.connect(
            self.path, timeout=self._patience_s / 20, isolation_level=None, check_same_thread=False
        )
        self.note(f"cost database {self.path}: {cause}; new costs are kept in memory meanwhile")
        return connection

    def _replace_damaged(self, cause: Exception) -> sqlite3.Connection:
        """Moves a damaged file aside and starts a new one, or goes on in memory."""
        with contextlib.suppress(AttributeError, sqlite3.Error):
            self._connection.close()
        try:
            aside = _move_aside(Path(self.path))
            connection = self._open_file()
        except (OSError, sqlite3.Error) as error:
            self.writable = False
            self.note(f"cost database {self.path} is damaged ({cause}; {error}); costs are kept in memory")
            return self._in_memory()
        self.note(f"cost database {self.path} was damaged ({cause}); it was moved to {aside}, costs start anew")
        return connection

    def _in_memory(self) -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        connection.execute(_SCHEMA)
        return connection


def _is_temporary(error: sqlite3.Error) -> bool:
    return any(word in str(error) for word in ("locked", "busy", "full"))


def _is_damage(error: sqlite3.Error) -> bool:
    """True for a file that is no database of ours, as against one that is locked, full or read-only."""
    if isinstance(error, sqlite3.OperationalError):
        return any(word in str(error) for word in ("malformed", "no such column", "no column named"))
    return isinstance(error, sqlite3.DatabaseError)


def _move_aside(path: Path) -> Path:
    """Renames the file (its journals go: they belong to it) to the first free ``.damaged-N``."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    path.replace(aside)
    for ending in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    return aside


def _worth(cost: Cost) -> tuple[bool, int]:
    return cost.ok, cost.samples


def _parse_line(number: int, line: str) -> _Row:
    try:
        parts = json.loads(line)
        if not isinstance(parts["key"], dict):
            raise ValueError("the key is no object")
        return CostKey.of(parts["key"]), Cost.from_json(parts["cost"])
    except (ValueError, TypeError, KeyError) as error:
        raise CostDatabaseError(
            f"line {number} is not an exported cost: {error}", remedy="write the file with softneuro costs export"
        ) from None
