"""What the documentation tells people to type exists: the README's example runs, every verb and option is real."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from softneuro_core.cli.root import VERBS, cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("examples/*/README.md"))]
COMMAND = re.compile(r"(?:^|`)softneuro ([a-z][a-z-]*)([^`#\n]*)", re.MULTILINE)


def commands() -> list[tuple[str, str, str]]:
    """(page, verb, the rest of the line) of every command shown."""
    return [
        (str(page.relative_to(ROOT)), verb, rest.partition("   ")[0])
        for page in PAGES
        for verb, rest in COMMAND.findall(page.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize(("page", "verb", "rest"), commands())
def test_commands_in_the_docs_exist(page, verb, rest):
    assert verb in VERBS, f"{page} shows softneuro {verb}"
    if verb == "demo":
        return
    context = cli.make_context("softneuro", ["--json"], resilient_parsing=True)
    command = cli.get_command(context, verb)
    known = {option for parameter in command.params for option in parameter.opts}
    known |= set(getattr(command, "commands", {}))
    for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest):
        assert option in known, f"{page}: softneuro {verb} has no {option}"
    if hasattr(command, "commands"):
        assert rest.split()[:1] == [] or rest.split()[0] in known, f"{page}: softneuro {verb}{rest}"


def test_the_docs_show_commands():
    assert len(commands()) > 15


def test_options_of_the_tuning_table_exist():
    text = (ROOT / "docs" / "tuning.md").read_text(encoding="utf-8")
    table = text.partition("## Steering it")[2].partition("\n\n`")[0]
    shown = set(re.findall(r"`(--?[a-z]+)", table))
    context = cli.make_context("softneuro", [], resilient_parsing=True)
    known = {option for parameter in cli.get_command(context, "tune").params for option in parameter.opts}
    assert len(shown) > 7
    assert shown <= known


def test_the_example_of_the_readme_runs(tmp_path):
    """As a reader would run it: a script of its own, a fresh cache, the model where the text says it is."""
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    folder = tmp_path / "examples" / "digits"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "examples" / "digits" / "digits.onnx", folder)
    script = tmp_path / "example.py"
    script.write_text(code + "print(outputs['probabilities'].shape, plan.certificate['exact'])\n", encoding="utf-8")
    environment = os.environ | {"SOFTNEURO_CACHE_DIR": str(tmp_path / "cache")}
    run = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["(1,", "10)", "True"]
    assert (tmp_path / "plan.json").exists()


def test_makefile_targets_named_in_the_docs_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))
        assert named <= targets, f"{page.name}: {named - targets}"
    assert {"install", "demo", "test", "test-all", "bench", "check", "size"} <= targets
