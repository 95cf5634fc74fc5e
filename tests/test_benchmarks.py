"""The benchmark's own arithmetic: turns, ratios, voided rows, wrong answers, rows that fail. No engine is timed."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, save
from rich.console import Console

from benchmarks.chart import chart
from benchmarks.engines import ENGINES
from benchmarks.interleaved import Timing, interleave, ratio
from benchmarks.joint import joint_of, told
from benchmarks.match import Match, best_peer, play, ratios
from benchmarks.models import Model, named_models, read_model
from benchmarks.nets import NETS, build, macs, sample
from benchmarks.precision import OPENCL
from benchmarks.processes import EngineError, Process
from benchmarks.roof import Row, worst
from benchmarks.row import _void, measure
from benchmarks.run import available_engines, goal_met, run_row, table_of

X = np.arange(4, dtype=np.float32).reshape(1, 4)


@dataclass(frozen=True)
class Doubling:
    """An engine that doubles its input, or forgets to."""

    name: str
    factor: float
    version: str = "1"
    facts: Mapping[str, Any] = field(default_factory=dict)

    def load(self, model: Path, feeds: Mapping[str, np.ndarray], threads: int) -> Doubling:
        return self

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"y": feeds["x"] * np.float32(self.factor)}


def timing(*rounds: float, cpu: float = 1.0) -> Timing:
    return Timing(len(rounds), float(np.median(rounds)), min(rounds), rounds, cpu)


def test_contestants_take_turns_and_all_are_timed():
    order: list[str] = []
    found = interleave({"a": lambda: order.append("a"), "b": lambda: (order.append("b"), time.sleep(0.001))}, rounds=3)
    assert [len(t.rounds_us) for t in found.values()] == [3, 3]
    assert 0 < found["a"].min_us <= found["a"].median_us
    assert found["b"].min_us >= 1000
    turns = [name for name, before in zip(order, [None, *order], strict=False) if name != before]
    assert turns == ["a", "b"] * 3  # warming up, then rounds ab, ba, ab: the order turns
    assert order.count("a") > found["a"].runs  # the first run of a turn is not timed


def test_ratio_is_the_median_of_the_rounds_with_an_interval_around_it():
    middle, low, high = ratio(timing(2, 4, 6, 8), timing(1, 2, 3, 4))
    assert (middle, low, high) == (2, 2, 2)
    middle, low, high = ratio(timing(1, 2, 3, 4, 9), timing(1, 1, 1, 1, 1))
    assert low <= middle <= high and low < high and middle == 3


@pytest.mark.parametrize(
    ("cpu", "threads", "is_void"), [(1.04, 1, False), (1.06, 1, True), (2.09, 2, False), (2.2, 2, True)]
)
def test_rows_that_used_more_threads_than_allowed_are_void(cpu, threads, is_void):
    assert bool(_void(timing(1.0, cpu=cpu), threads)) == is_void


def test_a_row_says_which_engine_is_wrong():
    model = Model(Path("m.onnx"), {"x": X}, {"y": X * 2})
    row = measure(model, [Doubling("right", 2), Doubling("wrong", 2.1)], 1, 2)
    assert [row["engines"][name]["correct"] for name in ("right", "wrong")] == [True, False]
    assert row["engines"]["wrong"]["error"] == pytest.approx(0.05, rel=1e-3)
    assert set(row["ratios"]) == {"wrong"} and row["machine"]["cores"] >= 1
    text = io.StringIO()
    Console(file=text, width=160).print(
        table_of([json.loads(json.dumps(row)), {"model": "m", "threads": 1, "failed": "why"}])
    )
    assert "WRONG" in text.getvalue() and "failed: why" in text.getvalue()


def test_answers_of_another_shape_or_not_finite_are_infinitely_wrong():
    model = Model(Path("m.onnx"), {"x": X}, {"y": X})
    assert model.error({"y": X[:, :3]}) == float("inf")
    assert model.error({"y": X * np.float32("nan")}) == float("inf")
    assert (model.tolerance, Model(Path("m_fp16.onnx"), {}, {}).tolerance) == (2e-4, 5e-3)


def save_model(folder: Path, name: str, batch: str | int) -> None:
    """Relu over [batch, 4] with three stored samples."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [batch, 4]) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    save(helper.make_model(graph), folder / f"{name}.onnx")
    samples = np.ones((3, 4), np.float32)
    np.savez(folder / f"{name}.sample_io.npz", **{"in:x": samples, "out:y": samples})


