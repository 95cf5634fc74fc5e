"""The pages for plugin authors say what the code says: every hook, knob and check, and a tutorial that runs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from softneuro_core import hookspecs, knobs
from softneuro_core.testing.isolation import Isolation
from softneuro_core.testing.subject import CHECKS
from softneuro_core.testing.units import CASES_FUNCTION

DOCS = Path(__file__).parents[2] / "docs"
HOOKS = {name: spec for name, spec in vars(hookspecs).items() if name.startswith("softneuro_")}
HOOKS_PAGE = (DOCS / "hooks.md").read_text(encoding="utf-8")
AUTHOR_PAGE = (DOCS / "plugin-author.md").read_text(encoding="utf-8")


def _signature(name: str) -> str:
    return name + str(inspect.signature(HOOKS[name])).replace("'", "").replace("|", "\\|")


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_with_its_exact_arguments(hook: str) -> None:
    assert f"| `{_signature(hook)}` |" in HOOKS_PAGE
    assert inspect.getdoc(HOOKS[hook])


@pytest.mark.parametrize("knob", knobs.KNOBS, ids=lambda knob: knob.name)
def test_every_knob_is_documented_with_default_and_meaning(knob: knobs.Knob) -> None:
    default = f"`{knob.default}`" if knob.default else "not set"
    assert f"| `{knob.name}` | {default} | {knob.meaning} |" in HOOKS_PAGE


def test_nothing_is_documented_that_does_not_exist() -> None:
    named = set(re.findall(r"^\| `(softneuro_\w+)\(", HOOKS_PAGE, re.MULTILINE))
    assert named == set(HOOKS)
    assert set(re.findall(r"SOFTNEURO_[A-Z_]+", HOOKS_PAGE)) == {k.name for k in knobs.KNOBS} | {"SOFTNEURO_API"}
    assert CASES_FUNCTION in HOOKS_PAGE and CASES_FUNCTION in AUTHOR_PAGE


def test_every_check_of_the_kit_is_documented_in_its_own_words() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", AUTHOR_PAGE, re.MULTILINE))
    assert rows == CHECKS


def test_links_lead_somewhere() -> None:
    for page in (HOOKS_PAGE, AUTHOR_PAGE):
        for target in re.findall(r"\]\(([^)#:]+)\)", page):
            assert (DOCS / target).exists(), target


def test_the_tutorial_is_a_plugin_that_conforms(tmp_plugin: Callable[..., ModuleType]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", AUTHOR_PAGE, re.MULTILINE | re.DOTALL)
    source = "\n".join(block for block in blocks if "conformance" not in block)
    module = tmp_plugin(source, name="tutorial_plugin")
    isolation = Isolation(module.__name__)
    units = isolation.units()
    assert {unit.name for unit in units} == {"cpu/my_leakyrelu", "cpu/my_dense"}
    reports = [isolation.check(unit, 60.0) for unit in units]
    isolation.close()
    assert sum(report.offers for report in reports) >= 10
    assert not [str(f) for report in reports for f in report.findings]
