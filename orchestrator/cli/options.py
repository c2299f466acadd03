"""The arguments and options that verbs share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from prunesweep.orchestrator.lookup import results_place
from prunesweep.orchestrator.records import known
from prunesweep.workers.errors import UserError
from prunesweep.workers.location import Location
from prunesweep.workers.store import Store


def sweep_names(context: typer.Context) -> list[str]:
    """For the shell's completion: the sweeps of the store that the line names so far."""
    try:
        return known(Store(context.params.get("store") or STORE))
    except (UserError, OSError):
        return []


def web_hook(url: str) -> Location:
    """Who knows its path can write into the chat."""
    return Location(url, path_is_secret=True)


SweepFile = Annotated[Path, typer.Argument(metavar="FILE", help="A sweep file, .yaml or .py.", show_default=False)]
SweepName = Annotated[
    str,
    typer.Argument(metavar="SWEEP", help="A sweep's name or file.", show_default=False, autocompletion=sweep_names),
]
STORE = Location("results")

StoreOption = Annotated[
    Location,
    typer.Option(
        "--store",
        metavar="PLACE",
        envvar="PRUNESWEEP_STORE",
        parser=Location,
        help="Folder or URL of all stages and tables.",
    ),
]
DataOption = Annotated[
    Path, typer.Option("--data-dir", metavar="FOLDER", envvar="PRUNESWEEP_DATA", help="Folder of the datasets.")
]
DeviceOption = Annotated[
    str, typer.Option(metavar="DEVICE", help="auto (a GPU where trials get one), cpu, cuda or cuda:N.")
]
LoadersOption = Annotated[
    int,
    typer.Option(metavar="N", min=0, help="Processes that decode images, for each trial; a CPU each."),
]
MaxFailuresOption = Annotated[
    int | None,
    typer.Option(
        "--max-failures", metavar="N", min=0, help="Stop when more stages than this fail.", show_default=False
    ),
]
StallLimitOption = Annotated[
    float | None,
    typer.Option(
        "--stall-limit",
        metavar="MINUTES",
        min=0.01,
        help="End a stage that has drawn no batch for so long, and note where it stood.",
        show_default=False,
    ),
]
MaxConcurrentOption = Annotated[
    int | None,
    typer.Option(
        "--max-concurrent",
        metavar="N",
        min=1,
        help="Run at most this many stages at once; else as many as fit.",
        show_default=False,
    ),
]
AutoscalingOption = Annotated[
    bool,
    typer.Option("--autoscaling", metavar="", help="The cluster gets nodes on demand: wait for those that it lacks."),
]
NotifyOption = Annotated[
    Location | None,
    typer.Option(
        metavar="URL",
        parser=web_hook,
        envvar="PRUNESWEEP_NOTIFY",
        help="A web hook, for example of a chat, that gets a message when the run ends.",
        show_default=False,
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", metavar="", help="Run even if the disk may be too small.")]
SameCodeOption = Annotated[
    bool,
    typer.Option("--same-code", metavar="", help="Treat your changed code as the code that was run before."),
]
AllowOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODULE", help="Let the store's record have a module imported that is not of this folder; repeatable."
    ),
]
AddressOption = Annotated[
    Location | None,
    typer.Option(
        metavar="ADDRESS",
        parser=Location,
        help="A running Ray cluster, such as 10.0.0.1:6379; else one is started here.",
    ),
]
DashboardOption = Annotated[
    Location,
    typer.Option(
        "--address",
        metavar="URL",
        parser=Location,
        envvar="PRUNESWEEP_ADDRESS",
        help="The dashboard of a Ray cluster, such as http://head:8265.",
        show_default=False,
    ),
]
OptionalDashboardOption = Annotated[
    Location | None,
    typer.Option(
        "--address",
        metavar="URL",
        parser=Location,
        envvar="PRUNESWEEP_ADDRESS",
        help="The dashboard of a Ray cluster, for the log of a sweep's job there.",
        show_default=False,
    ),
]
TrialArgument = Annotated[
    str | None,
    typer.Argument(metavar="KEY", help="The beginning of a trial's or a stage's key.", show_default=False),
]
SharedStoreOption = Annotated[
    Location,
    typer.Option(
        "--store",
        metavar="PLACE",
        parser=Location,
        envvar="PRUNESWEEP_STORE",
        help="Folder or URL of all stages and tables, which all nodes see.",
        show_default=False,
    ),
]
SharedDataOption = Annotated[
    str,
    typer.Option(
        "--data-dir",
        metavar="FOLDER",
        help="Folder of the datasets on all nodes; else the head's PRUNESWEEP_DATA.",
        show_default=False,
    ),
]
FollowOption = Annotated[
    bool, typer.Option("--follow", metavar="", help="Print the log until the job ends; Ctrl-C ends only the printing.")
]
ChangesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Replaces a value of the file, such as train.lr=0.05,0.1; may be repeated."
    ),
]
ResourceChangesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Changes what each trial occupies, such as resources.cpus=1, for another machine; may be repeated.",
    ),
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(metavar="CONDITION", help='Run these trials only, such as "method=imp"; may be repeated.'),
]
TrialKeyOption = Annotated[
    str | None,
    typer.Option("--trial", metavar="KEY", help="Run only the trial whose key begins like this.", show_default=False),
]
WattsOption = Annotated[
    float | None,
    typer.Option(metavar="WATTS", min=0, help="The power of a GPU while it works, for the energy.", show_default=False),
]
PriceOption = Annotated[
    float | None,
    typer.Option(metavar="PRICE", min=0, help="Of an hour of one GPU, for the cost.", show_default=False),
]
SmokeOption = Annotated[
    bool,
    typer.Option(
        "--smoke", metavar="", help="Only rehearse: a few batches of each kind of trial, and a forecast of the whole."
    ),
]
JobName = Annotated[
    str,
    typer.Argument(metavar="SWEEP", help="A sweep's name or file, for its last job; or a job's.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON, for programs.")]