def test_models_with_a_free_batch_get_one_sample(tmp_path):
    for name, batch in (("free", "n"), ("fixed", 3), ("net_int8", 3)):
        save_model(tmp_path, name, batch)
    found = named_models(tmp_path, [])
    assert [p.stem for p in named_models(tmp_path, ["int8"])] == ["net_int8"]
    assert [p.stem for p in found] == ["fixed", "free"]
    assert [read_model(p).feeds["x"].shape for p in found] == [(3, 4), (1, 4)]
    assert read_model(found[1]).expected["y"].shape == (1, 4)


def test_a_row_that_fails_names_the_reason_and_costs_only_itself(tmp_path):
    asked = argparse.Namespace(rounds=1, timeout=120, known_costs=False)
    row = run_row(tmp_path / "absent.onnx", 1, ["softneuro"], asked)
    assert row["failed"].startswith("FileNotFoundError") and row["model"] == "absent"


def test_missing_engines_are_named(monkeypatch):
    text = io.StringIO()
    monkeypatch.setitem(ENGINES, "ghost", "ghost")
    assert available_engines(["softneuro", "ghost"], Console(file=text, width=160)) == ["softneuro"]
    assert "without ghost" in text.getvalue()


def test_the_goal_counts_an_offset_for_tiny_models():
    row = SimpleNamespace(
        engines=lambda ours, peer: {"softneuro": {"median_us": ours}, "onnxruntime": {"median_us": peer}}
    )
    assert goal_met({"engines": row.engines(349, 100)})
    assert not goal_met({"engines": row.engines(351, 100)})


