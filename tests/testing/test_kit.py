"""The kit itself: what it says of broken plugins, its fixtures, its command line."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from onnx import helper

from softneuro_core.catalog import Catalog
from softneuro_core.errors import InputError, PluginError
from softneuro_core.testing import conformance
from softneuro_core.testing.case import Const, chain, normal
from softneuro_core.testing.isolation import Isolation
from softneuro_core.testing.null_device import NullDevice

# -- broken plugins --------------------------------------------------------------------------------------------------


def test_a_plugin_that_does_not_import_is_one_failing_test(tmp_plugin: Callable[..., ModuleType]) -> None:
    tmp_plugin("", name="sound_name")
    (Path(sys.modules["sound_name"].__file__ or "").parent / "broken_plugin.py").write_text(
        "raise OSError('no driver')"
    )
    with pytest.raises(PluginError, match="OSError: no driver"):
        Isolation("broken_plugin").units()
    test = conformance("broken_plugin")
    with pytest.raises(pytest.fail.Exception, match="no driver"):
        test()


def test_a_plugin_that_kills_the_process_on_import_is_named(tmp_plugin: Callable[..., ModuleType]) -> None:
    tmp_plugin("", name="sound_name")
    folder = Path(sys.modules["sound_name"].__file__ or "").parent
    (folder / "deadly_plugin.py").write_text("import ctypes\nctypes.string_at(0)\n")
    with pytest.raises(PluginError, match=r"deadly_plugin: the process .*deadly_plugin.py"):
        Isolation("deadly_plugin").units()


OPERATOR_WITHOUT_CASES = """
    from onnx.parser import parse_function
    from softneuro_core.hookspecs import hookimpl
    from softneuro_core.operators import Operator
    from softneuro_core.routine import Offer, Routine

    class Twice(Routine):
        name, pattern = "cpu/twice", ("mine::Twice",)
        def offers(self, region, target):
            return [Offer(("cpu:float32",), ("cpu:float32",))]
        def prepare(self, region, offer, target):
            raise NotImplementedError

    @hookimpl
    def softneuro_layers():
        body = '<domain: "mine", opset_import: ["": 18]> Twice (x) => (y) { y = Add (x, x) }'
        return [Operator("mine", "Twice", function=parse_function(body))]

    @hookimpl
    def softneuro_routines():
        return [Twice()]
"""


def test_what_no_case_reaches_is_a_finding(tmp_plugin: Callable[..., ModuleType]) -> None:
    module = tmp_plugin(OPERATOR_WITHOUT_CASES, name="untested_plugin")
    isolation = Isolation(module.__name__)
    found = {f.subject: f for unit in isolation.units() for f in isolation.check(unit, 60.0).findings}
    isolation.close()
    assert set(found) == {"cpu/twice", "mine::Twice"}
    assert {f.check for f in found.values()} == {"cases"}
    assert "softneuro_conformance_cases" in found["mine::Twice"].detail


def test_cases_may_come_from_elsewhere(tmp_plugin: Callable[..., ModuleType]) -> None:
    module = tmp_plugin(OPERATOR_WITHOUT_CASES, name="untested_plugin")
    more = tmp_plugin(
        """
        from softneuro_core.testing.case import normal, single
        def more():
            return [single("twice", "Twice", normal(3, 7), domain="mine")]
        """,
        name="more_cases",
    )
    isolation = Isolation(module.__name__, f"{more.__name__}:more")
    (unit,) = isolation.units()
    (finding,) = isolation.check(unit, 60.0).findings
    isolation.close()
    assert finding.check == "prepare" and "NotImplementedError" in finding.detail


QUANTISED = """
    import numpy as np
    from softneuro_core.hookspecs import hookimpl
    from softneuro_core.routine import FunctionKernel, Offer, Routine
    from softneuro_core.spec import QParams
    from softneuro_core.testing.case import Case, normal, single

    STEPS, ZERO = 0.05, -7

    class Relu(Routine):
        name, pattern = "cpu/q_relu", ("Relu",)
        def offers(self, region, target):
            known = all(v.qparams is not None for v in region.inputs + region.outputs)
            return [Offer(("cpu:int8",), ("cpu:int8",), accuracy=1)] if known else []
        def prepare(self, region, offer, target):
            return FunctionKernel(lambda x, y: np.maximum(x, np.int8(ZERO), out=y))

    @hookimpl
    def softneuro_routines():
        return [Relu()]

    def softneuro_conformance_cases():
        numbers = QParams(np.array(STEPS, np.float32), np.array(ZERO, np.int8))
        case = single("quantised", "Relu", normal(3, 17))
        return [Case(case.name, case.nodes, case.inputs, qparams={"x0": numbers, "y0": numbers})]
