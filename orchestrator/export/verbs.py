"""The verbs `prunesweep export ...`: what is in the store, in the forms of other programs."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.labels import counted
from orchestrator.options import ResultNames, StoreOption, folders
from workers.errors import UserError

if TYPE_CHECKING:
    from orchestrator.export.trials import FinishedTrial

NEEDS = {"tensorboard": ["tensorboard"], "mlflow": ["mlflow", "sqlalchemy", "alembic"]}
"""The modules of each optional extra, which has the name of the verb."""

export_app = typer.Typer(help="Hand finished trials to other programs.", no_args_is_help=True)


@export_app.command()
def tensorboard(
    names: ResultNames,
    to: Annotated[
        Path, typer.Option(metavar="FOLDER", help="What `tensorboard --logdir` is to show.", show_default=False)
    ],
    store: StoreOption = "results",
) -> None:
    """Write each finished trial as a run of TensorBoard: curves, settings, results. Once more changes nothing."""
    _require("tensorboard")
    from orchestrator.export import tensorboard

    trials = _finished(names, store)
    for trial in _shown(trials):
        tensorboard.write(trial, to)
    print(f"{counted(len(trials), 'trial')} in {to}; look at them with: tensorboard --logdir {to}")


@export_app.command()
def mlflow(
    names: ResultNames,
    to: Annotated[
        str,
        typer.Option(
            metavar="PLACE", help="A tracking server's URL, a database's, or a folder for one.", show_default=False
        ),
    ],
    experiment: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The experiment; else the sweep's name.", show_default=False),
    ] = None,
    store: StoreOption = "results",
) -> None:
    """Write each finished trial as a run of MLflow: curves, settings, results. Once more changes nothing."""
    _require("mlflow")
    trials = _finished(names, store)
    from orchestrator.export import mlflow

    target = mlflow.Experiment(to, experiment or trials[0].notes["sweep"])
    written = sum([target.write(trial) for trial in _shown(trials)])
    kept = f", {len(trials) - written:,} were there already" if written < len(trials) else ""
    place = mlflow.uri(to)
    look = f"; look at them with: mlflow ui --backend-store-uri {place}" if place.startswith("sqlite:") else ""
    print(f"{counted(written, 'trial')} written to {to}{kept}{look}")


def _require(extra: str) -> None:
    if not all(map(find_spec, NEEDS[extra])):
        raise UserError(f"export {extra} needs: pip install 'prunesweep[{extra}]'")


def _finished(names: list[str], store: str) -> list[FinishedTrial]:
    from orchestrator.export.trials import finished

    trials = finished(folders(names, store))
    if not trials:
        raise UserError(f"nothing to export: no trial of {', '.join(names)} is finished")
    return trials


def _shown(trials: list[FinishedTrial]) -> Iterable[FinishedTrial]:
    """With a bar while it lasts, on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(trials, "exporting", console=console, transient=True, disable=not console.is_terminal)
