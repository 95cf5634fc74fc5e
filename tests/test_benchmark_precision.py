"""Classes of precision in the benchmarks: who is compared with whom, how answers are judged, engines that round."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from benchmarks.engines import ENGINES
from benchmarks.inputs import CALIBRATION_SEED, VALIDATION_SEED, alike, calibration
from benchmarks.match import best_peer, ratios
from benchmarks.models import Model
from benchmarks.nets import sample
from benchmarks.nets.builder import Builder
from benchmarks.peers import arguments, table_of
from benchmarks.precision import ANY, BFLOAT16, FLOAT32, GPU_HALF, PRECISIONS, class_of
from benchmarks.processes import LODGERS, OWN_VENVS, EngineError, Process, own_venv, python_of

X = np.arange(1, 5, dtype=np.float32).reshape(1, 4)
MODEL = Model(Path("m.onnx"), {}, {"y": X, "z": -X})


def facts(us: float, **more: Any) -> dict[str, Any]:
    return {"median_us": us, "min_us": us, "runs": 3, "rounds_us": [us] * 3, "cpu_per_wall": 1.0, "void": None,
            "correct": True} | more  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_has_one_class_unless_any_precision_is_asked_for(engine):
    words = set(engine.split("-"))
    reduced = ANY if words & {"int8", "mixed"} else BFLOAT16 if "bf16" in words else FLOAT32
    reduced = GPU_HALF if "half" in words else reduced
    assert class_of(engine, FLOAT32) is class_of(engine, BFLOAT16) is reduced
    assert class_of(engine, ANY) is ANY


def test_classes_name_engines_there_are():
    for precision in PRECISIONS.values():
        assert {precision.ours, *precision.engines} <= set(ENGINES)
        assert all(class_of(engine, precision) is precision for engine in (precision.ours, *precision.engines))
    assert set(LODGERS.values()) <= set(OWN_VENVS) and own_venv("litert-int8") == own_venv("litert")


def test_in_any_precision_all_are_compared_with_ours_mixed():
    engines = {
        "softneuro": facts(1),
        "softneuro-mixed": facts(2),
        "openvino-bf16": facts(6),
        "onnxruntime-int8": facts(4),
        "openvino-int8": facts(1, correct=False),
    }
    assert best_peer(engines, ANY) == "onnxruntime-int8"
    assert {name: found[0] for name, found in ratios(engines, ANY).items()} == {
        "openvino-bf16": 3, "onnxruntime-int8": 2, "openvino-int8": 0.5,
    }  # fmt: skip
    assert best_peer(engines, BFLOAT16) == "openvino-bf16" and best_peer(engines, FLOAT32) is None
    assert set(ratios(engines, FLOAT32)) == {"onnxruntime-int8", "openvino-int8"}  # no ours in bfloat16


def test_any_precision_is_judged_by_the_cosine_of_all_outputs():
    far = {"y": 2 * X, "z": -2 * X}
    assert ANY.verdict(MODEL, far)["cosine"] == pytest.approx(1) and ANY.verdict(MODEL, far)["correct"]
    turned = {"y": X, "z": X}
    assert ANY.verdict(MODEL, turned) == {"error": 2, "cosine": pytest.approx(0), "correct": False}
    assert FLOAT32.verdict(MODEL, far) == {"error": 1, "correct": False}
    near = {"y": X * np.float32(1.05), "z": -X}
    assert [p.verdict(MODEL, near)["correct"] for p in (FLOAT32, BFLOAT16, ANY)] == [False, True, True]


@pytest.mark.parametrize("z", [None, X[:, :3], X * np.float32("nan")])
def test_outputs_that_are_missing_misshapen_or_not_finite_are_like_nothing(z):
    found = ANY.verdict(MODEL, {"y": X} | ({} if z is None else {"z": z}))
    assert found == {"error": float("inf"), "cosine": 0.0, "correct": False}


def test_the_class_decides_engines_and_file():
    plain, mixed = arguments([]), arguments(["--precision", "any", "resnet50"])
    assert plain.engines == ["softneuro", "onnxruntime", "openvino", "ncnn", "deepsparse", "litert"]
    assert (plain.precision, plain.out.name) == (FLOAT32, "peers.jsonl")
    assert mixed.engines == ["softneuro-mixed", *ANY.engines]
    assert (mixed.precision, mixed.out.name, mixed.nets) == (ANY, "peers-any.jsonl", ["resnet50"])
    assert arguments(["--engines", "openvino-bf16,softneuro-bf16"]).engines == ["openvino-bf16", "softneuro-bf16"]


def test_the_table_shows_the_cosine_where_it_decides():
    more = {"gflops": 1.0, "peak_bytes": None, "load_s": 0.0, "error": 0.05}
    engines = {"a": facts(1, **more, cosine=0.99712), "b": facts(1, **more, cosine=0.5) | {"correct": False}}
    text = io.StringIO()
    Console(file=text, width=200).print(
        table_of([{"model": "m", "threads": 1, "engines": engines, "ratios": {}, "best": "a"}])
    )
    assert "cos 0.99712" in text.getvalue() and "WRONG cos 0.50000" in text.getvalue()


def test_samples_are_alike_the_same_every_time_and_never_those_that_are_timed():
    feeds = {"image": X, "ids": np.array([[5, 6]]), "attention_mask": np.ones((1, 2), np.int64)}
    first, again = calibration(feeds), calibration(feeds)
    for one, other in zip(first, again, strict=True):
        assert all((one[name] == other[name]).all() for name in feeds)
        assert all(one[name].shape == a.shape and one[name].dtype == a.dtype for name, a in feeds.items())
        assert (one["attention_mask"] == 1).all() and one["ids"].min() >= 0
    others = [*first, *alike(feeds, 8, VALIDATION_SEED)]
    assert CALIBRATION_SEED != VALIDATION_SEED and len({s["image"].tobytes() for s in others}) == len(others)


def small_net(folder: Path) -> Path:
    b = Builder("net")
    x = b.conv(b.input("image", (1, 3, 16, 16)), 8, 3, 2)
    x = b.same("Add", x, b.depthwise(x, 3))
    return b.save(folder, b.gemm(b.flat(b.global_pool(b.conv(x, 16, 1, act="hardswish"))), 5))


@pytest.mark.parametrize(
    "engine",
    [
        "onnxruntime-int8",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in ("softneuro-mixed", "softneuro-int8", "openvino-int8", "openvino-int8-bf16", "litert-int8")
        ),
    ],
)
def test_engines_that_round_stay_near(engine, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    try:
        python_of(engine)
    except EngineError as error:
        pytest.skip(str(error))
    path = small_net(tmp_path)
    feeds = sample(path)
    np.savez(tmp_path / "feeds.npz", **feeds)
    common = {"model": str(path), "feeds": str(tmp_path / "feeds.npz"), "threads": 1, "folder": str(tmp_path / "own")}
    (tmp_path / "own").mkdir()
    process = Process(engine, 1, tmp_path / "log", SOFTNEURO_CACHE_DIR=str(tmp_path / "cache"))
    try:
        process.ask(280, do="prepare", **common)
        process.ask(60, do="load", **common)
        process.ask(60, do="outputs", file=str(tmp_path / "outputs.npz"))
    finally:
        process.close()
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    exact = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))
    with np.load(tmp_path / "outputs.npz") as made:
        found = ANY.verdict(Model(path, feeds, exact), dict(made))
    assert found["correct"] and found["error"] > 1e-5  # near, and really rounded
