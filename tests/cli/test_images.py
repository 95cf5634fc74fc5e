"""Pictures as inputs: what --image means, exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from softneuro_core.errors import InputError
from softneuro_core.graph import Value
from softneuro_core.images import ImageSpec, image_tensor
from softneuro_core.spec import DType
from tests.cli.conftest import Run, the_line
from tests.core.models import model as make_model

PIXELS = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3) * 3


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "p.png"
    Image.fromarray(PIXELS).save(path)
    return path


def _value(*shape: int | str, dtype: str = "float32") -> Value:
    return Value("x", DType.parse(dtype), shape)


def test_channels_mean_scale_and_layout(picture: Path) -> None:
    spec = ImageSpec.parse("size=6x4,mean=1,2,3,scale=1/2,order=bgr")
    made = image_tensor(picture, _value(1, 3, 6, 4), spec)
    wanted = (PIXELS[:, :, ::-1].astype(np.float64) - [1, 2, 3]) * 0.5
    np.testing.assert_array_equal(made, wanted.transpose(2, 0, 1)[None].astype(np.float32))
    assert made.flags.c_contiguous
    assert made.dtype == np.float32


def test_nhwc_is_seen_and_the_size_taken_from_the_model(picture: Path) -> None:
    made = image_tensor(picture, _value(1, 6, 4, 3), ImageSpec())
    np.testing.assert_array_equal(made[0], PIXELS)


def test_integers_are_rounded_and_saturated(picture: Path) -> None:
    made = image_tensor(picture, _value(1, 6, 4, 3, dtype="int8"), ImageSpec.parse("mean=100,scale=2"))
    np.testing.assert_array_equal(made[0], np.clip((PIXELS.astype(int) - 100) * 2, -128, 127))


def test_one_channel_is_grey(picture: Path) -> None:
    made = image_tensor(picture, _value(1, 1, 6, 4), ImageSpec())
    assert made.shape == (1, 1, 6, 4)
    np.testing.assert_array_equal(made[0, 0], np.asarray(Image.open(picture).convert("L")))


def test_an_unclear_layout_must_be_said(picture: Path) -> None:
    with pytest.raises(InputError, match=r"does not show its layout.*layout=nchw"):
        image_tensor(picture, _value(1, 3, 3, 3), ImageSpec())
    made = image_tensor(picture, _value(1, 3, 3, 3), ImageSpec.parse("layout=nhwc"))
    assert made.shape == (1, 3, 3, 3)


@pytest.mark.parametrize(
    "text",
    ["size=6", "size=0x4", "mean=a", "scale=1/0", "order=grb", "layout=chw", "colour=red", "6x4", "mean=nan"],
)
def test_bad_specs_are_told(text: str) -> None:
    with pytest.raises(InputError, match="--image"):
        ImageSpec.parse(text)


def test_shapes_that_take_no_picture_are_told(picture: Path) -> None:
    for value, words in (
        (_value(10), "takes no picture"),
        (_value(1, 7, 6, 4), "does not show its layout"),
        (_value(1, 3, "H", "W"), "are free"),
    ):
        with pytest.raises(InputError, match=words):
            image_tensor(picture, value, ImageSpec())
    with pytest.raises(InputError, match="2 numbers for 3 channels"):
        image_tensor(picture, _value(1, 3, 6, 4), ImageSpec.parse("mean=1,2"))


def test_run_takes_a_picture_and_asks_how(run: Run, picture: Path, tmp_path: Path) -> None:
    path = tmp_path / "relu.onnx"
    onnx.save(make_model([helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 3, 6, 4]}, ["y"]), path)
    result = run("run", path, "--input", picture)
    assert result.exit_code == 4
    assert "--image size=224x224" in the_line(result)
    done = run("run", path, "--input", f"x={picture}", "--image", "size=6x4", "-o", tmp_path / "o.npz")
    assert done.exit_code == 0, done.stderr
    with np.load(tmp_path / "o.npz") as made:
        np.testing.assert_array_equal(made["y"][0], PIXELS.transpose(2, 0, 1))


def test_a_broken_picture_is_told(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    for name in ("broken.png", "absent.jpg"):
        result = run("run", model, "--input", tmp_path / name, "--image", "size=8x8")
        assert result.exit_code == 4
        assert "cannot be read as a picture" in the_line(result)
