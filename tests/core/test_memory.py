"""The memory plan: slots alive together never share bytes; the arena is near the lower bound."""

from hypothesis import given
from hypothesis import strategies as st

from softneuro_core.memory import Lifetime, color_whole, plan_arenas

LIVES = st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 30), st.integers(0, 8)), min_size=1, max_size=40)


def _lifetimes(rows: list[tuple[int, int, int]]) -> list[Lifetime]:
    return [Lifetime(i, "cpu", size, first, first + length) for i, (size, first, length) in enumerate(rows)]


def _alive_together(a: Lifetime, b: Lifetime) -> bool:
    return a.first <= b.last and b.first <= a.last


@given(LIVES)
def test_no_two_live_slots_overlap(rows: list[tuple[int, int, int]]) -> None:
    lives = _lifetimes(rows)
    arena = plan_arenas(lives, {"cpu": 64})["cpu"]
    for a in lives:
        start = arena.offsets[a.slot]
        assert start % 64 == 0
        assert start + a.nbytes <= arena.nbytes
        for b in lives:
            if a is not b and _alive_together(a, b):
                other = arena.offsets[b.slot]
                assert start + a.nbytes <= other or other + b.nbytes <= start
    assert arena.bound_bytes <= arena.nbytes


@given(LIVES)
def test_whole_allocations_are_never_shared_by_the_living(rows: list[tuple[int, int, int]]) -> None:
    lives = _lifetimes(rows)
    colors = color_whole(lives)
    for a in lives:
        for b in lives:
            assert a is b or not _alive_together(a, b) or colors[a.slot] != colors[b.slot]


def test_a_chain_needs_only_its_two_largest_neighbours() -> None:
    sizes = [1024, 4096, 2048, 512, 512]
    lives = [Lifetime(i, "cpu", size, i, i + 1) for i, size in enumerate(sizes)]
    arena = plan_arenas(lives, {"cpu": 64})["cpu"]
    assert arena.nbytes == arena.bound_bytes == 4096 + 2048


def test_devices_have_arenas_of_their_own() -> None:
    lives = [Lifetime("a", "cpu", 100, 0, 1), Lifetime("b", "gpu", 100, 0, 1)]
    arenas = plan_arenas(lives, {"cpu": 64, "gpu": 256})
    assert arenas["cpu"].nbytes == 128
    assert arenas["gpu"].nbytes == 256
