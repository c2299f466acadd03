"""Finished trials as runs of MLflow, on a tracking server or in a database in a folder."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prunesweep.orchestrator.export.trials import FinishedTrial
from prunesweep.workers.errors import UserError

# Read when MLflow is imported. Who mistyped an address should not wait for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, ViewType
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

KEY, DIGEST = "prunesweep.trial", "prunesweep.digest"
"""The tags by which a run is found again, and is known to be what would be written."""

METRICS_AT_ONCE = 900
"""MLflow takes 1,000 in one request, with all else."""

PAGE = 1000


class Experiment:
    """An experiment with the runs that were exported to it before; raises `UserError` where MLflow refuses."""

    def __init__(self, place: str, name: str) -> None:
        with _explained(place):
            for chatty in ("mlflow", "alembic"):
                logging.getLogger(chatty).setLevel(logging.WARNING)
            self.place = place
            self.client = MlflowClient(tracking_uri=uri(place))
            self.id = self._id(name)
            self.runs = {run.data.tags[KEY]: run for run in self._found() if KEY in run.data.tags}

    def write(self, trial: FinishedTrial) -> bool:
        """Make a trial a run, unless it is one already (false); one that is unfinished, or differs, is replaced."""
        with _explained(self.place):
            before = self.runs.get(trial.key)
            if before is not None:
                if before.info.status == "FINISHED" and before.data.tags.get(DIGEST) == trial.digest:
                    return False
                self.client.delete_run(before.info.run_id)
            self._write(trial)
        return True

    def _write(self, trial: FinishedTrial) -> None:
        time = round(trial.finished_at.timestamp() * 1000)
        tags = {KEY: trial.key, DIGEST: trial.digest, **{f"prunesweep.{name}": v for name, v in trial.notes.items()}}
        run = self.client.create_run(self.id, start_time=time, tags=tags, run_name=trial.name)
        metrics, name = list(_metrics(trial, time)), run.info.run_id
        self.client.log_batch(name, params=[Param(key, str(value)) for key, value in trial.settings.items()])
        for start in range(0, len(metrics), METRICS_AT_ONCE):
            self.client.log_batch(name, metrics=metrics[start : start + METRICS_AT_ONCE])
        self.client.set_terminated(name, end_time=time)

    def _id(self, name: str) -> str:
        known = self.client.get_experiment_by_name(name)
        if known is None:
            here = uri(self.place) != self.place
            artifacts = (Path(self.place).expanduser().absolute() / "artifacts").as_uri() if here else None
            made: str = self.client.create_experiment(name, artifact_location=artifacts)
            return made
        if known.lifecycle_stage != "active":
            raise UserError(f'the experiment "{name}" in {self.place} is deleted: restore it, or choose --experiment')
        found: str = known.experiment_id
        return found

    def _found(self) -> Iterator[Run]:
        token = None
        while True:
            page = self.client.search_runs([self.id], "", ViewType.ACTIVE_ONLY, PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return


def uri(place: str) -> str:
    """Of a tracking server or a file of SQLite as it is; of a folder the database in it, which is made with it."""
    if re.match(r"https?://|sqlite:///|databricks(://|$)", place):
        return place
    if "://" in place:
        raise UserError(f'--to: "{place}" is not allowed: an http:// or https:// URL, sqlite:///FILE, or a folder')
    folder = Path(place).expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}"


def _metrics(trial: FinishedTrial, time: int) -> Iterator[Metric]:
    """When each epoch ended is not kept; that times differ keeps the rows of one epoch in their order."""
    for row, (epoch, values) in enumerate(trial.curve):
        yield from (Metric(f"curve/{name}", value, time + row, epoch) for name, value in values.items())
    last = max((epoch for epoch, _ in trial.curve), default=0)
    yield from (Metric(f"final/{name}", value, time, last) for name, value in trial.results.items())


@contextmanager
def _explained(place: str) -> Iterator[None]:
    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"MLflow at {place}: {said[0][:300]}") from error