PUBLISHED_GMAC = {
    "resnet50": 4.09, "mobilenet_v2": 0.30, "mobilenet_v3_large": 0.217, "efficientnet_b0": 0.386,
    "squeezenet1_1": 0.349, "vit_tiny": 1.25, "bert_4": 0.436, "yolo_tiny": 0.26, "unet_small": 2.67,
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED_GMAC)
def test_networks_have_the_published_number_of_multiply_adds(name):
    assert macs(name) / 1e9 == pytest.approx(PUBLISHED_GMAC[name], rel=0.03)


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_1", "yolo_tiny", "bert_4"])
def test_networks_run_and_their_outputs_are_of_sane_size(name, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    path = build(name, tmp_path)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs = session.run(None, sample(path))
    assert build(name, tmp_path) == path and set(NETS) > {name}
    for output in outputs:
        assert np.isfinite(output).all() and 0.02 < output.std() < 30


def engine_facts(*rounds: float, **more: Any) -> dict[str, Any]:
    return {"median_us": float(np.median(rounds)), "min_us": min(rounds), "runs": len(rounds),
            "rounds_us": list(rounds), "cpu_per_wall": 1.0, "void": None, "correct": True} | more  # fmt: skip


def test_the_best_peer_is_right_fast_and_keeps_to_its_threads():
    engines = {
        "softneuro": engine_facts(2, 2, 4),
        "slow": engine_facts(9, 9, 9),
        "good": engine_facts(4, 6, 4),
        "wrong": engine_facts(1, 1, 1, correct=False),
        "greedy": engine_facts(1, 1, 1, void="kept 2 cores busy"),
        "x-bf16": engine_facts(1, 1, 1),
        "absent": {"failed": "no"},
    }
    assert best_peer(engines) == "good"
    found = ratios(engines)
    assert found["good"][0] == 2 and found["good"][1] <= 2 <= found["good"][2]
    assert {"absent", "x-bf16", "softneuro"}.isdisjoint(found)


def test_a_joint_plan_is_held_against_the_better_device_alone():
    split = {"devices": {"cpu": 3, "opencl": 2}, "transfers": 4}
    engines = {
        "softneuro-opencl": engine_facts(30.0, 30.0, 33.0),
        "softneuro-cpu": engine_facts(20.0, 20.0, 22.0),
        "softneuro": engine_facts(10.0, 20.0, 11.0, **split),
    }
    joint = joint_of(engines)
    assert joint["better"] == "softneuro-cpu" and joint["over"][0] == 0.5 and joint["over"][2] == 1.0
    line = told({"model": "net", "threads": 2, "joint": joint})
    assert "0.50" in line and "3 steps on cpu, 2 steps on opencl, 4 transfers" in line
    assert joint_of({**engines, "softneuro-cpu": {"failed": "no such thing"}}) is None
    assert joint_of({"softneuro": engines["softneuro"]}) is None
    assert joint_of({**engines, "softneuro": engines["softneuro"] | {"correct": False}}) is None


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="processes cannot be kept to cores here")
def test_all_engines_run_on_the_same_cores_in_a_round(tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    match = Match(tmp_path / "x.onnx", {}, 1, 1, ["softneuro"], 1)
    if len(cores) > 1:
        assert [match.cores_of(number) for number in range(3)] == [{cores[n % len(cores)]} for n in range(3)]
    assert Match(tmp_path / "x.onnx", {}, 1, len(cores), ["softneuro"], 1).cores_of(0) is None
    assert Match(tmp_path / "x.onnx", {}, 1, 1, ["softneuro"], 1, precision=OPENCL).cores_of(0) is None
    process = fake_process("softneuro", 1, tmp_path / "log")
    process.keep_to(cores[-1:])
    assert os.sched_getaffinity(process._process.pid) == {cores[-1]}
    process.close()


def test_an_opencl_device_takes_part_only_in_its_own_class(tmp_path):
    match = Match(tmp_path / "x.onnx", {}, 1, 1, ["softneuro"], 1)
    assert match.environment == {"SOFTNEURO_DISABLE_PLUGINS": "opencl"} and match.threads_of("softneuro") == 1
    match = Match(tmp_path / "x.onnx", {}, 1, 1, ["softneuro"], 1, precision=OPENCL, opencl_threads=2)
    assert match.environment == {"CL_CONFIG_CPU_TBB_NUM_WORKERS": "2"}
    assert [match.threads_of(name) for name in ("softneuro-opencl", "softneuro-cpu", "onnxruntime")] == [2, 1, 1]


FAKE = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
import numpy as np
from benchmarks.worker import Host, serve

class Fake:
    name, version, facts = "fake", "1", {{"colour": "red"}}
    def load(self, model, feeds, threads):
        if {factor} == 0:
            raise ValueError("cannot read it")
        return self
    def run(self, feeds):
        if {factor} < 0:
            sys.exit("gone")
        return {{"y": feeds["x"] * np.float32({factor})}}

serve(Host(Fake), sys.stdin, sys.stdout)
"""
ROOT = Path(__file__).resolve().parents[1]
FACTORS = {"onnxruntime": 2.0, "softneuro": 2.0, "wrong": 3.0, "refusing": 0.0, "dying": -1.0}


def fake_process(name: str, threads: int, log: Path, **more: str) -> Process:
    code = FAKE.format(root=str(ROOT), factor=FACTORS[name])
    return Process(name, threads, log, [sys.executable, "-c", code], **more)


def test_a_match_is_played_in_processes_and_failures_cost_only_their_own_engine(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.match.TURN_S", 0.002)
    match = Match(Path("m.onnx"), {"x": X}, 4, 1, list(FACTORS), 3, start=fake_process)
    row = json.loads(json.dumps(play(match, lambda text: None)))
    engines = row["engines"]
    assert "cannot read it" in engines["refusing"]["failed"] and "gone" in engines["dying"]["failed"]
    assert engines["softneuro"]["correct"] and not engines["wrong"]["correct"]
    assert engines["wrong"]["error"] == pytest.approx(0.5)
    assert engines["softneuro"]["colour"] == "red" and len(engines["softneuro"]["rounds_us"]) == 3
    assert row["best"] in ("onnxruntime", None) and set(row["ratios"]) == {"onnxruntime", "wrong"}
    row["best"] = "onnxruntime"
    drawn = chart([row])
    assert drawn.startswith("<svg") and "(onnxruntime)" in drawn and "1 thread<" in drawn


def test_an_engine_that_hangs_is_ended(tmp_path):
    hanging = Process("x", 1, tmp_path / "log", [sys.executable, "-c", "import time; time.sleep(60)"])
    with pytest.raises(EngineError, match="no answer within 0 s"):
        hanging.ask(0.2, do="memory")


def test_the_worst_steps_are_those_that_lose_most_time_not_those_of_the_lowest_rate():
    large, small, moving = (
        Row(name, "r", us, us, macs)
        for name, us, macs in (("large", 1000.0, 40_000_000), ("small", 10.0, 1000), ("moving", 50.0, 0))
    )
    assert large.gflops() == pytest.approx(80) and large.lost_us(100) == pytest.approx(200)
    assert [row.name for row in worst([small, moving, large], 100)] == ["large", "moving", "small"]
