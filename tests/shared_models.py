"""The real models next to the repository, if they are there: where they are and what they must compute."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(os.environ.get("SOFTNEURO_MODELS", Path(__file__).resolve().parents[2] / "shared" / "models"))

STEPS = {"mobilenetv2_ptq_qdq": 7}
"""Allowed integer steps where one is out of reach (decision 0013): this file computes its convolutions in float between
quantisers, where the order of a sum decides steps. onnxruntime with and without optimisations lies 7 steps apart."""


@dataclass(frozen=True, slots=True)
class SharedModel:
    """One model file with real inputs and the outputs onnxruntime gives for them (graph optimisations off)."""

    path: Path
    feeds: Mapping[str, np.ndarray]
    expected: Mapping[str, np.ndarray]

    @property
    def name(self) -> str:
        return self.path.stem

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: array.shape for name, array in self.feeds.items()}

    def check(self, made: Mapping[str, Any]) -> None:
        """Raises AssertionError beyond 2e-4 of the largest output (5e-3 for fp16 files, one step for integers but for
        ``STEPS``), or when the first choice of a classifier differs."""
        for name, want in self.expected.items():
            got = made[name]
            assert got.shape == want.shape and got.dtype == want.dtype, (name, got.shape, got.dtype)
            if want.dtype.kind in "iu":
                steps = np.abs(got.astype(np.int64) - want.astype(np.int64)).max(initial=0)
                assert steps <= STEPS.get(self.name, 1), (name, steps)
            else:
                bound = 5e-3 if "fp16" in self.name else 2e-4
                error = np.abs(got.astype(np.float64) - want.astype(np.float64)).max(initial=0)
                assert error <= bound * np.abs(want.astype(np.float64)).max(initial=0), (name, error)
            if want.ndim == 2:
                assert (got.argmax(-1) == want.argmax(-1)).all(), name


def shared_models() -> list[Path]:
    """Every ONNX file that has stored inputs and outputs beside it."""
    return sorted(p for p in ROOT.glob("*/*.onnx") if p.with_suffix(".sample_io.npz").exists())


def read_model(path: Path) -> SharedModel:
    with np.load(path.with_suffix(".sample_io.npz")) as stored:
        feeds = {k[3:]: stored[k] for k in stored.files if k.startswith("in:")}
        expected = {k[4:]: stored[k] for k in stored.files if k.startswith("out:")}
    return SharedModel(path, feeds, expected)


SILERO = ROOT / "silero_vad" / "silero_vad.onnx"


def silero_windows(count: int) -> list[tuple[np.ndarray, float]]:
    """The first windows of 512 samples of the recording, with the speech probability each must give."""
    import wave

    with wave.open(str(SILERO.with_name("test_16k.wav"))) as recording:
        samples = np.frombuffer(recording.readframes(count * 512), np.int16).astype(np.float32) / 32768
    wanted = np.load(SILERO.with_name("expected_speech_probs.npy"))
    return [(samples[i * 512 : (i + 1) * 512], float(wanted[i])) for i in range(count)]
