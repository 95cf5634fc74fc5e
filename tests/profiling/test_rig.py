"""The rig on host memory, on a device the host cannot touch, and on one without views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from softneuro_core.device import Buffer, Device, HostDevice, ObjectBuffer
from softneuro_core.encoding import encode
from softneuro_core.errors import InputError
from softneuro_core.graph import Value
from softneuro_core.rig import Rig, copies_past_cache, poison
from softneuro_core.routine import AnyBuffer, Call, FunctionKernel
from softneuro_core.spec import DTYPES, FLOAT32, INT8, OBJECT, QParams, TensorSpec, host


class FarDevice(Device):
    """Memory of its own, behind upload and download; work happens when someone waits."""

    name = "far"

    def __init__(self, views: bool = True, exact: bool = False) -> None:
        self.supports_views, self.exact = views, exact
        self.queue: list[Callable[[], None]] = []

    def alloc(self, nbytes: int) -> bytearray:
        return bytearray(nbytes)

    def _view(self, buffer: Buffer) -> np.ndarray:
        if not self.supports_views and buffer.offset:
            raise ValueError("no views here")
        if self.exact and buffer.nbytes != len(buffer.memory):
            raise ValueError("whole allocations only")
        return np.ndarray(buffer.shape, buffer.dtype, buffer.memory, buffer.offset, buffer.strides)

    def upload(self, buffer: Buffer, array: np.ndarray) -> None:
        self._view(buffer)[...] = array

    def download(self, buffer: Buffer, array: np.ndarray) -> None:
        self.synchronize()
        array[...] = self._view(buffer)

    def synchronize(self) -> None:
        queue, self.queue = self.queue, []
        for work in queue:
            work()


@dataclass
class FarKernel:
    """Adds one, asynchronously; ``stray`` writes that many bytes behind the output."""

    stray: int = 0
    scratch: int = 0
    constant_bytes: int = 0

    def bind(self, inputs: Sequence[AnyBuffer], outputs: Sequence[AnyBuffer], scratch: Buffer | None) -> Call:
        source, result = inputs[0], outputs[0]
        assert isinstance(source, Buffer) and isinstance(result, Buffer) and isinstance(source.device, FarDevice)
        device = source.device

        def work() -> None:
            device._view(result)[...] = device._view(source) + 1
            end = result.offset + result.nbytes
            result.memory[end : end + self.stray] = bytes(self.stray)

        return Call(lambda: device.queue.append(work))


def value(name: str, *shape: int, dtype: str = "float32", qparams: QParams | None = None) -> Value:
    return Value(name, DTYPES[dtype], shape, qparams=qparams)


HOST = {"cpu": HostDevice()}
X, Y = value("x", 2, 3, 4, 5), value("y", 2, 3, 4, 5)
ARRAY = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)


def relu(x: np.ndarray, y: np.ndarray) -> None:
    np.maximum(x, 0, out=y)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "NCHW2c", "NHWC4c"])
@pytest.mark.parametrize("offset", [0, 64, 4096])
def test_result_comes_back_in_onnx_order(layout: str, offset: int) -> None:
    spec = TensorSpec.parse(f"cpu:float32:{layout}")
    rig = Rig(FunctionKernel(relu), [(X, spec)], [(Y, spec)], HOST, routine_device="cpu", copies=3, offset=offset)
    rig.load([ARRAY - 50])
    for copy in range(3):
        rig.run(copy)
        np.testing.assert_array_equal(rig.outputs(copy)[0], np.maximum(ARRAY - 50, 0))
    assert rig.zones_intact() is None and rig.inputs_intact() is None


@pytest.mark.parametrize("strided", [(), (0,), (1,), (0, 1)])
def test_strided_operand_has_a_border_that_is_watched(strided: tuple[int, ...]) -> None:
    spec = host(FLOAT32)
    seen: list[tuple[int, ...]] = []

    def copy_and_note(x: np.ndarray, y: np.ndarray) -> None:
        seen.extend((x.strides, y.strides))
        y[...] = x

    rig = Rig(FunctionKernel(copy_and_note), [(X, spec)], [(Y, spec)], HOST, routine_device="cpu", strided=strided)
    rig.load([ARRAY])
    rig.run()
    np.testing.assert_array_equal(rig.outputs()[0], ARRAY)
    assert rig.zones_intact() is None
    dense = ARRAY.strides
    assert [strides != dense for strides in seen] == [number in strided for number in range(2)]


def test_write_into_the_border_is_found() -> None:
    def careless(x: np.ndarray, y: np.ndarray) -> None:
        y[...] = x
        np.lib.stride_tricks.as_strided(y, (2, 3, 4, 6), y.strides)[...] = 0

    rig = Rig(
        FunctionKernel(careless), [(X, host(FLOAT32))], [(Y, host(FLOAT32))], HOST, routine_device="cpu", strided=[1]
    )
    rig.load([ARRAY])
    rig.run()
    assert "border" in (rig.zones_intact() or "") and "'y'" in (rig.zones_intact() or "")


@pytest.mark.parametrize(("where", "word"), [(-1, "before"), (120, "behind"), (127, "behind")])
def test_write_outside_names_the_buffer(where: int, word: str) -> None:
    def stray(x: np.ndarray, y: np.ndarray) -> None:
        flat = np.lib.stride_tricks.as_strided(y, (1,), (4,))
        ctypes_float = np.ctypeslib.as_array(
            (__import__("ctypes").c_float * 1).from_address(flat.ctypes.data + 4 * where)
        )
        y[...] = x
        ctypes_float[0] = 7

    rig = Rig(FunctionKernel(stray), [(X, host(FLOAT32))], [(Y, host(FLOAT32))], HOST, routine_device="cpu")
    rig.load([ARRAY])
    rig.run()
    found = rig.zones_intact()
    assert found is not None and "output 0 ('y')" in found and word in found


def test_changed_input_is_found_and_alias_allowed() -> None:
    def in_place(x: np.ndarray, y: np.ndarray) -> None:
        x *= 2
        y[...] = x

    spec = host(FLOAT32)
    rig = Rig(FunctionKernel(in_place), [(X, spec)], [(Y, spec)], HOST, routine_device="cpu")
    rig.load([ARRAY])
    rig.run()
    assert "input 0 ('x') was changed" in (rig.inputs_intact() or "")
    shared = Rig(FunctionKernel(in_place), [(X, spec)], [(Y, spec)], HOST, routine_device="cpu", alias=0)
    shared.load([ARRAY])
    shared.run()
    assert shared.inputs_intact() is None and shared.zones_intact() is None
    np.testing.assert_array_equal(shared.outputs()[0], ARRAY * 2)


def test_alias_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="cannot lie in the memory"):
        small = value("y", 1, 2)
        Rig(FunctionKernel(relu), [(X, host(FLOAT32))], [(small, host(FLOAT32))], HOST, routine_device="cpu", alias=0)


def test_unwritten_output_and_scratch_are_poisoned() -> None:
    seen: list[np.ndarray] = []

    @dataclass
    class Reads:
        scratch: int = 100
        constant_bytes: int = 0

        def bind(self, inputs: Sequence[Any], outputs: Sequence[Any], scratch: Buffer | None) -> Call:
            assert scratch is not None
            return Call(lambda: seen.append(scratch.array.copy()))

    rig = Rig(Reads(), [(X, host(FLOAT32))], [(Y, host(FLOAT32))], HOST, routine_device="cpu")
    rig.load([ARRAY])
    rig.run()
    assert seen[0].shape == (100,) and (seen[0] == 0xA5).all()
    assert np.isnan(rig.outputs()[0]).all()
    assert poison((3,), np.dtype(np.int8)).tolist() == [-91] * 3
    assert np.isnan(poison((3,), DTYPES["bfloat16"].numpy).astype(np.float32)).all()


@pytest.mark.parametrize(("views", "exact"), [(True, False), (False, False), (False, True)])
def test_far_memory_is_only_uploaded_and_downloaded(views: bool, exact: bool) -> None:
    device = FarDevice(views, exact)
    spec = TensorSpec.parse("far:float32:NHWC")
    rig = Rig(FarKernel(), [(X, spec)], [(Y, spec)], {"far": device, **HOST}, routine_device="far", copies=2)
    rig.load([ARRAY])
    rig.run(1)
    np.testing.assert_array_equal(rig.outputs(1)[0], ARRAY + 1)
    rig.run()
    assert rig.zones_intact() is None and rig.inputs_intact() is None and rig.zoned is not exact
    astray = Rig(FarKernel(stray=8), [(X, spec)], [(Y, spec)], {"far": device}, routine_device="far")
    astray.load([ARRAY])
    astray.run()
    assert exact or "8 bytes behind its end" in (astray.zones_intact() or "")


def test_host_objects_pass_and_changes_show() -> None:
    @dataclass
    class Upper:
        spoil: bool
        scratch: int = 0
        constant_bytes: int = 0

        def bind(self, inputs: Sequence[Any], outputs: Sequence[Any], scratch: Buffer | None) -> Call:
            source, result = inputs[0], outputs[0]
            assert isinstance(source, ObjectBuffer)

            def work() -> None:
                result.value = np.array([text.upper() for text in source.value], dtype=object)
                if self.spoil:
                    source.value[0] = "gone"

            return Call(work)

    words = Value("words", OBJECT, (2,)), host(OBJECT)
    for spoil in (False, True):
        rig = Rig(Upper(spoil), [words], [words], HOST, routine_device="cpu")
        rig.load([np.array(["a", "b"], dtype=object)])
        rig.run()
        assert rig.outputs()[0].tolist() == ["A", "B"]
        assert (rig.inputs_intact() is None) is not spoil


def test_quantised_spec_uses_the_values_numbers() -> None:
    numbers = QParams(np.array([0.5, 0.25, 2.0], np.float32), np.array([0, 10, -3], np.int8), 1)
    quantised = value("q", 1, 3, 2, dtype="float32", qparams=numbers)
    array = np.array([[[1.25, -1.75], [0.125, 100], [3, -1e9]]], np.float32)
    spec = TensorSpec("cpu", INT8)
    # round half to even, then the zero point, then saturation
    assert encode(array, quantised, spec).tolist() == [[[2, -4], [10, 127], [-1, -128]]]
    with pytest.raises(InputError, match="scale and zero point"):
        encode(array, value("r", 1, 3, 2), spec)


def test_wrong_inputs_are_named() -> None:
    rig = Rig(FunctionKernel(relu), [(X, host(FLOAT32))], [(Y, host(FLOAT32))], HOST, routine_device="cpu")
    with pytest.raises(InputError, match="0 inputs given"):
        rig.load([])
    with pytest.raises(InputError, match="'x' has shape"):
        rig.load([ARRAY[0]])
    with pytest.raises(InputError, match="not available"):
        Rig(FunctionKernel(relu), [(X, TensorSpec.parse("moon:float32"))], [], HOST, routine_device="cpu")


def test_copies_exceed_the_cache_within_the_limit() -> None:
    operands = [(X, host(FLOAT32)), (Y, host(FLOAT32))]
    assert copies_past_cache(operands, 96_000, 1 << 28, 1000) == 125
    assert copies_past_cache(operands, 96_000, 1 << 28, 16) == 16
    assert copies_past_cache(operands, 1 << 25, 10_000, 1000) == 10_000 // (960 + 512)
    assert copies_past_cache([(Value("s", OBJECT, None), host(OBJECT))], 96_000, 1 << 28, 9) == 1
