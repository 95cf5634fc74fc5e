"""The demo's model and data: small, honest, and right; the training code's gradients; the rivals' pins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from rich.console import Console

import softneuro_core as sn
from examples.digits import show, train
from examples.digits.mixed import MAX_DROP, tune_mixed
from examples.digits.single import single_choices
from softneuro_core.catalog import load_plugins
from softneuro_core.descriptor import parse

HERE = Path(__file__).resolve().parents[1] / "examples" / "digits"


def heldout() -> tuple[np.ndarray, np.ndarray]:
    with np.load(HERE / "heldout.npz") as stored:
        return stored["x"] / np.float32(16), stored["y"]


def test_the_files_are_small_and_the_model_is_plain_onnx():
    assert (HERE / "digits.onnx").stat().st_size < 1_000_000
    model = onnx.load(HERE / "digits.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {o.domain: o.version for o in model.opset_import} == {"": 17}
    images, labels = heldout()
    assert images.shape == (360, 1, 8, 8) and set(labels.tolist()) == set(range(10))


def test_a_session_reaches_the_accuracy_the_readme_states():
    images, labels = heldout()
    graph = sn.load(HERE / "digits.onnx", {"image": images.shape})
    plan = sn.tune(graph, threads=1, budget_s=0, catalog=load_plugins(only=()))  # the reference, no plugin
    with sn.Session(graph, plan) as session:
        answers = session.run({"image": images})["probabilities"].argmax(1)
    right = int((answers == labels).sum())
    assert f"{right} of the 360" in (HERE / "README.md").read_text(encoding="utf-8")
    assert right >= 0.97 * len(labels)


def test_the_mixed_plan_keeps_the_answers():
    images, labels = heldout()
    made = tune_mixed(HERE / "digits.onnx", images, labels, load_plugins(), 1, budget_s=0)
    assert made.images == 120 and made.found.samples == 120
    assert len(made.found.noise) > 4, "layers were tried on their grids"
    assert made.found.chosen.drop <= MAX_DROP
    assert made.exact >= 0.97 and made.kept >= made.exact - 0.03
    console = Console(record=True, width=400)
    show.mixed(console, made)
    assert f"{made.kept:.1%} of 120 images right" in console.export_text()


@pytest.mark.parametrize(
    ("block", "shape"),
    [
        (train.Conv(np.random.default_rng(0), 2, 3, 3), (2, 2, 4, 4)),
        (train.Conv(np.random.default_rng(0), 2, 3, 1), (2, 2, 4, 4)),
        (train.Conv(np.random.default_rng(0), 3, 3, 3, depthwise=True), (2, 3, 4, 4)),
        (train.BatchNorm(3), (4, 3, 2, 2)),
        (train.MaxPool(), (2, 2, 4, 4)),
        (train.Gemm(np.random.default_rng(0), 5, 4), (3, 5)),
    ],
    ids=["conv3", "conv1", "depthwise", "norm", "pool", "gemm"],
)
def test_gradients_are_those_of_finite_differences(block, shape):
    rng = np.random.default_rng(1)
    x = rng.normal(size=shape)
    weights = rng.normal(size=block.forward(x, True).shape)
    backward = block.backward(weights)

    def loss() -> float:
        return float((block.forward(x, True) * weights).sum())

    block.params = {key: value.astype(np.float64) for key, value in block.params.items()}
    for array, grad in [(x, backward), *((block.params[k], block.grads[k]) for k in block.params)]:
        index = tuple(rng.integers(0, n) for n in array.shape)
        step = 1e-5
        array[index] += step
        up = loss()
        array[index] -= 2 * step
        down = loss()
        array[index] += step
        assert grad[index] == pytest.approx((up - down) / (2 * step), rel=1e-3, abs=1e-5)


def test_single_choices_cover_all_convolutions_or_are_none():
    """Only with the reference there is no choice to make; with plugins each pins every convolution it names."""
    graph = sn.load(HERE / "digits.onnx", {"image": (1, 1, 8, 8)})
    assert single_choices(graph, load_plugins(only=()), 1) == {}
    convolutions = {layer for layer in graph.layers if layer.op == "Conv"}
    found = single_choices(graph, load_plugins(), 1)
    for name, pins in found.items():
        if name.startswith("all convolutions"):
            assert {layer for pin in pins for layer in parse(pin).selects(graph)} == convolutions
