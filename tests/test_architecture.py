"""The shape of the code: who may import whom, what the core never touches, how long files may be, what the docs name.

``LAYERS`` is the dependency direction; ``python tests/test_architecture.py`` writes it into ARCHITECTURE.md, with the
first paragraph of every module's docstring, and the index of the decisions. Imports at the top of a module obey it; an
import inside a function may look up (a session asks for ``tune`` only when it has no plan), a plugin never.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "softneuro_core"
FORBIDDEN = ("numba", "llvmlite", "pyopencl", "onnxruntime", "threadpoolctl", "torch", "tensorflow")
"""Never imported by the core, not even inside a function."""
LAZY_ONLY = {"scipy": ("tuner/ilp.py",), "PIL": ("images.py",)}
"""Optional packages: imported inside functions of these modules and nowhere else."""
MAX_LINES = 600

LAYERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "Words: what everything speaks of",
        (
            "errors",
            "files",
            "mapped",
            "pages",
            "knobs",
            "progress",
            "versions",
            "spec",
            "changes",
            "graph",
            "operators",
            "user_code",
        ),
    ),
    (
        "Contracts: what plugins implement, and how they are found",
        (
            "device",
            "routine",
            "hookspecs",
            "passes",
            "catalog",
            "descriptor",
            "packing",
            "scaffold",
            "encoding",
            "grids",
        ),
    ),
    ("What the core brings: the reference, control flow, plain adapters", ("export", "builtin")),
    ("From file to graph: import and passes", ("passes.*", "importer", "images")),
    (
        "For routines of any plugin: regions read, geometry as plain numbers",
        ("epilogue", "axes", "windows", "phases", "strides", "resizing", "cook_toom", "winograd_tile"),
    ),
    (
        "Choice: candidates, the exact tuner, the plan",
        ("tuner", "bound", "plan", "candidates", "estimate", "selection", "corrections", "assembly"),
    ),
    (
        "Execution: prepare, memory, bind, run",
        ("memory", "placement", "slots", "program", "executable", "replay", "session"),
    ),
    ("Calibration: ranges of values on data", ("calibration",)),
    (
        "Measurement: profiling in workers, costs, tune",
        (
            "rig",
            "profiling",
            "costs",
            "pricing",
            "worker",
            "memory_budget",
            "task",
            "settling",
            "alternatives",
            "rivals",
            "one_device",
            "tuning",
        ),
    ),
    ("Accuracy: plans within a bound held on data", ("accuracy",)),
    ("For people: reports", ("report", "onnx_backend")),
    ("Command line: one file a verb", ("cli",)),
    ("For plugin authors: the conformance kit; nothing in the core imports it", ("testing",)),
)
"""From the bottom up; a module may import, at its top, from its own layer and the earlier ones."""


def modules() -> dict[str, Path]:
    """Dotted name below softneuro_core -> file; the templates of new-plugin are no modules."""
    found = {}
    for path in sorted(CORE.rglob("*.py")):
        parts = path.relative_to(CORE).with_suffix("").parts
        if parts[0] != "templates":
            found[".".join(p for p in parts if p != "__init__")] = path
    return found


MODULES = modules()


@cache
def imports(name: str) -> tuple[tuple[str, bool], ...]:
    """(absolute name imported, True if at the top of the module) of every import outside ``if TYPE_CHECKING``."""
    return tuple(_imports(ast.parse(MODULES[name].read_text(encoding="utf-8")), True))


def _imports(node: ast.AST, at_top: bool) -> Iterator[tuple[str, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(child, ast.Import):
            yield from ((alias.name, at_top) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "relative imports hide where a name lives"
            yield from ((f"{child.module}.{alias.name}", at_top) for alias in child.names)
        yield from _imports(child, at_top and not inside)


def own(imported: str) -> str | None:
    """The core module an imported name is, or lies in; None for other packages."""
    if imported.split(".")[0] != "softneuro_core":
        return None
    inner = imported.partition(".")[2]
    while inner and inner not in MODULES:
        inner = inner.rpartition(".")[0]
    return inner


def layer_of(module: str) -> int:
    """Position of the layer; the longest matching entry counts, ``passes.*`` meaning the modules inside only."""
    best, place = "", -1
    for position, (_, names) in enumerate(LAYERS):
        for name in names:
            base = name.removesuffix(".*")
            fits = module.startswith(base + ".") or (module == base and not name.endswith(".*"))
            if fits and len(name) > len(best):
                best, place = name, position
    return place


def test_every_module_has_a_layer():
    homeless = [name for name in MODULES if name and layer_of(name) < 0]
    assert not homeless, f"add to LAYERS and to ARCHITECTURE.md: {homeless}"
    assert not [n for _, names in LAYERS for n in names if n.removesuffix(".*") not in MODULES], "LAYERS names ghosts"


@pytest.mark.parametrize("name", [n for n in MODULES if n])
def test_imports_point_downwards(name):
    for imported, at_top in imports(name):
        target = own(imported)
        if not target or target == name:
            continue
        assert name.startswith("testing") or not target.startswith("testing"), f"{name} imports the test kit: {target}"
        if at_top:
            assert layer_of(target) <= layer_of(name), f"{name} imports {target}, which stands above it"


def test_no_cycles_among_top_level_imports():
    graph = {name: {own(i) for i, at_top in imports(name) if at_top} & MODULES.keys() - {name, ""} for name in MODULES}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"import cycle: {' -> '.join((*path[path.index(name) :], name))}"
        if name not in done:
            for target in graph[name]:
                visit(target, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())
    assert len(done) == len(MODULES)


@pytest.mark.parametrize("name", [n for n in MODULES if n.startswith("tuner")])
def test_the_tuner_is_pure(name):
    """Numbers in, selection out: of the core it knows its own modules and the errors, nothing else."""
    known = {own(imported) for imported, _ in imports(name)} - {None}
    assert {k for k in known if k != "errors" and k.split(".")[0] != "tuner"} == set()


@pytest.mark.parametrize("name", list(MODULES))
def test_the_source_imports_no_plugin_and_no_engine(name):
    file = MODULES[name].relative_to(CORE).as_posix()
    for imported, at_top in imports(name):
        package = imported.split(".")[0]
        assert package not in FORBIDDEN, f"{file} imports {imported}"
        assert package == "softneuro_core" or not package.startswith("softneuro"), f"{file} imports {imported}"
        if package in LAZY_ONLY:
            assert file in LAZY_ONLY[package] and not at_top, f"{file} imports {imported}"


def test_loading_every_core_module_loads_no_plugin_and_no_engine():
    """In a process of its own: after importing all of the core, nothing forbidden is in sys.modules."""
    names = sorted({"softneuro_core" + (f".{n}" if n else "") for n in MODULES if not n.endswith("__main__")})
    program = "import importlib, json, sys\n" + f"for name in {names!r}: importlib.import_module(name)\n"
    program += "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    loaded = set(json.loads(run.stdout.splitlines()[-1]))
    assert {"softneuro_core", "numpy", "onnx"} <= loaded
    assert not loaded & {*FORBIDDEN, *LAZY_ONLY}
    assert {name for name in loaded if name.startswith("softneuro")} == {"softneuro_core"}


def test_importing_the_package_is_light():
    """A plugin's top module imports hookimpl: that must not cost onnx or numpy."""
    program = "import sys; from softneuro_core import hookimpl; print('onnx' in sys.modules, 'numpy' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]


