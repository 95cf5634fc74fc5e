"""Layouts and specs: storage is a bijection with padding, text is a bijection."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softneuro_core.errors import InputError
from softneuro_core.spec import DTYPES, DType, Layout, TensorSpec

LAYOUTS = ["NCHW", "NHWC", "NCHW16c", "NCHW4c", "NHWC32c4w", "CNHW", "NCDHW"]


@given(st.sampled_from(LAYOUTS), st.lists(st.integers(1, 19), min_size=0, max_size=5))
def test_unpack_undoes_pack(axes: str, shape: list[int]) -> None:
    layout, array = Layout(axes), np.arange(1, 1 + int(np.prod(shape)), dtype=np.float32).reshape(shape)
    stored = layout.pack(array)
    assert stored.shape == layout.storage_shape(shape)
    assert stored.flags.c_contiguous
    np.testing.assert_array_equal(layout.unpack(stored, shape), array)
    assert np.count_nonzero(stored) == array.size  # padding is zero


def test_channels_last_moves_axis_one_for_any_rank() -> None:
    assert Layout("NHWC").storage_shape((2, 3, 5)) == (2, 5, 3)
    assert Layout("NHWC").storage_shape((2, 3, 5, 7, 9)) == (2, 5, 7, 9, 3)
    assert Layout("NHWC").is_plain(2)
    assert not Layout("NHWC").is_plain(3)


@pytest.mark.parametrize("axes", ["", "nchw", "NCCW", "NCHW16x", "16cNCHW"])
def test_bad_layouts_are_named(axes: str) -> None:
    with pytest.raises(InputError, match="layout"):
        Layout(axes)


@pytest.mark.parametrize("text", ["cpu:float32:NHWC", "opencl:float16:NCHW4c", "cpu:object", "dsp:int8:NHWC32c4w"])
def test_specs_survive_text(text: str) -> None:
    assert str(TensorSpec.parse(text)) == text


@pytest.mark.parametrize("text", ["cpu", "cpu:float33", ":float32", "cpu:float32:?"])
def test_bad_specs_are_input_errors(text: str) -> None:
    with pytest.raises(InputError):
        TensorSpec.parse(text)


def test_every_dtype_is_found_by_its_numbers() -> None:
    for name, dtype in DTYPES.items():
        assert DType.parse(name) is dtype
        assert DType.from_onnx(dtype.onnx) is dtype
        assert DType.from_numpy(dtype.numpy) is dtype
