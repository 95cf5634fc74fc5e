"""Lanes, memory picture, trace and page: geometry that cannot lie, and pages that parse."""

from __future__ import annotations

from html.parser import HTMLParser
from itertools import pairwise
from random import Random

import numpy as np
import pytest

import softneuro_core as sn
from softneuro_core.program import prepare
from softneuro_core.report import chrome_trace
from softneuro_core.report.html import Measured, memory_page, report_page
from softneuro_core.report.lanes import DrawnStep, place
from softneuro_core.report.memory_picture import memory_picture, memory_text
from softneuro_core.report.units import show_bytes, show_count, show_layers, show_shape, show_us
from softneuro_core.session import StepTime
from softneuro_core.task import Tuned
from tests.core.models import image

VOID = {"meta", "input", "br", "col", "link"}


class Checker(HTMLParser):
    """Counts tags, and fails on one closed out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: dict[str, int] = {}
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] = self.seen.get(tag, 0) + 1
        self.links += [v or "" for k, v in attrs if k in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] = self.seen.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def _parsed(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert not checker.open
    return checker


def _random_steps(seed: int) -> list[DrawnStep]:
    rng, made, steps = Random(seed), [("in", 0)], [DrawnStep((), (("in", 0),))]
    for i in range(1, rng.randrange(5, 60)):
        reads = tuple(rng.sample(made, min(len(made), rng.randrange(0, 4))))
        makes = tuple((f"v{i}", k) for k in range(rng.randrange(0, 3)))
        steps.append(DrawnStep(reads, makes))
        made = (made + list(makes))[-8:]
    return steps


@pytest.mark.parametrize("seed", range(50))
def test_no_value_runs_through_a_step_or_another_value(seed: int) -> None:
    steps = _random_steps(seed)
    drawing = place(steps)
    spans: dict[object, tuple[int, int, int]] = {}
    for edge in drawing.edges:
        lane, start, end = spans.get(edge.key, (edge.lane, edge.start, edge.end))
        assert lane == edge.lane
        spans[edge.key] = (lane, start, max(end, edge.end))
    for key, (lane, start, end) in spans.items():
        assert lane < drawing.width
        for row in range(start + 1, end):
            assert drawing.lanes[row] != lane, (key, row)
        for other, (lane_2, start_2, end_2) in spans.items():
            assert other == key or lane_2 != lane or end_2 <= start or end <= start_2
    read = {key for step in steps for key in step.reads}
    assert {edge.key for edge in drawing.edges} == read


def test_a_chain_stays_in_one_lane() -> None:
    steps = [DrawnStep((), (0,)), *(DrawnStep((i,), (i + 1,)) for i in range(500))]
    drawing = place(steps)
    assert set(drawing.lanes) == {0}
    assert drawing.width == 1


def test_blocks_alive_together_never_overlap(tuned: Tuned, catalog: sn.Catalog) -> None:
    pictures = memory_picture(prepare(tuned.form.graph, tuned.plan, catalog))
    assert {p.device for p in pictures} == {"cpu", "fake"}
    for picture in pictures:
        assert picture.blocks
        for a in picture.blocks:
            assert a.offset + a.nbytes <= picture.nbytes
            for b in picture.blocks:
                together = a is not b and a.first <= b.last and b.first <= a.last
                assert not together or a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset
        assert picture.bound_bytes <= picture.nbytes
    text = memory_text(pictures, 12345)
    assert "packed weights: 12.1 KiB" in text
    assert "x as cpu:float32:NCHW" in text
    page = _parsed(memory_page("net", pictures, 12345))
    assert page.seen["svg"] == len(pictures)


def test_the_page_is_whole_and_loads_nothing(tuned: Tuned, catalog: sn.Catalog) -> None:
    times = [StepTime(s.name, "cpu/x", s.us * 2, s.us, 0.0) for s in tuned.plan.steps]
    measured = Measured({"median_us": 123.0, "min_us": 100.0, "runs": 7}, times)
    page = report_page(tuned, catalog, measured=measured)
    parsed = _parsed(page)
    assert not parsed.links
    assert "http" not in page.replace("http-equiv", "")
    assert parsed.seen["details"] == len(tuned.plan.kernel_steps)
    assert parsed.seen["tr"] > len(tuned.plan.steps)
    assert "123 us" in page
    assert 'class="mark"' in page
    for words in ("Proven optimal", "fake:float32", "Conversions", "Memory", "fake/"):
        assert words in page


def test_names_cannot_break_the_page(catalog: sn.Catalog) -> None:
    from onnx import helper

    from softneuro_core.tuning import tune_fully
    from tests.core.models import model

    name = '<script>alert("1")</script>&\''
    graph = sn.load(model([helper.make_node("Relu", ["x"], [name], name)], {"x": [4]}, [name]), catalog=catalog)
    done = tune_fully(graph, sn.Request(), 1, 0, catalog=catalog)
    page = report_page(done, catalog)
    assert _parsed(page).seen["script"] == 1
    assert "<script>alert" not in page


def test_a_large_plan_is_drawn(free: Tuned, catalog: sn.Catalog) -> None:
    page = report_page(free, catalog)
    assert all(layer.name in page for layer in free.form.graph.layers)
    _parsed(page)


def test_the_trace_has_an_event_a_step(tuned: Tuned, catalog: sn.Catalog) -> None:
    with sn.Session(tuned.form.graph, tuned.plan, catalog=catalog) as session:
        times = session.profile({"x": image()}, runs=3)
    trace = chrome_trace("net", times)
    steps = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    assert [e["name"] for e in steps] == [s.name for s in tuned.plan.steps]
    assert all(b["ts"] >= a["ts"] for a, b in pairwise(steps))
    names = {e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
    assert names == {"cpu", "fake"}
    assert len({e["tid"] for e in steps}) == 2


def test_numbers_are_readable() -> None:
    assert [show_us(x) for x in (0.123, 45.67, 999.4, 1234.0, 123456.0, 2.5e6)] == [
        "0.12 us",
        "45.7 us",
        "999 us",
        "1.23 ms",
        "123 ms",
        "2.50 s",
    ]
    assert [show_bytes(x) for x in (0, 1023, 1536, 5 * 2**20)] == ["0 B", "1023 B", "1.5 KiB", "5.0 MiB"]
    assert [show_count(x) for x in (7, 12345, 4.1e7)] == ["7", "12.3 k", "41 M"]
    assert [show_shape(s) for s in ((1, 3), ("N", None), (), None)] == ["1x3", "Nx?", "scalar", "unknown"]
    assert show_layers(["/a/b/Conv", "/a/b/Relu"]) == "/a/b/Conv + Relu"
    assert show_layers(["/a/b/Conv", "/a/c/Relu", "fc"]) == "/a/b/Conv + c/Relu + fc"
    assert show_layers(["conv", "relu"]) == "conv + relu"
    assert np.isfinite(float(show_us(1e-9).split()[0]))
