"""The verbs `prunesweep export ...`, which write finished trials in the formats of other programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from prunesweep.orchestrator.cli.options import (
    STORE,
    AllowOption,
    DataOption,
    DeviceOption,
    ResultNames,
    StoreOption,
    WhereOption,
    folders,
)
from prunesweep.orchestrator.cli.printing import show
from prunesweep.orchestrator.run.driver import Options
from prunesweep.orchestrator.text import counted
from prunesweep.workers.errors import UserError
from prunesweep.workers.location import Location
from prunesweep.workers.store import Store

if TYPE_CHECKING:
    from prunesweep.orchestrator.export.networks import Form, Row
    from prunesweep.orchestrator.export.trials import FinishedTrial

Item = TypeVar("Item")

NEEDS = {
    "tensorboard": ["tensorboard"],
    "mlflow": ["mlflow", "sqlalchemy", "alembic"],
    "onnx": ["onnx", "onnxscript", "onnxruntime"],
}
"""The modules of each optional extra, which has the name of the verb."""

INCOMPLETE = 1
"""The exit code when some networks are not written."""

NetworksOption = Annotated[
    Path, typer.Option("--to", metavar="FOLDER", help="Where each trial's file is written.", show_default=False)
]
TrialOption = Annotated[
    str | None, typer.Option(metavar="KEY", help="Only the trial whose key begins so.", show_default=False)
]
CheckOption = Annotated[
    bool, typer.Option("--check/--no-check", help="See that a file has the table's accuracy on the test set.")
]

export_app = typer.Typer(help="Write finished trials for other programs.", no_args_is_help=True)


@export_app.command()
def tensorboard(
    names: ResultNames,
    to: Annotated[
        Path, typer.Option(metavar="FOLDER", help="What `tensorboard --logdir` is to show.", show_default=False)
    ],
    store: StoreOption = STORE,
) -> None:
    """Write each finished trial as a run of TensorBoard: curves, settings, results. Exporting again changes nothing."""
    _require("tensorboard")
    _check_folder(to)
    from prunesweep.orchestrator.export import tensorboard

    trials = _finished(names, store)
    for trial in _tracked(trials):
        tensorboard.write(trial, to)
    print(f"{counted(len(trials), 'trial')} in {to}; look at them with: tensorboard --logdir {to}")


@export_app.command()
def mlflow(
    names: ResultNames,
    to: Annotated[
        Location,
        typer.Option(
            metavar="PLACE",
            parser=Location,
            help="A tracking server's URL, a database's, or a folder for one.",
            show_default=False,
        ),
    ],
    experiment: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The experiment; else the sweep's name.", show_default=False),
    ] = None,
    store: StoreOption = STORE,
) -> None:
    """Write each finished trial as a run of MLflow: curves, settings, results. Exporting again changes nothing."""
    _require("mlflow")
    trials = _finished(names, store)
    from prunesweep.orchestrator.export import mlflow

    target = mlflow.Experiment(to, experiment or trials[0].notes["sweep"])
    written = sum([target.write(trial) for trial in _tracked(trials)])
    kept = f", {len(trials) - written:,} were there already" if written < len(trials) else ""
    place = mlflow.uri(to)
    look = f"; look at them with: mlflow ui --backend-store-uri {place}" if place.reveal().startswith("sqlite:") else ""
    print(f"{counted(written, 'trial')} written to {to}{kept}{look}")


@export_app.command()
def network(
    names: ResultNames,
    to: NetworksOption,
    where: WhereOption = None,
    trial: TrialOption = None,
    check: CheckOption = True,
    device: DeviceOption = "auto",
    data_dir: DataOption = Path("data"),
    store: StoreOption = STORE,
    allow: AllowOption = None,
) -> None:
    """Write each finished trial's network as safetensors, which the plain torchvision or project model loads."""
    _check_folder(to)
    options = Options(device=device, data_folder=str(data_dir))
    from prunesweep.orchestrator.export import networks

    rows = networks.rows(folders(names, store), where or [], trial)
    _export(rows, Store(store), options.data_folder, to, networks.safetensors(options.device), check, allow or ())


@export_app.command()
def onnx(
    names: ResultNames,
    to: NetworksOption,
    where: WhereOption = None,
    trial: TrialOption = None,
    check: CheckOption = True,
    data_dir: DataOption = Path("data"),
    store: StoreOption = STORE,
    allow: AllowOption = None,
) -> None:
    """Write each finished trial's network as ONNX, for any number of images. ONNX Runtime checks it, on the CPU."""
    _require("onnx")
    _check_folder(to)
    from prunesweep.orchestrator.export import networks
    from prunesweep.orchestrator.export.onnx import onnx as form

    rows = networks.rows(folders(names, store), where or [], trial)
    _export(rows, Store(store), str(data_dir), to, form(), check, allow or ())


def _export(
    rows: Sequence[Row], store: Store, data_dir: str, to: Path, form: Form, check: bool, allowed: Sequence[str]
) -> None:
    """Export each trial; print an error for each that cannot be, and then exit with 1."""
    from prunesweep.orchestrator.export import networks

    sweeps = {row["sweep"]: networks.sweep_of(row, store, allowed) for row in rows}
    differences = []
    for row in _tracked(rows):
        try:
            differences.append(networks.export(row, sweeps[row["sweep"]], store, data_dir, to, form, check))
        except networks.NotExported as error:
            show(f"error: {error}", error=True)
    print(f"{counted(len(differences), 'network')} in {to}{_checked(differences) if check else ', not checked'}")
    if len(differences) < len(rows):
        raise typer.Exit(INCOMPLETE)


def _checked(differences: Sequence[int]) -> str:
    worst = max(differences, default=None)
    if worst is None:
        return ""
    return f", each within {counted(worst, 'test image')} of the table" if worst else ", each with the table's accuracy"


def _check_folder(to: Path) -> None:
    if to.exists() and not to.is_dir():
        raise UserError(f"--to {to}: this is a file; name a folder, which is made where there is none")


def _require(extra: str) -> None:
    if not all(map(find_spec, NEEDS[extra])):
        raise UserError(f"export {extra} needs: pip install 'prunesweep[{extra}]'")


def _finished(names: list[str], store: Location) -> list[FinishedTrial]:
    from prunesweep.orchestrator.export.trials import finished

    trials = finished(folders(names, store))
    if not trials:
        raise UserError(f"nothing to export: no trial of {', '.join(names)} is finished")
    return trials


def _tracked(trials: Sequence[Item]) -> Iterable[Item]:
    """The trials, with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(trials, "exporting", console=console, transient=True, disable=not console.is_terminal)
