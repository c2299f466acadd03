"""A report's contents as one HTML file: nothing in it is fetched from elsewhere, and the browser is told so."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterator, Sequence
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from prunesweep.orchestrator.figures.kinds import KINDS
from prunesweep.orchestrator.report import glossary, settings
from prunesweep.orchestrator.report.answer import for_readers
from prunesweep.orchestrator.report.contents import Contents, gather, summary
from prunesweep.orchestrator.report.fairness import MET
from prunesweep.orchestrator.report.plotly_charts import plotly_chart
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.sweepfile.read import Sweep
from prunesweep.orchestrator.tables.wording import words
from prunesweep.orchestrator.text import counted, duration, for_html, size
from prunesweep.workers.errors import UserError
from prunesweep.workers.store import Store

SUFFIXES = (".html", ".htm")

MOST_COLUMNS = 6
"""So many fit on paper beside each other; the other columns of a comparison come below."""


def write(names: Sequence[str], store: Store, query: Query, file: Path) -> int:
    """Write the report of some sweeps; returns its size in bytes. Equal stores make equal files."""
    if file.suffix.lower() not in SUFFIXES:
        raise UserError(f"{file}: a report's file ends in .html; a browser prints it as a PDF")
    data = page(gather(names, store, query)).encode()
    file.write_bytes(data)
    return len(data)


def _clean(value: Any) -> Any:
    return for_html(value) if type(value) is str else value


def page(contents: Contents) -> str:
    """The whole file. What comes from a sweep or a log is escaped; only our own style and scripts are not."""
    environment = Environment(
        loader=PackageLoader("prunesweep.orchestrator.report", ""),
        autoescape=True,
        finalize=_clean,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "size": size, "words": words, "counted": counted}
    charts = [(kind, plotly_chart(chart)) for kind, chart in contents.answer.charts] if contents.answer else []
    return environment.get_template("page.html").render(
        contents=contents,
        names=[plan.sweep.name for plan in contents.plans],
        title=", ".join(dict.fromkeys(plan.sweep.about.title or plan.sweep.name for plan in contents.plans)),
        summary=summary(contents),
        charts=charts,
        panels=[panel.json for _, chart in charts for panel in chart.panels],
        kinds=KINDS,
        met=sum(item.verdict == MET for item in contents.answer.checks) if contents.answer else 0,
        settings=settings,
        glossary=glossary,
        for_readers=for_readers,
        per_seed=_csv_link(contents.answer.per_seed()) if contents.answer else None,
        most_columns=MOST_COLUMNS,
        groups=_groups,
        link=_link,
        commands=list(_commands(contents)),
        pandas=_pandas(contents),
        style=_own("page.css"),
        script=_own("page.js"),
        plotly=Markup(get_plotlyjs()) if charts else None,
    )


def _groups(columns: Sequence[Sequence[str]]) -> list[tuple[str, int]]:
    """The upper labels of the columns, each with how many are below it."""
    return [(first, len(list(same))) for first, same in groupby(first for first, *_ in columns)]


def _own(name: str) -> Markup:
    return Markup(files("prunesweep.orchestrator.report").joinpath(name).read_text())


def _link(sweep: Sweep) -> str:
    """The sweep's file, for a browser to save."""
    return f"data:text/plain;base64,{base64.b64encode(sweep.text.encode()).decode()}"


def _csv_link(text: str) -> str:
    return f"data:text/csv;base64,{base64.b64encode(text.encode()).decode()}"


def _commands(contents: Contents) -> Iterator[str]:
    """What computes everything again, and shows it."""
    named = shlex.join(plan.sweep.name for plan in contents.plans)
    query = contents.query
    options = [] if query.metric == "test_accuracy" else ["--metric", query.metric]
    options += [part for name in query.by for part in ("--by", name)]
    options += [part for condition in query.where for part in ("--where", condition)]
    same = f" {shlex.join(options)}" if options else ""
    for plan in contents.plans:
        yield f"prunesweep run {shlex.quote(plan.sweep.path.name)}"
    yield f"prunesweep results {named}{same}"
    yield f"prunesweep plot {named}{same}"
    yield f"prunesweep report {named}{same}"


def _pandas(contents: Contents) -> str:
    """Two lines that compute the comparison's means."""
    names = [plan.sweep.name for plan in contents.plans]
    metric = contents.query.metric
    by = contents.answer.names[:-1] if contents.answer else ["method", "target_sparsity"]
    folders = ", ".join(json.dumps(f"results/{name}") for name in names)
    return "\n".join(
        [
            "from prunesweep import load_results",
            "",
            f"trials = load_results({folders})",
            f'print(trials.groupby({json.dumps(by)}, dropna=False).{metric}.agg(["mean", "std", "count"]))',
        ]
    )
