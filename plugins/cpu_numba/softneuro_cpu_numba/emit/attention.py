"""softmax(Q K^T * scale + mask) V for a block of queries: the scores never leave the cache of the core."""

from __future__ import annotations

from collections.abc import Sequence

from softneuro_cpu_numba.emit.emitter import Emitter, Value
from softneuro_cpu_numba.emit.matmul import multiply, pack_panel
from softneuro_cpu_numba.emit.norm import Row, softmax_rows
from softneuro_cpu_numba.emit.tasks import neighbours, once, room
from softneuro_cpu_numba.emit.tile import in_pieces
from softneuro_cpu_numba.native import emitted
from softneuro_cpu_numba.tiles import ROWS_TOGETHER

ARGUMENTS = (
    *("q", "k", "v", "mask", "y", "offsets", "starts"),
    *("queries", "keys", "depth", "values", "q_row", "k_step", "v_step", "mask_row", "y_row"),
    *("row_tasks", "rows_per_task", "most_tasks", "wide", "panels", "pitch"),
)
"""Then the scale. ``offsets``: int64 [batch, 5], where an entry's Q, K, V, mask and Y begin; ``starts`` the first
columns of V's panels; ``pitch`` the floats between two rows of scores, a multiple of a panel's width."""


@emitted
def attention(
    e: Emitter,
    pieces: Sequence[int],
    vectors: int,
    narrow_pieces: Sequence[int],
    k_across: bool,
    v_across: bool,
    mask: bool,
    masked: bool,
) -> None:
    """A task is one entry of the batch and a block of its queries; K and V are packed when the entry changes.

    ``k_across``: the numbers of one depth lie together over the keys; else those of one key over the depth.
    ``v_across``: those of one key lie together. ``masked`` if V has fewer columns than lanes.
    scratch: scores of the rows done together, [row][pitch], then K's and V's panels.
    """
    a = dict(zip(ARGUMENTS, e.words(0, len(ARGUMENTS)), strict=True))
    scale = e.splat(e.number(len(ARGUMENTS)))
    q, k, v, bias, y = (e.floats(a[name]) for name in ("q", "k", "v", "mask", "y"))
    offsets, starts, scores = e.integers(a["offsets"]), e.integers(a["starts"]), room(e)
    width = vectors * e.lanes
    keys_at = e.at(scores, e.mul(a["rows_per_task"], a["most_tasks"], a["pitch"]))
    values_at = e.at(keys_at, e.mul(a["depth"], a["pitch"]))
    zeros = [e.constant(0.0)] * vectors
    narrow_at = e.mul(a["wide"], (vectors - 1) * e.lanes)
    sum_mask = e.lanes_below(a["values"]) if masked else None

    def value_panel(number: Value, narrow: bool) -> Value:
        """Where a panel of V lies: the narrow ones behind the wide ones."""
        columns = e.add(narrow_at, e.mul(number, e.lanes)) if narrow else e.mul(number, width)
        return e.at(values_at, e.mul(columns, a["keys"]))

    def pack(keys: Value, values: Value) -> None:
        def key_panel(column: Value) -> None:
            source = e.at(keys, column if k_across else e.mul(column, a["k_step"]))
            exist = e.smaller(width, e.sub(a["keys"], column))
            into = e.at(keys_at, e.mul(column, a["depth"]))
            pack_panel(e, source, a["k_step"], a["depth"], exist, vectors, into, k_across)

        def panel(number: Value, narrow: bool) -> None:
            column = e.integer(starts, number)
            source = e.at(values, column if v_across else e.mul(column, a["v_step"]))
            count = 1 if narrow else vectors
            exist = e.smaller(count * e.lanes, e.sub(a["values"], column))
            pack_panel(e, source, a["v_step"], a["keys"], exist, count, value_panel(number, narrow), v_across)

        e.loop(a["keys"], key_panel, step=width)
        e.loop(a["wide"], lambda p: panel(p, False))
        e.loop(a["panels"], lambda p: panel(p, True), first=a["wide"])

    def multiply_keys(count: Value, queries: Value) -> None:
        def key_panel(column: Value) -> None:
            def store(first: Value, size: int, sums: list[Value]) -> None:
                for r in range(size):
                    at = e.add(e.mul(e.add(first, r), a["pitch"]), column)
                    for i in range(vectors):
                        e.store(sums[r * vectors + i], scores, e.add(at, i * e.lanes))

            panel = e.at(keys_at, e.mul(column, a["depth"]))
            multiply(e, count, lambda r: e.at(queries, e.mul(r, a["q_row"])), panel, a["depth"], pieces, zeros, store)

        e.loop(a["keys"], key_panel, step=width)

    def weigh(count: Value, biases: Value) -> None:
        def row(r: Value) -> Row:
            own, added = e.at(scores, e.mul(r, a["pitch"])), e.at(biases, e.mul(r, a["mask_row"]))

            def read(i: Value, some: Value | None) -> Value:
                score = e.b.fmul(e.load(own, i), scale)
                if not mask:
                    return score
                return e.b.fadd(score, e.load(added, i) if some is None else e.load_some(added, i, some))

            return Row(read, own)

        def together(first: Value, size: int) -> None:
            softmax_rows(e, a["keys"], [row(e.add(first, i)) for i in range(size)])

        in_pieces(e, count, ROWS_TOGETHER, 1, together)

    def multiply_values(count: Value, out: Value) -> None:
        def panel(number: Value, narrow: bool) -> None:
            columns, sizes = (1, narrow_pieces) if narrow else (vectors, pieces)
            column = e.integer(starts, number)

            def store(first: Value, size: int, sums: list[Value]) -> None:
                for r in range(size):
                    at = e.add(e.mul(e.add(first, r), a["y_row"]), column)
                    for i in range(columns):
                        value = sums[r * columns + i]
                        if narrow and sum_mask is not None:
                            e.store_some(value, out, at, sum_mask)
                        else:
                            e.store(value, out, e.add(at, i * e.lanes))

            row_at = lambda r: e.at(scores, e.mul(r, a["pitch"]))  # noqa: E731
            multiply(e, count, row_at, value_panel(number, narrow), a["keys"], sizes, zeros[:columns], store)

        e.loop(a["wide"], lambda p: panel(p, False))
        e.loop(a["panels"], lambda p: panel(p, True), first=a["wide"])

    def tasks(number: Value, many: Value, _: Value) -> None:
        entry, block = e.divmod(number, a["row_tasks"])
        first = e.mul(block, a["rows_per_task"])
        here = e.smaller(e.mul(many, a["rows_per_task"]), e.sub(a["queries"], first))
        begins = [e.integer(offsets, e.add(e.mul(entry, 5), n)) for n in range(5)]
        once(e, entry, lambda: pack(e.at(k, begins[1]), e.at(v, begins[2])))
        multiply_keys(here, e.at(q, e.add(begins[0], e.mul(first, a["q_row"]))))
        weigh(here, e.at(bias, e.add(begins[3], e.mul(first, a["mask_row"]))))
        multiply_values(here, e.at(y, e.add(begins[4], e.mul(first, a["y_row"]))))

    neighbours(e, a["row_tasks"], 1, a["most_tasks"], tasks)