def source_files() -> list[Path]:
    folders = (CORE, ROOT / "plugins", ROOT / "examples", ROOT / "benchmarks", ROOT / "tests")
    skipped = {"build", "__pycache__"}
    return [p for folder in folders for p in sorted(folder.rglob("*.py")) if not skipped & set(p.parts)]


def test_no_file_is_too_long():
    lengths = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in source_files()}
    assert len(lengths) > 100
    assert {name: n for name, n in lengths.items() if n > MAX_LINES} == {}


@pytest.mark.parametrize("name", [n for n in MODULES if n])
def test_every_module_stands_in_the_architecture_page(name):
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    path = MODULES[name].relative_to(CORE).as_posix()
    assert f"`{path}`" in page, f"ARCHITECTURE.md has no line for {path}: python tests/test_architecture.py writes it"


def pages() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("examples/*/*.md")),
            ROOT / "benchmarks" / "README.md"]  # fmt: skip


PATH = re.compile(r"`((?:softneuro_core|tests|plugins|benchmarks|docs|examples)/[\w./-]+)`|\]\(([\w./-]+)\)")


@pytest.mark.parametrize("page", pages(), ids=lambda p: str(p.relative_to(ROOT)))
def test_paths_named_in_the_docs_exist(page):
    for quoted, linked in PATH.findall(page.read_text(encoding="utf-8")):
        target = ROOT / quoted if quoted else page.parent / linked
        assert target.exists(), f"{page.name} names {quoted or linked}, which is not there"


def test_every_guarantee_in_the_readme_names_its_tests():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|(.+)\|$", text.partition("## Guarantees")[2].partition("\n## ")[0], re.MULTILINE)[2:]
    assert len(rows) >= 3
    assert [row for row in rows if "`tests/" not in row and "`plugins/" not in row] == []


def test_the_index_of_decisions_is_complete():
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    records = sorted(folder.glob("[0-9]*.md"))
    assert records
    missing = [p.name for p in records if f"]({p.name})" not in index]
    assert not missing, "python tests/test_architecture.py writes the index"
    assert [p.name for p in records if len(p.read_text(encoding="utf-8").splitlines()) > 60] == []


def module_tables() -> str:
    """The tables of ARCHITECTURE.md: layers from the bottom up, modules in the order LAYERS names them."""
    parts = []
    for place, (title, names) in enumerate(LAYERS):
        inside = [name for name in MODULES if name and layer_of(name) == place]
        bases = [name.removesuffix(".*") for name in names]
        inside.sort(key=lambda name: next(i for i, b in enumerate(bases) if name == b or name.startswith(b + ".")))
        rows = [f"| `{MODULES[name].relative_to(CORE).as_posix()}` | {_purpose(MODULES[name])} |" for name in inside]
        parts.append("\n".join([f"### {title}", "", "| module | what it owns |", "| --- | --- |", *rows]))
    return "\n\n".join(parts) + "\n"


def _purpose(path: Path) -> str:
    told = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
    return re.sub(r":\w+:`([^`]+)`", r"`\1`", " ".join(told.split())).replace("``", "`").replace("|", "\\|")


def decision_rows() -> str:
    """The table of docs/decisions/README.md."""
    records = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    titles = {p.name: p.read_text(encoding="utf-8").partition("\n")[0] for p in records}
    return "".join(f"| [{name[:4]}]({name}) | {title.lstrip('# ')[5:]} |\n" for name, title in titles.items())


def rewrite(page: Path, marker: str, rest: str) -> None:
    """Replaces everything of a page from ``marker`` on."""
    head = page.read_text(encoding="utf-8").partition(marker)[0]
    page.write_text(head + rest, encoding="utf-8")


if __name__ == "__main__":
    rewrite(ROOT / "ARCHITECTURE.md", "### ", module_tables())
    rewrite(ROOT / "docs" / "decisions" / "README.md", "| --- | --- |\n", "| --- | --- |\n" + decision_rows())