"""


def test_quantised_specs_are_judged_in_steps(tmp_plugin: Callable[..., ModuleType]) -> None:
    isolation = Isolation(tmp_plugin(QUANTISED, name="quantised_plugin").__name__)
    (unit,) = isolation.units()
    report = isolation.check(unit, 60.0)
    isolation.close()
    assert report.offers == 1 and report.max_error <= 1 and not report.findings


OPRUN = """
    import numpy as np
    from onnx.reference.op_run import OpRun
    from softneuro_core.hookspecs import hookimpl
    from softneuro_core.operators import Operator
    from softneuro_core.routine import FunctionKernel, Offer, Routine
    from softneuro_core.testing.case import normal, single

    class Reversed(OpRun):
        op_domain = "mine"
        def _run(self, x):
            return (np.ascontiguousarray(x[::-1]),)

    class Reverse(Routine):
        name, pattern = "cpu/reverse", ("mine::Reversed",)
        def offers(self, region, target):
            return [Offer(("cpu:float32",), ("cpu:float32",), accuracy=0.0)]
        def prepare(self, region, offer, target):
            return FunctionKernel(lambda x, y: np.copyto(y, x[::-1]))

    @hookimpl
    def softneuro_layers():
        rule = lambda layer: [(layer.inputs[0].dtype, layer.inputs[0].static_shape)]
        return [Operator("mine", "Reversed", shape_rule=rule, reference=Reversed)]

    @hookimpl
    def softneuro_routines():
        return [Reverse()]

    def softneuro_conformance_cases():
        return [single(f"reversed-{n}", "Reversed", normal(n, 3), domain="mine") for n in (1, 7, 16)]
"""


def test_an_operator_given_by_shape_rule_and_class_is_checked(tmp_plugin: Callable[..., ModuleType]) -> None:
    isolation = Isolation(tmp_plugin(OPRUN, name="oprun_plugin").__name__)
    units = isolation.units()
    reports = [isolation.check(unit, 60.0) for unit in units]
    isolation.close()
    assert [unit.case for unit in units] == ["reversed-1", "reversed-7", "reversed-16"]
    assert all(report.offers == 1 and not report.findings and not report.skipped for report in reports), reports


def test_a_thinned_run_keeps_every_routine(tmp_plugin: Callable[..., ModuleType]) -> None:
    module = tmp_plugin(OPRUN, name="oprun_plugin")
    (mark,) = conformance(module, every=2).pytestmark  # type: ignore[attr-defined]
    assert [parameter.id for parameter in mark.args[1]] == ["cpu/reverse-reversed-1", "cpu/reverse-reversed-16"]


def test_xfail_must_name_something(tmp_plugin: Callable[..., ModuleType]) -> None:
    module = tmp_plugin(OPERATOR_WITHOUT_CASES, name="untested_plugin")
    with pytest.raises(InputError, match="cpu/nothing"):
        conformance(module, xfail={"cpu/nothing-*": "never was"})


# -- through pytest and the command line ------------------------------------------------------------------------------

NAN_DROPPER = """
import numpy as np
from softneuro_core.hookspecs import hookimpl
from softneuro_core.routine import FunctionKernel, Offer, Routine

class Relu(Routine):
    name, pattern = "cpu/fmax", ("Relu",)
    def offers(self, region, target):
        fits = region.inputs[0].dtype.name == "float32"
        return [Offer(("cpu:float32",), ("cpu:float32",), accuracy=0.0)] if fits else []
    def prepare(self, region, offer, target):
        return FunctionKernel(lambda x, y: np.fmax(x, np.float32(0), out=y))

@hookimpl
def softneuro_routines():
    return [Relu()]
