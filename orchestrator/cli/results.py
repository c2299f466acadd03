"""The verbs that show results: tables and figures of what a store has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.markup import escape

from prunesweep.orchestrator.cli.failed import asked_where_failed
from prunesweep.orchestrator.cli.options import (
    STORE,
    AtOption,
    BestByOption,
    ByOption,
    MetricOption,
    PriceOption,
    ResultNames,
    StoreOption,
    ToleranceOption,
    WattsOption,
    WhereOption,
    columns,
    folders,
    places,
    sweep_names,
)
from prunesweep.orchestrator.cli.plotting import Figure, draw
from prunesweep.orchestrator.cli.printing import say, show_rendered
from prunesweep.orchestrator.figures.kinds import ALL, KINDS
from prunesweep.orchestrator.figures.page import Page, read_limits, read_width
from prunesweep.orchestrator.lookup import with_results
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.text import size
from prunesweep.workers.errors import UserError
from prunesweep.workers.location import Location
from prunesweep.workers.store import Store

if TYPE_CHECKING:
    from pandas import DataFrame

    from prunesweep.orchestrator.tables.means import Table
    from prunesweep.orchestrator.tables.text_table import TextTable

FORMATS = ("table", "csv", "markdown", "latex", "json")

FormatOption = Annotated[
    str,
    typer.Option(metavar="FORMAT", help=f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}.", autocompletion=lambda: FORMATS),
]
SearchOption = Annotated[
    bool, typer.Option("--search", metavar="", help="What the candidates of the sweep's searches came to, instead.")
]
SameAsJsonOption = Annotated[bool, typer.Option("--json", metavar="", help="The same as --format json.")]


def results(
    names: ResultNames,
    store: StoreOption = STORE,
    metric: MetricOption = None,
    by: ByOption = None,
    best_by: BestByOption = None,
    tolerance: ToleranceOption = None,
    where: WhereOption = None,
    search: SearchOption = False,
    format: FormatOption = "table",
    as_json_: SameAsJsonOption = False,
) -> None:
    """Compare methods: mean ± deviation (n) over seeds, a column for every sparsity and budget."""
    if search:
        show_candidates(folders(names, store), where or [], "json" if as_json_ else format)
        return
    query = Query(metric, columns(by), where or [], best_by, tolerance)
    show_means(folders(names, store), query, store, "json" if as_json_ else format)


def show_candidates(folders: Sequence[Location], where: Sequence[str], format: str) -> None:
    """What the candidates of searches came to on validation images."""
    from prunesweep.orchestrator.results import filtering, parquet
    from prunesweep.orchestrator.tables import rendering
    from prunesweep.orchestrator.tables.candidates import candidates_table

    frame = filtering.where(parquet.load_candidates(*folders), where)
    show_rendered(rendering.render(candidates_table(frame), format))


def show_means(folders: Sequence[Location], query: Query, store: Location, format: str = "table") -> None:
    """The table of means over seeds, in one of the formats of `orchestrator.tables.rendering`."""
    from prunesweep.orchestrator.tables import grid, rendering

    show_rendered(rendering.render(grid.laid_out(_compared(folders, query, store)), format))


def _compared(folders: Sequence[Location], query: Query, store: Location) -> Table:
    from prunesweep.orchestrator.results import filtering, parquet
    from prunesweep.orchestrator.tables import means as tables

    frame = filtering.where(parquet.load_results(*folders), query.where, keep_dense=True)
    if query.best_by is None:
        asked = asked_where_failed(folders, frame, query, store)
        return tables.means_table(frame, query.metric, query.by, query.tolerance, asked)
    return tables.best_table(frame, query.metric, query.by, query.best_by, query.tolerance)


def compare(
    names: ResultNames,
    store: StoreOption = STORE,
    metric: MetricOption = None,
    by: ByOption = None,
    at: AtOption = None,
    best_by: BestByOption = None,
    tolerance: ToleranceOption = None,
    where: WhereOption = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SETTING",
            help="Compare with this setting instead of the best, such as gmp or retrain_schedule=FT; may be repeated.",
        ),
    ] = None,
    published: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="Compare with published numbers: a name of `list published`, or a CSV file.",
            show_default=False,
        ),
    ] = None,
    across: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="With --published: a column that may differ; may be repeated."),
    ] = None,
    format: FormatOption = "table",
    as_json_: SameAsJsonOption = False,
) -> None:
    """Show differences over shared seeds, to the best of each sparsity and budget or to published numbers."""
    if published is not None and (against or by or at):
        raise UserError("--published fixes what is compared: leave out --against, --by and --at")
    if across and published is None:
        raise UserError("--across goes with --published")
    alike, conditions = places(at)
    query = Query(metric, columns(by), [*(where or ()), *conditions], best_by, tolerance)
    locations, shape = folders(names, store), "json" if as_json_ else format
    frame = _trials(locations, query)
    if published is None:
        asked = None if best_by else asked_where_failed(locations, frame, query, store)
        table = _differences(frame, query, against or [], alike, asked)
    else:
        table = _differences_to_published(frame, query, published, across or [])
    show_rendered(_rendered(table, shape))


def _trials(places: Sequence[Location], query: Query) -> DataFrame:
    """Those that the query is about; with `best_by` those of the best settings."""
    from prunesweep.orchestrator.results import best_settings, filtering, parquet

    frame = filtering.where(parquet.load_results(*places), query.where, keep_dense=True)
    return best_settings.select_best(frame, query.best_by, query.tolerance) if query.best_by else frame


def _differences(
    frame: DataFrame, query: Query, against: Sequence[str], alike: Sequence[str], asked: DataFrame | None
) -> TextTable:
    """Rivals have `alike` the same, by default sparsity and budget; where settings are chosen, the sparsity."""
    from prunesweep.orchestrator.results.aggregation import AXES, SUBJECT
    from prunesweep.orchestrator.results.filtering import setting
    from prunesweep.orchestrator.tables.compare import differences

    settings = dict(setting(frame, _condition(text)) for text in against)
    at = (*SUBJECT, *(alike or (AXES[:1] if query.best_by else AXES)))
    return differences(frame, query.metric, query.by, settings or None, query.tolerance, at, asked)


def _condition(text: str) -> str:
    """`gmp` is `method=gmp`."""
    return text if "=" in text else f"method={text}"


def _differences_to_published(frame: DataFrame, query: Query, place: str, across: Sequence[str]) -> TextTable:
    from prunesweep.orchestrator.results.primary import on_test
    from prunesweep.orchestrator.results.published import load_published
    from prunesweep.orchestrator.tables.compare_published import differences_to_published

    return differences_to_published(frame, load_published(place), on_test(frame, query.metric), across)


def _rendered(table: TextTable, format: str) -> RenderableType:
    from prunesweep.orchestrator.tables.rendering import render

    return render(table, format)


def plot(
    names: ResultNames,
    store: StoreOption = STORE,
    kind: Annotated[
        str,
        typer.Option(metavar="KIND", help=f"{', '.join(KINDS)} or {ALL}.", autocompletion=lambda: [*KINDS, ALL]),
    ] = "sparsity",
    metric: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="What to draw; else what the kind is about.", show_default=False),
    ] = None,
    by: ByOption = None,
    best_by: BestByOption = None,
    tolerance: ToleranceOption = None,
    where: WhereOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A .png, .svg or .pdf file; else NAME.png or NAME-KIND.png here.", show_default=False
        ),
    ] = None,
    width: Annotated[
        str, typer.Option(metavar="WIDTH", help="On paper: 3.25in is a column, 5.5in a text; or cm, mm, pt.")
    ] = "5.5in",
    title: Annotated[
        str, typer.Option(metavar="TEXT", help="A title above the figure; else none.", show_default=False)
    ] = "",
    ylim: Annotated[
        str | None,
        typer.Option(
            metavar="LOW:HIGH", help="The ends of the metric's axis, in its unit, such as 90:98.", show_default=False
        ),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...", help="Methods and schedules in the order to draw them in.", show_default=False
        ),
    ] = None,
) -> None:
    """Draw results: the metric over sparsity, compression, budget or speedup, and more; `--kind all` draws all."""
    query = Query(by=columns(by), where=where or [], best_by=best_by, tolerance=tolerance)
    ending = "" if kind in ("sparsity", ALL) else f"-{kind}"
    places = folders(names, store)
    file = output or Path(f"{'-'.join(Path(folder).name for folder in places)}{ending}.png")
    page = Page(read_width(width), title, None if ylim is None else read_limits(ylim))
    draw(places, query, Figure(kind, metric, file, page, order.split(",") if order else []))


def report(
    names: Annotated[
        list[str],
        typer.Argument(metavar="SWEEP", help="Sweeps by name or file.", show_default=False, autocompletion=sweep_names),
    ],
    store: StoreOption = STORE,
    metric: MetricOption = None,
    by: ByOption = None,
    where: WhereOption = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="An .html file; else NAME.html here.", show_default=False),
    ] = None,
    watts: WattsOption = None,
    price: PriceOption = None,
) -> None:
    """Write one HTML file to mail: comparison, plots, cost, failures, provenance, and how to do it again."""
    from prunesweep.orchestrator.report.contents import gather
    from prunesweep.orchestrator.report.page import check_ending, write

    opened = Store(store)
    names = [with_results(name, opened) for name in names]
    file = output or Path(f"{'-'.join(names)}.html")
    if not file.parent.is_dir():
        raise UserError(f"--output {file}: there is no folder {file.parent}")
    check_ending(file)
    contents = gather(names, opened, Query(metric, columns(by), where or []), watts, price)
    say(f"wrote {escape(str(file))}, {size(write(contents, file))}")
