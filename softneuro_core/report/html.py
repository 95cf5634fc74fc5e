"""The HTML report: one file that needs nothing else. Puts the sections together and writes the file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template

import softneuro_core
from softneuro_core.catalog import Catalog
from softneuro_core.files import write_file
from softneuro_core.graph import Graph
from softneuro_core.plan import Plan
from softneuro_core.program import prepare
from softneuro_core.report import sections
from softneuro_core.report.bounded_section import bounded_section
from softneuro_core.report.explanation import Explanation, explain
from softneuro_core.report.memory_picture import ArenaPicture, memory_picture
from softneuro_core.session import StepTime
from softneuro_core.task import Tuned


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of the plan where the page is made: ``whole`` as of ``softneuro bench`` (median_us, min_us,
    runs), ``steps`` as of :meth:`Session.profile`."""

    whole: Mapping[str, float]
    steps: Sequence[StepTime] = ()

    @property
    def by_step(self) -> dict[str, float]:
        return {t.name: t.us for t in self.steps}


def write_report(
    path: str | os.PathLike[str],
    tuned: Tuned,
    catalog: Catalog,
    plan: Plan | None = None,
    measured: Measured | None = None,
) -> None:
    """Writes the page of a tuning, or of another ``plan`` judged by its cost table; raises ``OSError``."""
    write_file(path, report_page(tuned, catalog, plan, measured))


def report_page(tuned: Tuned, catalog: Catalog, plan: Plan | None = None, measured: Measured | None = None) -> str:
    """The page's text."""
    found, shown, graph = explain(tuned, plan), plan or tuned.plan, tuned.form.graph
    program = prepare(graph, shown, catalog)
    steps = measured.by_step if measured else {}
    parts = [
        sections.header(found, shown),
        sections.tiles(found, shown, measured.whole if measured else None),
        bounded_section(found.bound),
        sections.operators_section(found),
        sections.plan_section(graph, shown, found, steps, "The plan"),
        sections.alternatives_section(found, "Alternatives"),
        sections.conversions_section(found),
        sections.memory_section(memory_picture(program), program.constant_bytes),
        *_bodies(tuned, shown, found),
        sections.facts_section(found, shown),
    ]
    return _page(f"{found.model}: plan", "\n".join(parts))


def _bodies(tuned: Tuned, plan: Plan, found: Explanation) -> list[str]:
    """Bodies of control flow, each with its plan and alternatives, and those inside them."""
    parts = []
    for key, reasons in found.bodies.items():
        body = tuned.bodies[key]
        graph: Graph = body.form.graph
        inner = plan.bodies.get(key, body.plan)
        parts.append(sections.plan_section(graph, inner, reasons, {}, f"Body {key}"))
        parts.append(sections.alternatives_section(reasons, f"Alternatives in {key}"))
        parts += _bodies(body, inner, reasons)
    return parts


def memory_page(model: str, pictures: Sequence[ArenaPicture], constant_bytes: int) -> str:
    """A page of the memory picture alone."""
    head = f"<header><h1>{escape(model)}</h1><p>memory plan</p></header>"
    return _page(f"{model}: memory", head + sections.memory_section(pictures, constant_bytes))


def _page(title: str, body: str) -> str:
    here = files("softneuro_core.report")
    style, script, page = (here.joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js", "html"))
    return Template(page).substitute(
        title=escape(title),
        style=style.strip(),
        script=script.strip(),
        body=body,
        version=escape(softneuro_core.__version__),
    )
