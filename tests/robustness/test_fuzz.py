"""Damaged model files end in one clear error: thousands of mutants of real files, each batch in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared_models import ROOT

REPOSITORY = Path(__file__).resolve().parents[2]
DIGITS = REPOSITORY / "examples" / "digits" / "digits.onnx"
OTHERS = [
    ROOT / name
    for name in (
        "mnist_cnn_cntk/mnist.onnx",
        "samplenet_cifar10/samplenet.onnx",
        "kws_dscnn_mlperf/kws_f32.onnx",
        "fsdd_dscnn/fsdd_dscnn.onnx",
        "silero_vad/silero_vad.onnx",
        "resnet8_cifar10_mlperf/resnet8_int8_qdq.onnx",
    )
]


def _fuzz(file: Path, first: int, count: int) -> dict[str, int]:
    """How the mutants ended; fails if one did not end well or the interpreter crashed."""
    command = [sys.executable, "-m", "tests.robustness.fuzz", str(file), str(first), str(count)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=1500)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    where = done.stderr.strip().splitlines()[-3:]
    assert done.returncode == 0, f"the interpreter died ({done.returncode}) at {where}"
    bad = [line for line in lines if "error" in line]
    assert not bad, f"{len(bad)} mutants of {file.name} ended badly, first: {bad[0]}"
    tally = lines[-1]["done"]
    assert sum(tally.values()) == count
    return tally


def test_mutants_of_the_demo_model_end_well() -> None:
    tally = _fuzz(DIGITS, 0, 200)
    assert tally.get("ModelError", 0) > 20
    assert tally.get("ran", 0) > 10


@pytest.mark.long
@pytest.mark.timeout(1600)
@pytest.mark.parametrize("file", [DIGITS, *OTHERS], ids=lambda p: p.stem)
@pytest.mark.parametrize("first", [10_000, 20_000])
def test_thousands_of_mutants_end_well(file: Path, first: int) -> None:
    if not file.exists():
        pytest.skip(f"{file} is not there")
    _fuzz(file, first, 300)
