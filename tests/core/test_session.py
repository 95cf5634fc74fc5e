"""Sessions: what they check, share, keep and refuse. Plans here are untuned; the tuned ones are in test_tuning."""

import dataclasses
import gc
import threading
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

import softneuro_core as sn
from softneuro_core.errors import InputError, PlanError, ResourceError, RunError
from softneuro_core.operators import Operator
from softneuro_core.plan import AdapterStep
from tests.core.models import expected, image, model, residual


@pytest.fixture(scope="module")
def catalog() -> sn.Catalog:
    """The core alone: reference routines and plain adapters."""
    return sn.load_plugins(only=())


def test_a_session_computes_what_onnx_says(catalog: sn.Catalog) -> None:
    proto, x = residual(), image()
    (want,) = expected(proto, {"x": x})
    made = sn.Session(proto, threads=1, catalog=catalog).run({"x": x})
    assert list(made) == ["y"]
    np.testing.assert_allclose(made["y"], want, rtol=1e-5, atol=1e-5)


def test_results_belong_to_the_caller(catalog: sn.Catalog) -> None:
    session = sn.Session(residual(), threads=1, catalog=catalog)
    first = session.run({"x": image(seed=1)})["y"]
    kept = first.copy()
    session.run({"x": image(seed=2)})
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "input 'x' is missing"),
        ({"x": image(), "z": image()}, "unknown input 'z'"),
        ({"x": image().astype(np.float64)}, "dtype float64, the model wants float32"),
        ({"x": image(2)}, r"shape \(2, 3, 8, 8\), the model wants \(1, 3, 8, 8\)"),
        ({"x": image()[0]}, r"shape \(3, 8, 8\)"),
    ],
)
def test_wrong_inputs_are_named(catalog: sn.Catalog, feeds: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sn.Session(residual(), threads=1, catalog=catalog).run(feeds)


def test_a_free_batch_has_a_plan_for_each_shape(catalog: sn.Catalog) -> None:
    proto = residual("batch")
    session = sn.Session(proto, threads=1, catalog=catalog)
    for batch in (1, 3, 1, 2):
        x = image(batch)
        np.testing.assert_allclose(session.run({"x": x})["y"], expected(proto, {"x": x})[0], rtol=1e-5, atol=1e-5)
        assert session.plan.shapes == {"x": (batch, 3, 8, 8)}


def test_an_unseen_shape_runs_at_once_on_a_transferred_plan(catalog: sn.Catalog) -> None:
    proto = residual("batch")
    plan = sn.tune(sn.load(proto, {"x": (2, 3, 8, 8)}, catalog=catalog), threads=1, budget_s=0, catalog=catalog)
    session = sn.Session(proto, plan, catalog=catalog)
    x = image(5)
    with pytest.warns(sn.SoftneuroNotice, match="transferred from the one tuned for"):
        made = session.run({"x": x})
    np.testing.assert_allclose(made["y"], expected(proto, {"x": x})[0], rtol=1e-5, atol=1e-5)
    assert "transferred" in session.plan.notes[-1]
    assert [s.routine for s in session.plan.kernel_steps] == [s.routine for s in plan.kernel_steps]


def test_clones_share_weights_and_not_memory(catalog: sn.Catalog) -> None:
    session = sn.Session(residual(), threads=1, catalog=catalog)
    twin = session.clone()
    ours = next(iter(session._programs.values()))
    assert next(iter(twin._programs.values())) is ours
    mine, theirs = (next(iter(s._executables.values())).buffers for s in (session, twin))
    assert all(mine[slot].memory is not theirs[slot].memory for slot in mine)
    np.testing.assert_array_equal(session.run({"x": image()})["y"], twin.run({"x": image()})["y"])


def test_runs_of_one_session_take_turns(catalog: sn.Catalog) -> None:
    session, results = sn.Session(residual(), threads=1, catalog=catalog), dict[int, list[np.ndarray]]()
    wanted = {seed: session.run({"x": image(seed=seed)})["y"] for seed in range(4)}

    def work(seed: int) -> None:
        results[seed] = [session.run({"x": image(seed=seed)})["y"] for _ in range(20)]

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, made in results.items():
        assert all((y == wanted[seed]).all() for y in made)


def test_a_closed_session_says_so(catalog: sn.Catalog) -> None:
    with sn.Session(residual(), threads=1, catalog=catalog) as session:
        session.run({"x": image()})
    with pytest.raises(InputError, match="closed"):
        session.run({"x": image()})


def test_a_run_beyond_the_memory_limit_is_refused_before_it_starts(catalog: sn.Catalog) -> None:
    with pytest.raises(ResourceError, match="the limit is 0 MiB"):
        sn.Session(residual(), threads=1, catalog=catalog, max_mem_bytes=1000)


def test_profile_names_every_step(catalog: sn.Catalog) -> None:
    session = sn.Session(residual(), threads=1, catalog=catalog)
    times = session.profile({"x": image()}, runs=3)
    assert [t.name for t in times] == [s.name for s in session.plan.steps]
    assert all(t.us > 0 for t in times)
    assert [t.start_us for t in times] == sorted(t.start_us for t in times)


def test_a_failing_layer_is_named(catalog: sn.Catalog) -> None:
    nodes = [helper.make_node("Gather", ["x", "i"], ["y"], "lookup", axis=0)]
    proto = model(nodes, {"x": [4, 2]}, ["y"], {"i": np.array([0], np.int64)})
    proto.graph.initializer.pop()
    proto.graph.input.append(helper.make_tensor_value_info("i", 7, [1]))
    session = sn.Session(proto, threads=1, catalog=catalog)
    with pytest.raises(RunError, match="layer lookup"):
        session.run({"x": np.zeros((4, 2), np.float32), "i": np.array([99], np.int64)})


def test_a_plan_replays_from_its_file(catalog: sn.Catalog, tmp_path: Path) -> None:
    graph = sn.load(residual(), catalog=catalog)
    plan = sn.tune(graph, threads=1, budget_s=0, catalog=catalog)
    plan.save(tmp_path / "plan.json")
    session = sn.Session(residual(), tmp_path / "plan.json", catalog=catalog)
    assert session.plan == plan
    np.testing.assert_allclose(session.run({"x": image()})["y"], expected(residual(), {"x": image()})[0], rtol=1e-4)


def test_a_plan_of_another_model_is_refused(catalog: sn.Catalog) -> None:
    plan = sn.tune(sn.load(residual(), catalog=catalog), threads=1, budget_s=0, catalog=catalog)
    other = residual()
    other.graph.node[1].op_type = "Sigmoid"
    with pytest.raises(PlanError, match="another model"):
        sn.Session(other, plan, catalog=catalog)
    with pytest.raises(PlanError, match="another model"):
        sn.Session(other, plan, catalog=catalog, relaxed=True)
    changed = residual()
    changed.graph.initializer[0].raw_data = bytes(len(changed.graph.initializer[0].raw_data))
    with pytest.raises(PlanError, match="other constants"):
        sn.Session(changed, plan, catalog=catalog)


def test_nothing_is_measured_with_no_budget(catalog: sn.Catalog) -> None:
    plan = sn.tune(sn.load(residual(), catalog=catalog), threads=1, budget_s=0, catalog=catalog, force="cpu/reference")
    assert {s.source for s in plan.steps} == {"estimate"}
    assert "unprofiled" in plan.notes[0]
    assert not any(isinstance(s, AdapterStep) for s in plan.steps)


def test_outputs_that_are_inputs_or_constants(catalog: sn.Catalog) -> None:
    nodes = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Add", ["k", "k"], ["twice"]),
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Neg", ["r"], ["n"]),
    ]
    proto = model(nodes, {"x": [3]}, ["same", "twice", "r", "n"], {"k": np.ones(2, np.float32)})
    x = np.array([-1, 0, 2], np.float32)
    made = sn.Session(proto, threads=1, catalog=catalog).run({"x": x})
    for name, want in zip(["same", "twice", "r", "n"], expected(proto, {"x": x}), strict=True):
        np.testing.assert_array_equal(made[name], want)


