"""The fake device keeps the promises that make it worth testing against, and computes what ONNX says."""

from __future__ import annotations

import numpy as np
import pytest
from fake_device import BLOCKED, FakeDevice, FakePlugin
from onnx import helper

from softneuro_core.catalog import Catalog, load_plugins
from softneuro_core.device import Buffer
from softneuro_core.errors import PluginError
from softneuro_core.graph import Graph, Region
from softneuro_core.spec import NCHW, TensorSpec
from softneuro_core.testing.build import build_graph


def array(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def new(device: FakeDevice, shape: tuple[int, ...]) -> Buffer:
    return device.buffer(device.alloc(int(np.prod(shape)) * 4), 0, shape, np.dtype(np.float32))


def test_memory_cannot_be_reached_from_the_host() -> None:
    device = FakeDevice()
    buffer = new(device, (2, 3))
    for touch in (lambda: buffer.array, lambda: buffer.address, lambda: device.view(buffer)):
        with pytest.raises(PluginError, match="touched"):
            touch()
    with pytest.raises((TypeError, BufferError)):
        memoryview(buffer.memory)


def test_transfers_are_ordered_and_only_download_waits() -> None:
    device, data = FakeDevice(), array(4, 5)
    buffer = new(device, data.shape)
    device.upload(buffer, data)
    assert device.pending == 1
    given, data[:] = data.copy(), 0  # upload took a copy
    back = np.empty_like(data)
    device.download(buffer, back)
    assert device.pending == 0
    np.testing.assert_array_equal(back, given)


def test_a_view_into_an_allocation_is_refused() -> None:
    device = FakeDevice()
    view = device.buffer(device.alloc(256), 64, (2,), np.dtype(np.float32))
    with pytest.raises(PluginError, match="no views"):
        device.upload(view, array(2))


def test_run_only_enqueues_and_the_simulated_clock_counts_segments() -> None:
    device = FakeDevice("sim", simulated=True, segment_us=30.0)
    done: list[int] = []
    for turn in range(2):
        for step in range(3):
            device.enqueue(lambda s=step: done.append(s), cost_ns=1000)  # type: ignore[misc]
        assert len(done) == 3 * turn and device.now_ns() == turn * 33_000
        device.synchronize()
    device.synchronize()  # an empty queue costs nothing
    assert done == [0, 1, 2, 0, 1, 2]
    assert device.now_ns() == 66_000 and device.calls["segment"] == 2
    assert device.clock_name == "sim" and FakeDevice().clock_name == "wall"


def conv_graph() -> Graph:
    x, w = array(2, 6, 9, 7), array(8, 3, 3, 3)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["y"], group=2, strides=[2, 1], pads=[0, 1, 2, 1], dilations=[1, 2]),
        helper.make_node("Relu", ["y"], ["z"]),
    ]
    return build_graph(nodes, {"x": x}, {"w": w, "b": array(8)}, ["z"])


@pytest.fixture
def fake() -> Catalog:
    return load_plugins(only=(), modules=[FakePlugin(simulated=True)])


def test_routines_compute_what_onnx_says_in_every_layout(fake: Catalog) -> None:
    from onnx.reference import ReferenceEvaluator

    graph, x = conv_graph(), array(2, 6, 9, 7)
    region = Region(graph, graph.layers)
    routine, target = fake.routines["fake/conv_relu"], fake.target("fake", 1)
    (offer,) = routine.offers(region, target)
    assert str(offer.inputs[0]) == f"fake:float32:{BLOCKED}"
    shapes = [offer.inputs[0].layout.storage_shape(x.shape), offer.outputs[0].layout.storage_shape((2, 8, 5, 5))]
    device = target.device
    buffers = [device.buffer(device.alloc(int(np.prod(s)) * 4), 0, s, np.dtype(np.float32)) for s in shapes]
    call = routine.prepare(region, offer, target).bind(buffers[:1], buffers[1:], None)
    device.upload(buffers[0], BLOCKED.pack(x))
    call.run()
    stored = np.empty(shapes[1], np.float32)
    device.download(buffers[1], stored)
    node_model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node(
                    "Conv", ["x", "w", "b"], ["y"], group=2, strides=[2, 1], pads=[0, 1, 2, 1], dilations=[1, 2]
                ),
                helper.make_node("Relu", ["y"], ["z"]),
            ],
            "g",
            [helper.make_tensor_value_info(n, 1, None) for n in ("x", "w", "b")],
            [helper.make_tensor_value_info("z", 1, None)],
        )
    )
    expected = ReferenceEvaluator(node_model).run(None, {"x": x, "w": array(8, 3, 3, 3), "b": array(8)})[0]
    np.testing.assert_allclose(BLOCKED.unpack(stored, (2, 8, 5, 5)), expected, rtol=1e-4, atol=1e-4)
    assert not np.isnan(stored).any()


def test_offers_name_the_device_and_refuse_what_it_cannot_do(fake: Catalog) -> None:
    graph = build_graph([helper.make_node("Relu", ["x"], ["y"])], {"x": array(2, 3, 4, 5)}, {}, ["y"])
    target = fake.target("fake", 1)
    offers = list(fake.routines["fake/relu"].offers(Region(graph, graph.layers), target))
    assert [o.inputs[0] for o in offers] == [TensorSpec("fake", graph.inputs[0].dtype, x) for x in (NCHW, BLOCKED)]
    double = build_graph([helper.make_node("Relu", ["x"], ["y"])], {"x": array(2, 3).astype(np.float64)}, {}, ["y"])
    assert not list(fake.routines["fake/relu"].offers(Region(double, double.layers), target))
