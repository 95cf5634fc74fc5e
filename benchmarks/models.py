"""Models with stored real inputs and outputs: which there are, what to feed them, and whether an answer is right."""

from __future__ import annotations

import os
import wave
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "models"
QUANTISED = ("int8", "qdq")
VAD_CONTEXT, VAD_WINDOW, VAD_RATE = 64, 512, 16000


@dataclass(frozen=True, slots=True)
class Model:
    """One model file, one real input of it (batch 1 where the batch is free), and the outputs it must give."""

    path: Path
    feeds: Mapping[str, np.ndarray]
    expected: Mapping[str, np.ndarray]

    @property
    def tolerance(self) -> float:
        """Largest error allowed, relative to the largest absolute output; quantised files are counted in steps:
        onnxruntime with and without optimisations lies seven of 211 apart (decision 0013), and a little more is let
        through."""
        if any(word in self.path.stem for word in QUANTISED):
            return 10 / 255
        return 5e-3 if "fp16" in self.path.stem else 2e-4

    def error(self, made: Mapping[str, np.ndarray]) -> float:
        """Largest deviation over all outputs, relative to each one's largest absolute value; infinite where a shape
        differs or a value is not finite."""
        return max((_deviation(made[name], want) for name, want in self.expected.items()), default=0.0)

    def cosine(self, made: Mapping[str, np.ndarray]) -> float:
        """Of the angle between all outputs, end to end, and those expected; 0 where a shape differs or a value is not
        finite."""
        if any(made[name].shape != want.shape for name, want in self.expected.items()):
            return 0.0
        mine, exact = (_end_to_end(arrays[name] for name in self.expected) for arrays in (made, self.expected))
        lengths = float(np.linalg.norm(mine) * np.linalg.norm(exact))
        return float(mine @ exact) / lengths if lengths and np.isfinite(lengths) else 0.0


def _end_to_end(arrays: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.astype(np.float64).ravel() for array in arrays])


def _deviation(made: np.ndarray, want: np.ndarray) -> float:
    if made.shape != want.shape or not np.isfinite(made).all():
        return float("inf")
    exact = want.astype(np.float64)
    scale = float(np.abs(exact).max(initial=0)) or 1.0
    return float(np.abs(made.astype(np.float64) - exact).max(initial=0)) / scale


def models_folder(given: str | None) -> Path:
    """The folder named on the command line, else by SOFTNEURO_MODELS, else the one beside the repository."""
    return Path(given or os.environ.get("SOFTNEURO_MODELS") or DEFAULT_FOLDER)


def named_models(folder: Path, words: Sequence[str]) -> list[Path]:
    """The ONNX files of the folder and its subfolders with one of the words in their names: without words all, but the
    quantised ones only where a word of ``QUANTISED`` asks for them."""
    asked = any(word in QUANTISED for word in words)
    kinds = [p for p in folder.rglob("*.onnx") if asked or not any(word in p.stem for word in QUANTISED)]
    return sorted(p for p in kinds if not words or any(word in p.stem for word in words))


def read_model(path: Path) -> Model:
    """The model with its sample; raises FileNotFoundError where none is stored beside it."""
    if path.stem == "silero_vad":
        return _first_speech_window(path)
    with np.load(path.with_suffix(".sample_io.npz")) as stored:
        feeds = {k.removeprefix("in:"): stored[k] for k in stored.files if k.startswith("in:")}
        expected = {k.removeprefix("out:"): stored[k] for k in stored.files if k.startswith("out:")}
    free = _free_batch(path, feeds)
    if free is None:
        return Model(path, feeds, expected)
    return Model(path, _first_sample(feeds, free), _first_sample(expected, free))


def _free_batch(path: Path, feeds: Mapping[str, np.ndarray]) -> int | None:
    """How many samples are stored, if the model's first dimension is free in every input."""
    graph = onnx.load(path, load_external_data=False).graph
    first = [i.type.tensor_type.shape.dim[:1] for i in graph.input if i.name in feeds]
    counts = {len(array) for array in feeds.values() if array.ndim}
    is_free = all(dim and dim[0].dim_value <= 0 for dim in first)
    return counts.pop() if is_free and len(counts) == 1 else None


def _first_sample(arrays: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    return {name: a[:1] if a.ndim and len(a) == count else a for name, a in arrays.items()}


def _first_speech_window(path: Path) -> Model:
    """The first 32 ms of the recording beside the model, with a fresh state."""
    with wave.open(str(path.with_name("test_16k.wav"))) as recording:
        samples = np.frombuffer(recording.readframes(VAD_WINDOW), np.int16).astype(np.float32) / 32768
    feeds = {
        "input": np.concatenate([np.zeros(VAD_CONTEXT, np.float32), samples])[None],
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.array(VAD_RATE, np.int64),
    }
    probability = np.load(path.with_name("expected_speech_probs.npy")).reshape(-1)[:1]
    return Model(path, feeds, {"output": probability.astype(np.float32).reshape(1, 1)})