"""


def _python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)


def _pytest(folder: Path, test: str) -> subprocess.CompletedProcess[str]:
    (folder / "dropper.py").write_text(NAN_DROPPER)
    (folder / "test_it.py").write_text(textwrap.dedent(test))
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = .\nfilterwarnings = error\n")
    return _python(folder, "-m", "pytest", "-p", "no:cacheprovider", "-v", "test_it.py")


def test_three_lines_of_test_name_the_broken_promise(tmp_path: Path) -> None:
    done = _pytest(
        tmp_path,
        """
        import dropper
        from softneuro_core.testing import conformance
        test_conformance = conformance(dropper)
        """,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "test_conformance[cpu/fmax-relu-17] PASSED" in done.stdout
    assert "test_conformance[cpu/fmax-relu-nan] FAILED" in done.stdout
    assert "[values] cpu/fmax on relu-nan" in done.stdout and "NaN and infinity" in done.stdout
    assert "1 failed" in done.stdout


@pytest.mark.parametrize(
    ("xfail", "outcome"), [("{'cpu/fmax-*-nan': 'drops NaN'}", "1 xfailed"), ("{'cpu/fmax-*': 'why'}", "XPASS(strict)")]
)
def test_expected_failures_are_strict(tmp_path: Path, xfail: str, outcome: str) -> None:
    done = _pytest(
        tmp_path,
        f"""
        import dropper
        from softneuro_core.testing import conformance
        test_conformance = conformance(dropper, xfail={xfail})
        """,
    )
    assert outcome in done.stdout, done.stdout + done.stderr
    assert (done.returncode == 0) == ("xfailed" in outcome)


def test_the_command_line_tests_lists_and_times(tmp_path: Path) -> None:
    (tmp_path / "dropper.py").write_text(NAN_DROPPER)
    test = _python(tmp_path, "-m", "softneuro_core.testing", "test", "dropper")
    assert test.returncode == 1 and "[values] cpu/fmax on relu-nan" in test.stdout, test.stdout + test.stderr
    assert _python(tmp_path, "-m", "softneuro_core.testing", "test", "dropper", "--only", "*-17").returncode == 0
    listed = _python(tmp_path, "-m", "softneuro_core.testing", "support", "dropper")
    assert "cpu/fmax" in listed.stdout and " of " in listed.stdout, listed.stdout + listed.stderr
    timed = _python(tmp_path, "-m", "softneuro_core.testing", "perf", "dropper")
    assert "relu-big" in timed.stdout, timed.stdout + timed.stderr
    missing = _python(tmp_path, "-m", "softneuro_core.testing", "test", "not_there")
    assert missing.returncode == 6 and "error: plugin not_there" in missing.stderr


def test_the_layers_of_a_model_become_cases(tmp_path: Path) -> None:
    import onnx

    (tmp_path / "dropper.py").write_text(NAN_DROPPER)
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Conv", ["r", "w"], ["y"], name="c")]
    floats = onnx.TensorProto.FLOAT
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info("x", floats, ["N", 3, 5, 5])],
            [helper.make_tensor_value_info("y", floats, ["N", 4, 3, 3])],
            [onnx.numpy_helper.from_array(normal(4, 3, 3, 3), "w")],
        )
    )
    onnx.save(model, tmp_path / "net.onnx")
    done = _python(tmp_path, "-m", "softneuro_core.testing", "check", "dropper", "net.onnx")
    assert done.returncode == 0 and "1 checked, 0 failed" in done.stdout, done.stdout + done.stderr


# -- fixtures ------------------------------------------------------------------------------------------------------


def test_the_catalog_fixture_is_the_core_alone(catalog: Catalog) -> None:
    assert [info.name for info in catalog.plugins if info.status == "loaded"] == ["core"]
    assert list(catalog.devices) == ["cpu"]


def test_the_null_device_records(null_device: NullDevice) -> None:
    buffer = null_device.buffer(null_device.alloc(24), 0, (2, 3), np.dtype(np.float32))
    null_device.upload(buffer, np.ones((2, 3), np.float32))
    null_device.synchronize()
    back = np.ones((2, 3), np.float32)
    null_device.download(buffer, back)
    assert null_device.calls == [("alloc", 24), ("upload", (2, 3)), ("synchronize", None), ("download", (2, 3))]
    assert not back.any() and null_device.now_ns() < null_device.now_ns()


def test_chains_read_operands_by_name() -> None:
    case = chain("c", [helper.make_node("Add", ["a", "b"], ["y"])], a=normal(3), b=Const(normal(3)))
    assert list(case.inputs) == ["a"] and list(case.constants) == ["b"] and case.ops == {"Add"}


def test_the_pytest_plugin_is_cheap_to_import() -> None:
    script = "import sys, softneuro_core.testing.plugin; print(sorted({'numpy', 'onnx'} & set(sys.modules)))"
    assert _python(Path.cwd(), "-c", script).stdout.strip() == "[]"
