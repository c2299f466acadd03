"""What other programs read of exported trials is what the tables hold; exported again, it is the same. A real run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from prunesweep import load_results
from prunesweep.orchestrator.results.parquet import load_curves
from prunesweep.orchestrator.results.schemas import IDENTITY, measurements
from tests.orchestrator.conftest import Cli

FINAL = ("test_accuracy", "validation_loss", "parameters", "theoretical_speedup", "train_seconds")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    cli = Cli(tmp_path_factory.mktemp("ran"))
    cli.run_here(cli.sweep(seeds=1))
    return cli


@pytest.fixture(scope="module")
def trials(ran: Cli) -> pd.DataFrame:
    return load_results(ran.folder / "results/small").set_index("trial", drop=False)


@pytest.fixture(scope="module")
def curves(ran: Cli) -> dict[str, pd.DataFrame]:
    return dict(iter(load_curves(ran.folder / "results/small").groupby("trial")))


def expected(curve: pd.DataFrame, name: str) -> list[tuple[int, float]]:
    known = curve.dropna(subset=[name])
    return list(zip(known["epoch"], known[name], strict=True))


def measured(curve: pd.DataFrame) -> list[str]:
    return [name for name in curve.columns if name not in ("trial", "stage", "epoch")]


def settings(row: pd.Series) -> dict[str, object]:
    asked = [name for name in row.index if name not in (*IDENTITY, *measurements())]
    return {name: row[name] for name in ("seed", *asked) if not pd.isna(row[name])}


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- TensorBoard


def test_tensorboard_reads_every_value_of_the_curves(ran: Cli, trials: pd.DataFrame, curves: dict[str, pd.DataFrame]):
    assert ran("export", "tensorboard", "small", "--to", "board").startswith("7 trials in board; look at them with: ")
    places = sorted((ran.folder / "board").iterdir())
    assert len(places) == len(trials) == 7
    for place in places:
        row = trials.loc[place.name.rpartition("-")[2]]
        assert f"{row.model}-{row.method}" in place.name
        board, curve = EventAccumulator(str(place), size_guidance={"scalars": 0}), curves[row.trial]
        board.Reload()
        for name in measured(curve):
            read = [(event.step, event.value) for event in board.Scalars(f"curve/{name}")]
            # TensorBoard's numbers have 32 bits.
            assert read == [(epoch, float(np.float32(value))) for epoch, value in expected(curve, name)], name
        for name in FINAL:
            (event,) = board.Scalars(f"final/{name}")
            assert (event.step, event.value) == (row.total_epochs, float(np.float32(row[name])))
        content = board.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        said = HParamsPluginData.FromString(content).session_start_info.hparams
        read = {name: getattr(value, value.WhichOneof("kind")) for name, value in said.items()}
        assert read == settings(row)


def test_a_trial_of_several_stages_has_the_curve_of_them_all(
    ran: Cli, trials: pd.DataFrame, curves: dict[str, pd.DataFrame]
):
    (row,) = trials[trials.phases == 2].to_dict("records")
    ran("export", "tensorboard", "small", "--to", "whole")
    (place,) = (ran.folder / "whole").glob(f"*{row['trial']}")
    board = EventAccumulator(str(place))
    board.Reload()
    # Six epochs of pretraining; each phase has an epoch, after the row of the network just pruned.
    assert [event.step for event in board.Scalars("curve/sparsity")] == [1, 2, 3, 4, 5, 6, 6, 7, 7, 8]


def test_exported_again_to_tensorboard_it_is_the_same_byte_for_byte(ran: Cli):
    ran("export", "tensorboard", "small", "--to", "twice")
    before = files(ran.folder / "twice")
    assert len(before) == 7
    mine = ran.folder / "twice/notes.txt"
    mine.write_text("mine")
    for path in before:
        path.write_bytes(b"cut off")
    ran("export", "tensorboard", "small", "--to", "twice")
    assert files(ran.folder / "twice") == {**before, mine: b"mine"}


# --- MLflow


def client(ran: Cli, folder: str) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{ran.folder}/{folder}/mlflow.db")


def test_mlflow_reads_every_value_of_the_curves(ran: Cli, trials: pd.DataFrame, curves: dict[str, pd.DataFrame]):
    printed = ran("export", "mlflow", "small", "--to", "ml")
    assert printed.startswith("7 trials written to ml; look at them with: mlflow ui --backend-store-uri sqlite:///")
    assert len(printed.splitlines()) == 1
    reader = client(ran, "ml")
    experiment = reader.get_experiment_by_name("small")
    runs = reader.search_runs([experiment.experiment_id])
    assert {run.data.tags["prunesweep.trial"] for run in runs} == set(trials.index)
    assert len(runs) == 7
    for run in runs:
        row = trials.loc[run.data.tags["prunesweep.trial"]]
        curve = curves[row.trial]
        for name in measured(curve):
            history = reader.get_metric_history(run.info.run_id, f"curve/{name}")
            history.sort(key=lambda metric: metric.timestamp)
            assert [(metric.step, metric.value) for metric in history] == expected(curve, name), name
        assert {name: run.data.metrics[f"final/{name}"] for name in FINAL} == {name: row[name] for name in FINAL}
        asked, said = settings(row), run.data.params
        assert said.keys() == asked.keys()
        for name, value in asked.items():
            assert said[name] == str(value) or float(said[name]) == value, name
        assert run.data.tags["prunesweep.device"] == row.device
        assert run.info.status == "FINISHED"
        assert run.info.start_time == round(row.finished_at.timestamp() * 1000)


@pytest.mark.slow
def test_exported_again_to_mlflow_a_trial_is_one_run(ran: Cli, trials: pd.DataFrame):
    arguments = ["export", "mlflow", "small", "--to", "again", "--experiment", "mine"]
    ran(*arguments)
    reader = client(ran, "again")
    (experiment,) = [each for each in reader.search_experiments() if each.name == "mine"]

    def runs() -> dict[str, str]:
        found = reader.search_runs([experiment.experiment_id])
        assert len(found) == 7
        return {run.data.tags["prunesweep.trial"]: run.info.run_id for run in found}

    before = runs()
    assert "0 trials written to again, 7 were there already" in ran(*arguments)
    assert runs() == before
    changed, cut = list(before)[:2]
    reader.set_tag(before[changed], "prunesweep.digest", "of other numbers")
    reader.update_run(before[cut], status="RUNNING")  # as an export leaves it that was killed
    assert "2 trials written to again, 5 were there already" in ran(*arguments)
    after = runs()
    assert {trial for trial in before if after[trial] != before[trial]} == {changed, cut}


# --- wrong requests


@pytest.mark.parametrize("extra", ["tensorboard", "mlflow"])
def test_an_extra_that_is_not_installed_is_a_line(extra: str, ran: Cli):
    code = (
        f"import sys; sys.modules[{extra!r}] = None; from prunesweep.orchestrator.cli.main import main\n"
        f"sys.argv = ['prunesweep', 'export', {extra!r}, 'small', '--to', 'x']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ran.folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: export {extra} needs: pip install 'prunesweep[{extra}]'\n"
    assert not (ran.folder / "x").exists()


def test_what_cannot_be_exported_is_a_line(ran: Cli):
    (ran.folder / "bad").mkdir()
    (ran.folder / "bad/mlflow.db").write_text("no database")
    for arguments, said in (
        (["tensorboard", "smal", "--to", "x"], 'has no sweep "smal"'),
        (["mlflow", "small", "--to", "ftp://x"], '--to: "ftp://x" is not allowed: an http:// or https:// URL, '),
        (["mlflow", "small", "--to", "bad"], "error: MLflow at bad: "),
        (["mlflow", "small", "--to", "http://127.0.0.1:9"], "error: MLflow at http://127.0.0.1:9: "),
        (["tensorboard", "small", "--to", "sweep.yaml/x"], "sweep.yaml/x"),
    ):
        code, out, err = ran.ask("export", *arguments)
        assert (code, out, len(err.splitlines())) == (2, "", 1), err
        assert said in err
