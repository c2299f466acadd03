"""A report's contents as one HTML file: nothing in it is fetched from elsewhere, and the browser is told so."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterator
from pathlib import Path

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from prunesweep.orchestrator import glossary
from prunesweep.orchestrator.report.contents import Contents, summary_of
from prunesweep.orchestrator.report.fairness import MET
from prunesweep.orchestrator.report.plotly_charts import plotly_chart
from prunesweep.orchestrator.report.rendering import asset, environment
from prunesweep.orchestrator.sweep import Sweep
from prunesweep.workers.errors import UserError

SUFFIXES = (".html", ".htm")


def check_ending(file: Path) -> None:
    """Raise `UserError` for a file that is not to be HTML, before anything is gathered."""
    if file.suffix.lower() not in SUFFIXES:
        raise UserError(f"{file}: a report's file ends in .html; a browser prints it as a PDF")


def write(contents: Contents, file: Path) -> int:
    """Write the report of some sweeps; returns its size in bytes. Equal stores make equal files."""
    data = page(contents).encode()
    file.write_bytes(data)
    return len(data)


def page(contents: Contents) -> str:
    """The whole file. What comes from a sweep or a log is escaped; only our own style and scripts are not."""
    charts = [(kind, plotly_chart(chart)) for kind, chart in contents.answer.charts] if contents.answer else []
    return (
        environment()
        .get_template("page.html")
        .render(
            contents=contents,
            names=[plan.sweep.name for plan in contents.plans],
            title=", ".join(dict.fromkeys(plan.sweep.about.title or plan.sweep.name for plan in contents.plans)),
            summary=summary_of(contents.trials),
            charts=charts,
            met=sum(item.verdict == MET for item in contents.answer.checks) if contents.answer else 0,
            glossary=glossary,
            per_seed=_csv_link(contents.answer.per_seed()) if contents.answer else None,
            link=_link,
            commands=list(_commands(contents)),
            pandas=_pandas(contents),
            style=Markup(asset("page.css")),
            script=Markup(asset("components.js") + asset("page.js")),
            plotly=Markup(get_plotlyjs()) if charts else None,
        )
    )


def _link(sweep: Sweep) -> str:
    """The sweep's file, for a browser to save."""
    return f"data:text/plain;base64,{base64.b64encode(sweep.text.encode()).decode()}"


def _csv_link(text: str) -> str:
    return f"data:text/csv;base64,{base64.b64encode(text.encode()).decode()}"


def _commands(contents: Contents) -> Iterator[str]:
    """What computes everything again, and shows it."""
    named = shlex.join(plan.sweep.name for plan in contents.plans)
    query = contents.query
    options = [] if query.metric is None else ["--metric", query.metric]
    options += [part for name in query.by for part in ("--by", name)]
    options += [part for condition in query.where for part in ("--where", condition)]
    same = f" {shlex.join(options)}" if options else ""
    rates = [("--watts", contents.bill.watts), ("--price", contents.bill.price)]
    costs = "".join(f" {name} {value:g}" for name, value in rates if value is not None)
    for plan in contents.plans:
        yield f"prunesweep run {shlex.quote(plan.sweep.path.name)}"
    yield f"prunesweep results {named}{same}"
    yield f"prunesweep plot {named}{same}"
    yield f"prunesweep report {named}{same}{costs}"


def _pandas(contents: Contents) -> str:
    """Two lines that compute the comparison's means."""
    names = [plan.sweep.name for plan in contents.plans]
    metric = contents.answer.names[-1] if contents.answer else contents.query.metric
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