class PlainRelu(sn.Routine):
    """A routine whose kernel allocates nothing."""

    name, pattern = "cpu/plain_relu", ("Relu",)

    def offers(self, region: sn.Region, target: sn.Target) -> list[sn.Offer]:
        return [sn.Offer(("cpu:float32:NCHW",), ("cpu:float32:NCHW",), inplace=0)]

    def prepare(self, region: sn.Region, offer: sn.Offer, target: sn.Target) -> sn.Kernel:
        return sn.FunctionKernel(lambda x, y: np.maximum(x, 0, out=y))


class PlainPlugin:
    """A plugin made of one routine."""

    @staticmethod
    @sn.hookimpl
    def softneuro_routines() -> list[sn.Routine]:
        return [PlainRelu()]


def test_run_allocates_only_the_results() -> None:
    nodes = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(20)]
    proto = model(nodes, {"v0": [256, 256]}, ["v20"])
    catalog = sn.load_plugins(only=(), modules={"plain": PlainPlugin})
    with sn.Session(proto, threads=1, catalog=catalog) as session:
        assert {s.routine for s in session.plan.kernel_steps} == {"cpu/plain_relu"}
        assert session.memory_bytes["activations"] == 256 * 256 * 4  # all in place
        x = np.ones((256, 256), np.float32)
        session.run({"v0": x})
        gc.collect()
        tracemalloc.start()
        session.run({"v0": x})
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 256 * 256 * 4 + 8192