ResultNames = Annotated[
    list[str],
    typer.Argument(
        metavar="SWEEP",
        help="Sweeps by name or by file, or folders with results.",
        show_default=False,
        autocompletion=sweep_names,
    ),
]
MetricOption = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="What to compare; the task's primary metric unless given.", show_default=False),
]
ByOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN,...", help="Columns that make the rows instead of method and schedule, separated by commas."
    ),
]
AtOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN[=VALUE]",
        help="What rivals have alike, instead of sparsity and total epochs; such as target_sparsity=0.9; repeatable.",
    ),
]
BestByOption = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN", help="Show only the setting with the best mean of this column, for each row and sparsity."
    ),
]
ToleranceOption = Annotated[
    float | None,
    typer.Option(
        metavar="T",
        min=0,
        help="How far a setting may be from its target sparsity: 0.002 by default, 0.02 with --best-by.",
        show_default=False,
    ),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CONDITION",
        help='Which trials, such as "target_sparsity>=0.9", in quotes: a shell takes > for a file. May be repeated.',
    ),
]


def columns(by: Sequence[str] | None) -> list[str]:
    """The columns of `--by`, which may be repeated or hold several between commas."""
    names = [column.strip() for text in by or () for column in text.split(",")]
    if "stage_keys" in names:
        raise UserError("--by stage_keys: a trial has several of them, by which nothing can be grouped")
    return names


def places(at: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The columns of `--at`, and the conditions of those that are given a value."""
    names = [name for text in at or () for name in ([text] if "=" in text else text.split(","))]
    columns = [name.partition("=")[0].strip() for name in names]
    return list(dict.fromkeys(columns)), [name for name in names if "=" in name]


def folders(names: Sequence[str], store: Location) -> list[Location]:
    """Where the results of each sweep are; raises `UserError` for one that has none."""
    opened = Store(store)
    return [results_place(name, opened) for name in names]
