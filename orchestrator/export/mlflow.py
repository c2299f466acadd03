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
from prunesweep.workers.location import Location, public

# MLflow reads these when it is imported. With its usual retries a mistyped address would take minutes to fail.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, ViewType
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

KEY, DIGEST = "prunesweep.trial", "prunesweep.digest"
"""Tags of a run: the trial that it is of, and a digest that says whether it is up to date."""

METRICS_AT_ONCE = 900
"""MLflow takes 1,000 items in one request, parameters and tags included."""

PAGE = 1000


class Experiment:
    """An experiment and the runs that were exported to it before; raises `UserError` where MLflow refuses."""

    def __init__(self, place: Location, name: str) -> None:
        with _explained(place):
            for chatty in ("mlflow", "alembic"):
                logging.getLogger(chatty).setLevel(logging.WARNING)
            self.place = place
            self.client = MlflowClient(tracking_uri=uri(place).reveal())
            self.id = self._id(name)
            self.runs = {run.data.tags[KEY]: run for run in self._exported_runs() if KEY in run.data.tags}

    def write(self, trial: FinishedTrial) -> bool:
        """Write a trial as a run, in place of one that is unfinished or differs; false if it is there already."""
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
            artifacts = (Path(self.place.absolute()) / "artifacts").as_uri() if here else None
            made: str = self.client.create_experiment(name, artifact_location=artifacts)
            return made
        if known.lifecycle_stage != "active":
            raise UserError(f'the experiment "{name}" in {self.place} is deleted: restore it, or choose --experiment')
        identifier: str = known.experiment_id
        return identifier

    def _exported_runs(self) -> Iterator[Run]:
        token = None
        while True:
            page = self.client.search_runs([self.id], "", ViewType.ACTIVE_ONLY, PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return


def uri(place: Location) -> Location:
    """The URI of a tracking server or an SQLite file as it is; of a folder that of its database, which is made."""
    if re.match(r"https?://|sqlite:///|databricks(://|$)", place.reveal()):
        return place
    if place.is_url:
        raise UserError(f'--to: "{place}" is not allowed: an http:// or https:// URL, sqlite:///FILE, or a folder')
    folder = Path(place.absolute())
    folder.mkdir(parents=True, exist_ok=True)
    return Location(f"sqlite:///{folder / 'mlflow.db'}")


def _metrics(trial: FinishedTrial, time: int) -> Iterator[Metric]:
    """The times are made up, because the tables have none: rising ones keep the rows of an epoch in order."""
    for row, (epoch, values) in enumerate(trial.curve):
        yield from (Metric(f"curve/{name}", value, time + row, epoch) for name, value in values.items())
    last = max((epoch for epoch, _ in trial.curve), default=0)
    yield from (Metric(f"final/{name}", value, time, last) for name, value in trial.results.items())


@contextmanager
def _explained(place: Location) -> Iterator[None]:
    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"MLflow at {place}: {public(said[0])[:300]}") from error
