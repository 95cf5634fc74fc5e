"""Softmax and layer normalisation of rows that are integers where they are read, written, or both: float32 between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from softneuro_cpu_numba.emit.emitter import I8, I32, Emitter, Value
from softneuro_cpu_numba.emit.norm import (
    Row,
    Write,
    floats_at,
    normalise_rows,
    rows_of_task,
    scaling_by,
    softmax_rows,
)
from softneuro_cpu_numba.emit.slide import Place
from softneuro_cpu_numba.native import emitted

from softneuro_qint8.emit.finish import WORDS as FINISH_WORDS
from softneuro_qint8.emit.finish import Rounded

SOURCE_WORDS = ("x", "zero", "scale")
"""Of every value read: its address, zero point, and the step of its grid (a float)."""
SHAPE_WORDS = ("rows", "rows_per_task", "n")
RESULT_WORDS = ("y", *FINISH_WORDS, "steps")
"""``steps``, a float: of the result's grid in 1."""
TOGETHER = 4
"""Vectors of a softmax rounded at a time: narrowing four takes as many instructions as narrowing one."""
Read = Callable[[Value, Value | None], Value]


@dataclass(frozen=True, slots=True)
class Source:
    """A value read row by row: float32, or integers (``signed`` says which) as the numbers they mean."""

    signed: bool | None
    words: dict[str, Value]

    def row(self, e: Emitter, at: Value) -> Read:
        """Reads the row whose first element is ``at``."""
        if self.signed is None:
            return floats_at(e, e.at(e.floats(self.words["x"]), at))[0]
        place = e.at(e.b.inttoptr(self.words["x"], I8.as_pointer()), at)
        widen: Any = e.b.sext if self.signed else e.b.zext
        zero, scale = e.splat(e.b.trunc(self.words["zero"], I32)), e.splat(self.words["scale"])

        def read(i: Value, some: Value | None) -> Value:
            seen = e.load_integers(place, i, I8) if some is None else e.load_some(place, i, some)
            steps = e.b.sub(widen(seen, e.vector_type(element=I32)), zero)
            return e.b.fmul(e.b.sitofp(steps, e.vector_type()), scale)

        return read


@dataclass(frozen=True, slots=True)
class Result:
    """Where rows go: float32, or rounded onto a grid (``rounding`` as :class:`Rounded` has it)."""

    rounding: tuple[bool, bool] | None
    words: dict[str, Value]

    def row(self, e: Emitter, at: Value) -> Write:
        """Writes the row whose first element is ``at``."""
        if self.rounding is None:
            return floats_at(e, e.at(e.floats(self.words["y"]), at))[1]
        place = e.at(e.b.inttoptr(self.words["y"], I8.as_pointer()), at)
        rounded, steps = Rounded.read(e, self.words, self.rounding), e.splat(self.words["steps"])
        return lambda i, values, some: rounded.store(e, [e.b.fmul(v, steps) for v in values], Place(place, i, some))


def _read(e: Emitter, names: Sequence[str], first: int) -> dict[str, Value]:
    """Words by name; scales and steps are floats."""
    return {name: e.number(at) if name in ("scale", "steps") else e.word(at) for at, name in enumerate(names, first)}


def _ends(
    e: Emitter, sources: Sequence[bool | None], rounding: tuple[bool, bool] | None
) -> tuple[list[Source], Result, int]:
    """What is read, where it goes, and the first word behind the two."""
    count = len(SOURCE_WORDS)
    read = [Source(signed, _read(e, SOURCE_WORDS, count * i)) for i, signed in enumerate(sources)]
    behind = count * len(sources)
    return read, Result(rounding, _read(e, RESULT_WORDS, behind)), behind + len(RESULT_WORDS)


@emitted
def softmax(e: Emitter, sources: tuple[bool | None], rounding: tuple[bool, bool] | None) -> None:
    """args: :data:`SOURCE_WORDS` :data:`RESULT_WORDS` :data:`SHAPE_WORDS`. Every row of n on its own.

    ``sources``: whether what is read is signed, None for float32; ``rounding``: of the result, None for float32.
    scratch: 4 rows, each of whole vectors.
    """
    (source,), result, at = _ends(e, sources, rounding)
    n, held = e.word(at + SHAPE_WORDS.index("n")), e.floats(e.scratch)
    pitch = e.b.and_(e.add(n, e.lanes - 1), e.i(-e.lanes))

    def some_rows(first: Value, size: int) -> None:
        places = [e.mul(e.add(first, r), n) for r in range(size)]
        kept = [e.at(held, e.mul(pitch, r)) for r in range(size)]
        rows = [Row(source.row(e, p), k, result.row(e, p)) for p, k in zip(places, kept, strict=True)]
        softmax_rows(e, n, rows, TOGETHER)

    rows_of_task(e, at, some_rows)


@emitted
def normalise(e: Emitter, sources: tuple[bool | None, ...], rounding: tuple[bool, bool] | None) -> None:
    """args: :data:`SOURCE_WORDS` of one or two values, which are added, :data:`RESULT_WORDS`, :data:`SHAPE_WORDS`, 1/n,
    epsilon, the addresses of scale and bias. Every row of n to mean 0, variance 1, scaled by column.

    ``sources`` and ``rounding`` as for :func:`softmax`. scratch: 4 rows, each of whole vectors.
    """
    values, result, at = _ends(e, sources, rounding)
    behind = at + len(SHAPE_WORDS)
    n, held = e.word(at + SHAPE_WORDS.index("n")), e.floats(e.scratch)
    numbers = e.splat(e.number(behind)), e.splat(e.number(behind + 1))
    by_column = e.floats(e.word(behind + 2)), e.floats(e.word(behind + 3))
    pitch = e.b.and_(e.add(n, e.lanes - 1), e.i(-e.lanes))

    def some_rows(first: Value, size: int) -> None:
        def row(r: int) -> Row:
            place = e.mul(e.add(first, r), n)
            reads = [value.row(e, place) for value in values]

            def total(i: Value, some: Value | None) -> Value:
                seen = [read(i, some) for read in reads]
                made = seen[0] if len(seen) == 1 else e.b.fadd(*seen)
                # lanes that are not read are the zero point's, which need not mean 0
                return made if some is None else e.b.select(some, made, e.constant(0.0))

            return Row(total, e.at(held, e.mul(pitch, r)), result.row(e, place))

        normalise_rows(e, n, [row(r) for r in range(size)], numbers, scaling_by(e, by_column, size, []))

    rows_of_task(e, at, some_rows)
