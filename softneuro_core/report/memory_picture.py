"""Where every value lies and when: the memory plan of a program as data and as text. The page draws it again."""

from __future__ import annotations

import string
from collections.abc import Hashable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from softneuro_core.memory import Lifetime, color_whole
from softneuro_core.plan import AdapterStep
from softneuro_core.program import Program
from softneuro_core.report.table import Table
from softneuro_core.report.units import show_bytes
from softneuro_core.slots import Slot

WIDTH, HEIGHT = 72, 24
"""Largest picture in characters: steps across, addresses down."""
LETTERS = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Block:
    """``nbytes`` at ``offset`` of a device's arena, from step ``first`` to step ``last``; -1 and the number of steps
    are the caller's (inputs and outputs). ``kind`` is value or scratch."""

    name: str
    kind: str
    offset: int
    nbytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class ArenaPicture:
    """One device's memory. ``bound_bytes`` is what no plan can undercut, ``separate_bytes`` the sum of all blocks."""

    device: str
    nbytes: int
    bound_bytes: int
    separate_bytes: int
    steps: tuple[str, ...]
    blocks: tuple[Block, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def memory_picture(program: Program) -> tuple[ArenaPicture, ...]:
    """One picture per device that holds something."""
    lifetimes = program.slots.lifetimes
    return tuple(
        _picture(program, device, [life for life in lifetimes if life.device == device])
        for device in dict.fromkeys(life.device for life in lifetimes)
    )


def _picture(program: Program, device: str, lives: list[Lifetime]) -> ArenaPicture:
    if program.catalog.devices[device].supports_views:
        arena = program.arenas[device]
        offsets, nbytes, bound = dict(arena.offsets), arena.nbytes, arena.bound_bytes
    else:
        offsets, nbytes = _stacked(lives)
        bound = max(sum(x.nbytes for x in lives if x.first <= s <= x.last) for s in {life.first for life in lives})
    steps = tuple(
        s.step.adapter if isinstance(s.step, AdapterStep) else f"{s.step.name} ({s.step.routine})"
        for s in program.steps
    )
    blocks = [
        Block(
            _name(program, x.slot),
            "value" if isinstance(x.slot, Slot) else "scratch",
            offsets[x.slot],
            x.nbytes,
            x.first,
            x.last,
        )
        for x in lives
    ]
    separate = sum(life.nbytes for life in lives)
    return ArenaPicture(
        device, nbytes, bound, separate, steps, tuple(sorted(blocks, key=lambda b: (b.first, b.offset)))
    )


def _stacked(lives: list[Lifetime]) -> tuple[dict[Hashable, int], int]:
    """Whole allocations of a device without views, drawn one above the other."""
    colors = color_whole(lives)
    sizes = [0] * (max(colors.values(), default=-1) + 1)
    for life in lives:
        sizes[colors[life.slot]] = max(sizes[colors[life.slot]], life.nbytes)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return {slot: starts[color] for slot, color in colors.items()}, sum(sizes)


def _name(program: Program, slot: Hashable) -> str:
    if isinstance(slot, Slot):
        return str(slot)
    assert isinstance(slot, int)
    return f"scratch of {program.steps[slot].step.name}"


def memory_text(pictures: tuple[ArenaPicture, ...], constant_bytes: int) -> str:
    """Each device's arena, addresses down, steps across, and the largest blocks by letter."""
    lines = [f"packed weights: {show_bytes(constant_bytes)}"]
    for picture in pictures:
        lines += ["", *_arena_lines(picture)]
    return "\n".join(lines)


def _arena_lines(picture: ArenaPicture) -> Iterator[str]:
    separate, saved = show_bytes(picture.separate_bytes), show_bytes(picture.separate_bytes - picture.nbytes)
    yield (
        f"{picture.device}: arena of {show_bytes(picture.nbytes)} for {len(picture.blocks)} blocks; no plan needs less "
        f"than {show_bytes(picture.bound_bytes)}, separate buffers {separate} (sharing saves {saved})"
    )
    largest = sorted(picture.blocks, key=lambda b: -b.nbytes)[: len(LETTERS)]
    letters = {id(block): letter for block, letter in zip(largest, LETTERS, strict=False)}
    yield from (f"    |{row}|" for row in _grid(picture, letters))
    rows = [
        (letters[id(b)], b.name, show_bytes(b.nbytes), show_bytes(b.offset), _span(picture, b)) for b in largest[:20]
    ]
    yield from (
        "    " + line for line in Table.of(("", "largest blocks", ">size", ">at", "lives"), rows).text().splitlines()
    )
    if len(picture.blocks) > 20:
        yield f"    and {len(picture.blocks) - 20} smaller ones"


def _span(picture: ArenaPicture, block: Block) -> str:
    first = "input" if block.first < 0 else f"step {block.first}"
    last = "output" if block.last >= len(picture.steps) else f"step {block.last}"
    return first if first == last else f"{first} to {last}"


def _grid(picture: ArenaPicture, letters: dict[int, str]) -> list[str]:
    """Rows of characters; a cell shows the largest block that lies there then, ``.`` is free memory."""
    columns = len(picture.steps) + 2  # the caller's turn before and after the steps
    width, height = min(WIDTH, columns), min(HEIGHT, max(1, picture.nbytes))
    cells = [["."] * width for _ in range(height)]
    for block in sorted(picture.blocks, key=lambda b: b.nbytes):
        left, right = (block.first + 1) * width // columns, (block.last + 1) * width // columns
        top = block.offset * height // max(1, picture.nbytes)
        bottom = -(-(block.offset + block.nbytes) * height // max(1, picture.nbytes))
        for y in range(top, min(height, max(bottom, top + 1))):
            for x in range(left, right + 1):
                cells[y][x] = letters.get(id(block), "*")
    return ["".join(row) for row in cells]