def test_a_run_that_waited_for_its_turn_finds_the_session_closed(catalog: sn.Catalog) -> None:
    session = sn.Session(residual(), threads=1, catalog=catalog)
    turn, close = session._turn, session.close

    class Late:
        """The lock, got only after another thread has closed the session."""

        def __enter__(self) -> None:
            session._turn = turn
            close()

        def __exit__(self, *exc: object) -> None:
            """Nothing is held."""

    session._turn = Late()  # type: ignore[assignment]
    with pytest.raises(InputError, match="closed"):
        session.run({"x": image()})
    assert not session._programs


def test_a_shape_there_is_no_memory_for_leaves_nothing_behind(
    catalog: sn.Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    from softneuro_core import session as owner

    def fail(program: object) -> None:
        raise MemoryError

    session = sn.Session(residual("batch"), threads=1, catalog=catalog)
    monkeypatch.setattr(owner, "MOST_SHAPES", 1)
    with monkeypatch.context() as patch:
        patch.setattr(owner, "Executable", fail)
        with pytest.raises(MemoryError):
            session.run({"x": image(2)})
    for batch in (1, 3, 2):
        session.run({"x": image(batch)})
        assert len(session._programs) == len(session._executables) == 1


def test_there_is_no_memory_plan_before_the_first_shape(catalog: sn.Catalog) -> None:
    session = sn.Session(residual("batch"), threads=1, catalog=catalog)
    with pytest.raises(InputError, match="no memory plan before the first run"):
        _ = session.memory_bytes
    session.run({"x": image()})
    assert session.memory_bytes["activations"] > 0
    session.close()
    with pytest.raises(InputError, match="closed"):
        _ = session.plan


def test_less_than_one_thread_is_refused(catalog: sn.Catalog) -> None:
    with pytest.raises(InputError, match="0 threads"):
        sn.Session(residual(), threads=0, catalog=catalog)
    with pytest.raises(InputError, match="-1 threads"):
        sn.tune(sn.load(residual(), catalog=catalog), threads=-1, budget_s=0, catalog=catalog)


def test_a_plan_of_another_model_is_refused_for_free_shapes_too(catalog: sn.Catalog) -> None:
    other = model([helper.make_node("Relu", ["x"], ["y"], "alone")], {"x": [2, 3, 8, 8]}, ["y"])
    plan = sn.tune(sn.load(other, catalog=catalog), threads=1, budget_s=0, catalog=catalog)
    with pytest.raises(PlanError, match="another model"):
        sn.Session(residual("batch"), plan, catalog=catalog).run({"x": image(5)})


def test_relaxed_replaces_a_step_that_is_not_offered_here(catalog: sn.Catalog) -> None:
    graph = sn.load(residual(), catalog=catalog)
    plan = sn.tune(graph, threads=1, budget_s=0, catalog=catalog)
    steps = (replace(plan.kernel_steps[0], params={"tile": 3}), *plan.steps[1:])
    with pytest.raises(PlanError, match="does not offer"):
        sn.Session(graph, replace(plan, steps=steps), catalog=catalog)
    with pytest.warns(sn.SoftneuroNotice, match="relaxed"):
        session = sn.Session(graph, replace(plan, steps=steps), catalog=catalog, relaxed=True)
    np.testing.assert_allclose(session.run({"x": image()})["y"], expected(residual(), {"x": image()})[0], rtol=1e-4)


def test_a_transferred_plan_keeps_the_request_and_predicts_what_it_estimates(catalog: sn.Catalog) -> None:
    graph = sn.load(residual("batch"), {"x": (2, 3, 8, 8)}, catalog=catalog)
    plan = sn.tune(graph, threads=1, budget_s=0, catalog=catalog, forbid="cpu/nothing", accuracy="fast")
    session = sn.Session(residual("batch"), plan, catalog=catalog)
    with pytest.warns(sn.SoftneuroNotice, match="transferred"):
        session.run({"x": image(2 + 1)})
    assert session.plan.request == plan.request
    assert session.plan.predicted_us >= plan.predicted_us
    assert session.plan.predicted_us == pytest.approx(sum(s.us for s in session.plan.steps))


def test_a_device_the_plan_does_not_use_is_not_another_machine(catalog: sn.Catalog) -> None:
    graph = sn.load(residual(), catalog=catalog)
    plan = sn.tune(graph, threads=1, budget_s=0, catalog=catalog)
    sn.Session(graph, replace(plan, machine={**plan.machine, "gpu": "Some GPU"}), catalog=catalog)


def test_a_plan_made_with_other_libraries_runs_and_says_so(catalog: sn.Catalog) -> None:
    graph = sn.load(residual(), catalog=catalog)
    plan = sn.tune(graph, threads=1, budget_s=0, catalog=catalog)
    with pytest.warns(sn.SoftneuroNotice, match="made with numpy 0.1"):
        sn.Session(graph, replace(plan, libraries={**plan.libraries, "numpy": "0.1"}), catalog=catalog)


def test_an_offer_in_place_of_nothing_is_dropped() -> None:
    class Misled(PlainRelu):
        def offers(self, region: sn.Region, target: sn.Target) -> list[sn.Offer]:
            return [replace(offer, inplace=1) for offer in super().offers(region, target)]

    class Plugin:
        @staticmethod
        @sn.hookimpl
        def softneuro_routines() -> Iterable[sn.Routine]:
            return [Misled()]

    catalog = sn.load_plugins(only=(), modules={"misled": Plugin})
    proto = model([helper.make_node("Relu", ["x"], ["y"])], {"x": [3]}, ["y"])
    session = sn.Session(proto, threads=1, catalog=catalog)
    assert [s.routine for s in session.plan.kernel_steps] == ["cpu/reference"]


class Unbindable(sn.FunctionKernel):
    """A kernel that cannot take any address."""

    def bind(self, *buffers: object) -> sn.Call:
        raise ZeroDivisionError("of a plugin")


class Broken(PlainRelu):
    """Fails when it is bound, or when it runs."""

    def __init__(self, in_bind: bool) -> None:
        self.in_bind = in_bind

    def prepare(self, region: sn.Region, offer: sn.Offer, target: sn.Target) -> sn.Kernel:
        def fail(*arrays: object) -> None:
            raise ZeroDivisionError("of a plugin")

        return Unbindable(fail) if self.in_bind else sn.FunctionKernel(fail)


@pytest.mark.parametrize("in_bind", [False, True])
def test_what_a_plugin_raises_names_its_step(in_bind: bool) -> None:
    class Plugin:
        @staticmethod
        @sn.hookimpl
        def softneuro_routines() -> Iterable[sn.Routine]:
            return [Broken(in_bind)]

    catalog = sn.load_plugins(only=(), modules={"broken": Plugin})
    proto = model([helper.make_node("Relu", ["x"], ["y"], "act")], {"x": [3]}, ["y"])
    with pytest.raises(RunError, match="layer act: cpu/plain_relu"):
        sn.Session(proto, threads=1, catalog=catalog).profile({"x": np.ones(3, np.float32)})


def test_a_plan_names_the_plugin_of_an_operator_the_reference_computes() -> None:
    from onnx.reference.op_run import OpRun

    class Twice(OpRun):  # type: ignore[misc]
        op_domain = "mine"

        def _run(self, x: np.ndarray) -> tuple[np.ndarray]:
            return (x + x,)

    class Plugin:
        @staticmethod
        @sn.hookimpl
        def softneuro_layers() -> list[Operator]:
            rule = lambda layer: [(layer.inputs[0].dtype, layer.inputs[0].static_shape)]  # noqa: E731
            return [Operator("mine", "Twice", shape_rule=rule, reference=Twice)]

    catalog = sn.load_plugins(only=(), modules={"mine": Plugin})
    value = [helper.make_tensor_value_info(n, 1, [3]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Twice", ["x"], ["y"], "t", domain="mine")], "g", value[:1], value[1:])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = sn.Session(proto, threads=1, catalog=catalog)
    assert session.plan.plugins == {"core", "mine"}
    again = sn.Session(proto, session.plan, catalog=catalog)
    np.testing.assert_array_equal(again.run({"x": np.ones(3, np.float32)})["y"], [2, 2, 2])


def test_a_plugin_called_like_another_does_not_take_it_along() -> None:
    catalog = sn.load_plugins(only=(), modules={"core": PlainPlugin})
    assert "cpu" in catalog.devices
    assert [p.status for p in catalog.plugins if p.name == "core"] == ["loaded", "failed"]


def test_a_plan_for_more_threads_than_there_are_cores_says_so(catalog: sn.Catalog) -> None:
    plan = sn.tune(sn.load(residual(), catalog=catalog), threads=999, budget_s=0, catalog=catalog)
    with pytest.warns(sn.SoftneuroNotice, match="999 threads"):
        sn.Session(residual(), plan, catalog=catalog)


def test_a_ban_on_a_layer_that_is_gone_does_not_stop_a_transfer(catalog: sn.Catalog) -> None:
    graph = sn.load(residual("batch"), {"x": (2, 3, 8, 8)}, catalog=catalog)
    plan = sn.tune(graph, threads=1, budget_s=0, catalog=catalog, forbid="gpu@relu1")
    plan = dataclasses.replace(plan, request={**plan.request, "forbid": ["gpu@gone", "gpu@relu1"]})
    with sn.Session(residual("batch"), plan, catalog=catalog) as session, pytest.warns(sn.SoftneuroNotice):
        made = session.run({"x": image(5)})
    np.testing.assert_allclose(made["y"], expected(residual("batch"), {"x": image(5)})[0], rtol=1e-5, atol=1e-5)
