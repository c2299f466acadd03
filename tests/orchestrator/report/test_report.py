"""Reports: what they say, by values worked out by hand, and as text; `test_report_page.py` opens them in a browser."""

from __future__ import annotations

import base64
import io
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest

from prunesweep.orchestrator import glossary
from prunesweep.orchestrator.figures.charts import Axis, Chart, HeatMap, Panel, Series
from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.records import require
from prunesweep.orchestrator.report.answer import for_readers
from prunesweep.orchestrator.report.contents import gather
from prunesweep.orchestrator.report.cost import cost
from prunesweep.orchestrator.report.every_cell import every_cell
from prunesweep.orchestrator.report.fairness import MET, NOT_MET, UNKNOWN, Evidence, checklist
from prunesweep.orchestrator.report.page import page
from prunesweep.orchestrator.report.plotly_charts import plotly_chart
from prunesweep.orchestrator.results.image_counts import image_counts, images_of
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.results.schemas import TRIALS
from prunesweep.orchestrator.run.rows import TRAIN_SETTINGS
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.orchestrator.tables.means import means_table
from prunesweep.workers.errors import UserError
from prunesweep.workers.methods import METHODS
from prunesweep.workers.schedules import RETRAINING, TUNABLE
from prunesweep.workers.spec import PruneStage, Stage
from prunesweep.workers.store import Store
from tests.orchestrator.conftest import Cli
from tests.orchestrator.finished import OTHER_SECONDS, SECONDS_PER_EPOCH, finish
from tests.orchestrator.frames import candidates, dense, imp, trials

SWEEP = """\
name: small
dataset: digits
model: resnet8
seeds: 3
train: {epochs: 20}
trials:
  - method: dense
  - method: imp
    sparsity: [0.8, 0.9]
    retrain_epochs: [1, 2]
    retrain_schedule: [FT, ALLR]
  - {method: random, sparsity: [0.8, 0.9], retrain_epochs: 2, retrain_schedule: ALLR}
  - {method: gmp, sparsity: [0.8, 0.9]}
"""
"""13 trials a seed. A seed's stages: one dense, eight imp, two random, two gmp."""

CELLS = 13
EPOCHS = 3 * (20 + 2 * 2 * (1 + 2) + 2 * 2 + 2 * 20)
UNSHARED = 3 * (20 + 2 * 2 * (21 + 22) + 2 * 22 + 2 * 20)


def made(folder: Path, text: str = SWEEP, **more: Any) -> tuple[Store, Plan]:
    store = Store(folder / "results")
    return store, finish(text, store, folder / "sweep.yaml", **more)


def text_of(html: str) -> str:
    """What a reader sees, about: without style, scripts and tags, in single spaces."""
    html = re.sub(r"<(style|script)\b.*?</\1>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


# --- cost


def test_each_stage_costs_once_however_many_trials_share_it(tmp_path: Path):
    store, plan = made(tmp_path)
    found = cost([plan], store)
    assert found.epochs == found.epochs_asked == EPOCHS
    assert found.epochs_unshared == UNSHARED
    assert found.train_seconds == pytest.approx(SECONDS_PER_EPOCH * EPOCHS)
    assert found.elapsed_seconds == pytest.approx(SECONDS_PER_EPOCH * EPOCHS + OTHER_SECONDS * len(plan.stages))
    assert found.train_seconds_unshared == pytest.approx(SECONDS_PER_EPOCH * UNSHARED)
    assert (found.trials, found.again, found.bytes) == (3 * CELLS, 0, 1000 * len(plan.stages))
    trials = pd.read_parquet(tmp_path / "results/small/trials.parquet")
    assert trials["train_seconds"].sum() == pytest.approx(found.train_seconds_unshared)  # the rows count it often


def test_two_sweeps_that_share_stages_do_not_cost_them_twice(tmp_path: Path):
    store, plan = made(tmp_path)
    again = finish(SWEEP.replace("name: small", "name: other"), store, tmp_path / "other.yaml")
    assert cost([plan, again], store) == cost([plan], store)


def test_replicas_are_so_many_devices(tmp_path: Path):
    store, plan = made(tmp_path, device="4 x Some GPU")
    (work,) = cost([plan], store).work
    assert work.device == "Some GPU"
    assert (work.stages, work.epochs) == (len(plan.stages), EPOCHS)
    assert work.train_seconds == pytest.approx(4 * SECONDS_PER_EPOCH * EPOCHS)


GPUS = """\
name: gpus
dataset: digits
model: resnet8
seeds: 2
train: {epochs: 10}
resources: {gpus: 0.5}
trials: [{method: dense}, {method: imp, sparsity: 0.9, retrain_epochs: 2}]
"""


def test_gpu_hours_are_of_whole_gpus_with_energy_and_price_where_asked(tmp_path: Path):
    """A seed's stages take 378 s and 90 s, each on half a GPU: 468 s of a whole one, 0.13 hours, for both seeds."""
    store, _ = made(tmp_path, GPUS)
    said = text_of(page(gather(["gpus"], store, watts=400, price=2)))
    assert "GPUs 0.13 GPU hours, 0.052 kWh at 400 W each, 0.26 at 2 an hour" in said
    assert "prunesweep report gpus --watts 400 --price 2" in said
    assert "GPUs 0.13 GPU hours in the store" in text_of(page(gather(["gpus"], store)))


def test_without_gpus_there_are_no_gpu_hours(tmp_path: Path):
    store, _ = made(tmp_path)
    said = text_of(page(gather(["small"], store)))
    assert "GPU hours" not in said
    # 20 dense epochs, then 2 at 80 % with 0.2 of the multiply-adds, or at 90 % with 0.1
    assert re.search(r"training FLOPs dense 1.00x; .*random 1.01x to 1.02x; .* of dense training", said)


# --- every cell


def test_every_cell_is_there_with_its_mean_over_seeds():
    frame = pd.DataFrame([*imp([0.90, 0.92], "FT"), *imp([0.96], "ALLR", 2), *dense([0.98, 0.97])])
    grid = every_cell(frame, means_table(frame))
    assert list(grid.heads)[-2:] == ["seeds", "test accuracy, percent"]
    found = {tuple(value.text for value in row) for row in grid.rows}
    assert ("imp", "FT", "90%", "20+1", "2", "91.0 ± 1.4") in found
    assert ("imp", "ALLR", "90%", "20+2", "1", "96.0") in found
    assert ("dense", "", "", "20", "2", "97.5 ± 0.7") in found
    assert [row[-1].number for row in grid.rows] == pytest.approx([0.91, 0.96, 0.975])
    assert list(grid.numeric) == [False, False, True, True, True, True]


# --- a fair comparison


def evidence(rows: list[dict[str, Any]], **more: Any) -> Evidence:
    """Rows with all columns; what is not said is as in a fair comparison."""
    usual = {
        "parameters": 1000,
        "nonzero_parameters": 100,
        "compression_ratio": 10.0,
        "theoretical_speedup": 8.0,
        "collapsed_layers": 0,
        "commit": "abc",
        "torch_version": "2.15",
        "device": "GPU",
    }
    plain = dict.fromkeys((*TRIALS.names, "dataset_options", "model_options", "augment"))
    settings = {"batch_size": 64, "augment": True}
    frame = pd.DataFrame([{**plain, **usual, **settings, **row, **more} for row in rows])
    for name in TRAIN_SETTINGS:
        if name not in frame:
            frame[name] = None
    frame["evaluation_batch_size"] = 256
    frame["dense_test_accuracy"] = 0.9
    return Evidence(frame, means_table(frame), frozenset(frame["trial"]))


FAIR = [
    *dense([0.97, 0.98, 0.96]),
    *(r for s in (0.5, 0.75, 0.9, 0.95, 0.98) for r in imp([0.9, 0.91, 0.92], "FT", 2, s)),
    *(r for s in (0.5, 0.75, 0.9, 0.95, 0.98) for r in imp([0.5, 0.51, 0.52], "FT", 2, s, method="random")),
]


def tuned(rows: list[dict], spent: dict[str, int | None]) -> list[dict]:
    return [{**row, "tuning_epochs": spent.get(row["method"]), "candidates": 16} for row in rows]


@pytest.mark.parametrize(
    ("spent", "verdict", "says"),
    [
        ({"imp": 352, "random": 352}, MET, "imp 352, random 352; 16 settings tried"),
        ({"imp": 340, "random": 352}, MET, "imp 340"),  # less than one training of 22 epochs
        ({"imp": 352, "random": 176}, NOT_MET, "random 176"),
        ({"imp": 352}, NOT_MET, "not searched for: random"),
    ],
)
def test_methods_that_were_tuned_at_unlike_cost_are_named(spent: dict[str, int | None], verdict: str, says: str):
    checked = verdicts(evidence(tuned(FAIR, spent)))
    assert checked["tuned at equal cost"][0] == verdict
    assert says in checked["tuned at equal cost"][1]
    assert checked["tuned at equal cost"][1].endswith("the dense network beside has the settings of the file")
    care = checked["equal care for the settings of every method"]
    assert care[0] == (verdict if len(spent) == 2 else UNKNOWN)
    assert care[1].endswith("all were found by searches" if len(spent) == 2 else "found is not recorded")


def test_a_control_that_was_searched_for_is_no_matter():
    checked = verdicts(evidence(tuned(FAIR, {"imp": 352, "random": 352, "dense": 320})))
    assert "dense" not in checked["tuned at equal cost"][1]


def test_how_many_were_trained_to_the_end_and_winners_at_an_end_of_the_range_are_said_with_the_cost_of_tuning():
    tried = pd.concat(
        [candidates([0.5, 0.6, 0.7, 0.8, 0.9]), candidates([0.3, 0.2], epoch=2, is_last=False, winner=False)]
    )
    searched = replace(evidence(tuned(FAIR, {"imp": 352, "random": 352})), candidates=tried)
    (_, reason) = verdicts(searched)["tuned at equal cost"]
    assert "; 16 settings tried, 5 of them to the end, chosen on validation images" in reason
    assert reason.endswith("; at an end of what was tried, so that a wider range may do better: gmp train.lr 0.5")


def verdicts(found: Evidence) -> dict[str, tuple[str, str]]:
    return {item.demand: (item.verdict, item.reason) for item in checklist(found)}


def test_a_fair_comparison_meets_all_that_is_recorded_but_the_number_of_pairs():
    found = verdicts(evidence(FAIR))
    unmet = {asked: verdict for asked, (verdict, _) in found.items() if verdict != MET}
    assert unmet == {
        "at least 3 pairs of dataset and architecture": NOT_MET,
        "a narrower dense network of as many weights at every sparsity": NOT_MET,
        "equal care for the settings of every method": UNKNOWN,
        "tuned at equal cost": UNKNOWN,
        "real size, with what the indices take": NOT_MET,
        "realised speed beside the theoretical one": NOT_MET,
    }
    assert found["at least 5 operating points"][1] == "5 sparsities for each method, compression ratios 10x"
    # 4 bytes for each of 1000 weights; 4 for each of 100 and a bit for each of 1000
    assert f"{4000 / (400 + 125):.3g}x smaller" in found["real size, with what the indices take"][1]


@pytest.mark.parametrize(
    ("asked", "rows", "says"),
    [
        ("at least 5 operating points", FAIR[:3] + FAIR[3:15], "4 sparsities"),
        ("mean and sample deviation over at least 3 seeds", FAIR[:-1], "1 of 11 cells have fewer"),
        (
            "no network with a layer that lost all its weights",
            [*FAIR[:-1], {**FAIR[-1], "collapsed_layers": 2}],
            "1 of 33 networks have layers that kept none: random, at 0.98",
        ),
        ("the dense network as a control", FAIR[3:], "none on digits, resnet8"),
        ("random pruning as a baseline", FAIR[:18], "0 trials"),
        ("the same device for all", [*FAIR[1:], {**FAIR[0], "device": "CPU"}], "GPU, CPU"),
        ("identical library and code for all", [*FAIR[1:], {**FAIR[0], "commit": "def"}], "commit abc, def"),
        (
            "identical data, augmentation, optimizer and training settings",
            [*FAIR, *trials([0.5] * 3, method="gmp", batch_size=32)],
            "batch size: 64, 32",
        ),
        (
            "the whole training cost, and rivals at equal cost",
            [*FAIR, *trials([0.5] * 3, method="gmp", pretrain_epochs=20)],
            "20 to 22 epochs in all, pretraining included; 5 of 6",
        ),
    ],
)
def test_what_is_not_met_is_said_with_the_number_that_says_so(asked: str, rows: list[dict[str, Any]], says: str):
    verdict, found = verdicts(evidence(rows))[asked]
    assert verdict == NOT_MET
    assert says in found


def test_without_a_commit_nobody_can_tell_whether_the_code_was_the_same():
    verdict, found = verdicts(evidence(FAIR, commit=None))["identical library and code for all"]
    assert (verdict, found) == (UNKNOWN, "PyTorch 2.15, no commit is recorded: it was run outside of a repository")


# --- charts for a browser

LINE = Series("imp <b>", "line", (0.2, 0.1), (90.0, 80.0), (1.0, None), (3, 1))
LEVEL = Series("dense", "level", (), (97.0,), (0.5,), (3,))


def test_a_line_has_a_band_of_one_deviation_and_a_level_spans_the_panel():
    density = Axis("sparsity", "density", (0.2, 0.1), ("80%", "90%"), (0.25, 0.08))
    shown = plotly_chart(Chart("title", [Panel("here", density, Axis("accuracy"), [LINE, LEVEL])]))
    (figure,) = shown.panels
    band, line, level_band, level = figure.json["data"]
    assert figure.title == "here"
    assert (line["x"], line["y"]) == ([0.2, 0.1], [90.0, 80.0])
    assert (band["x"], band["y"]) == ([0.2, 0.1, 0.1, 0.2], [91.0, 80.0, 80.0, 89.0])
    assert line["hovertext"] == [
        "imp &lt;b&gt;<br>sparsity: 80%<br>90 ± 1 (3)",
        "imp &lt;b&gt;<br>sparsity: 90%<br>80 (1)",
    ]
    left, right = figure.json["layout"]["xaxis"]["range"]
    assert left > right  # sparsity grows to the right
    assert level["x"] == pytest.approx([10**left, 10**right], rel=1e-4)
    assert level["y"] == [97.0, 97.0]
    assert level_band["y"] == [97.5, 97.5, 96.5, 96.5]
    assert {trace["legendgroup"] for trace in (band, line)} == {"imp <b>"}
    assert [look.name for look in shown.legend] == ["dense", "imp <b>"]


def test_the_browser_has_the_logit_axis_the_rows_and_the_arrows_of_paper():
    logit = Axis("accuracy", "logit", (90.0, 99.0), ("90", "99"), (80.0, 99.9))
    names = Axis("", "category", (0, 1), ("a", "b"))
    rows = [Series(n, "points", (i,), (y,), (5.0,), (3,)) for n, i, y in (("a", 0, 90.0), ("b", 1, 50.0))]
    shown = plotly_chart(Chart("", [Panel("", names, logit, rows, is_turned=True)]))
    (panel,) = shown.panels
    first, _ = panel.json["data"]
    assert (first["x"], first["y"]) == ([-1.0], [0.0])  # the error is 10 %
    assert (first["error_x"]["array"], first["error_x"]["arrayminus"]) == ([0.30103], [0.176091])  # to 5 % and 15 %
    assert panel.json["layout"]["xaxis"]["tickvals"] == [-1.0, 0.0]
    assert panel.json["layout"]["yaxis"]["range"] == [1.5, -0.5]
    (arrow,) = panel.json["layout"]["annotations"]
    assert (arrow["text"], arrow["x"], arrow["y"], arrow["xref"], arrow["yref"]) == ("◀ 50", 0, 1, "paper", "y")
    assert shown.legend == [], "the axis names them"


def test_every_kind_of_series_and_map_is_what_plotly_takes():
    names = Axis("method", "category", (0, 1), ("a", "b"))
    kinds = [Series(k, k, (0.0, 1.0), (1.0, 2.0), (0.1, None), (3, 1)) for k in ("line", "points", "front", "bars")]
    lower = Panel("", names, Axis("rate", "log"), [kinds[0]])
    panel = Panel("", names, Axis("y", "log", (1.0,), ("1",)), [*kinds, LEVEL], (0.5,), lower)
    turned = Panel("", names, Axis("y", limits=(1.5, 9)), [kinds[1], LEVEL], is_turned=True)
    grid = HeatMap("map", names, names, ((0, None), (1, 1)), (("a\n1", ""), ("b", "b")), ("a", "b"))
    figures = plotly_chart(Chart("all", [panel, grid, turned])).panels
    assert len(figures) == 3
    for figure in figures:
        go.Figure(figure.json)  # raises for a property that plotly does not know


# --- the page


def test_equal_stores_make_equal_files(tmp_path: Path):
    store, _ = made(tmp_path)
    assert page(gather(["small"], store)) == page(gather(["small"], store))


def test_nothing_is_fetched_from_elsewhere(tmp_path: Path):
    store, _ = made(tmp_path)
    html = page(gather(["small"], store))
    ours = re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
    assert re.findall(r"""(?:src|href|action)=["'](?!#|data:).*""", ours) == []
    assert "url(" not in ours
    assert "default-src 'none'" in html


def test_text_of_a_sweep_is_text(tmp_path: Path):
    evil = "# <script>alert(1)</script> & <b>bold</b> {{ 7 * 7 }}\n"
    store, _ = made(tmp_path, evil + SWEEP)
    html = page(gather(["small"], store))
    assert "<script>alert" not in html
    assert "# &lt;script&gt;alert(1)&lt;/script&gt; &amp; &lt;b&gt;bold&lt;/b&gt; {{ 7 * 7 }}" in html


def test_an_unfinished_sweep_says_so_with_its_failures_by_cause(tmp_path: Path):
    def fate(stage: Stage) -> str | None:
        if isinstance(stage, PruneStage) and stage.sparsity == 0.9:
            return "the loss is <nan>" if stage.criterion == "magnitude" else "left"
        return None

    store, _ = made(tmp_path, fate=fate)
    contents = gather(["small"], store)
    assert contents.states == {"done": 24, "failed": 12, "new": 3}
    (trouble,) = contents.troubles
    assert (trouble.cause, trouble.count, len(trouble.shown)) == ("diverged", 12, 5)
    said = text_of(page(contents))
    assert "Unfinished: 24 of 39 trials are done, 12 failed, 3 new." in said
    assert "diverged: 12 stages" in said
    assert "lower train.lr, or add warm-up epochs" in said
    assert "epoch 1 epoch 2 the loss is &lt;nan&gt;" in said
    assert "and 7 more" in said


def test_tables_that_are_older_than_the_results_are_told(tmp_path: Path):
    def fate(stage: Stage) -> str | None:
        return "left" if stage.sparsity == 0.9 else None

    store, _ = made(tmp_path, fate=fate)
    before = (tmp_path / "results/small/trials.parquet").read_bytes()
    finish(SWEEP, store, tmp_path / "sweep.yaml")
    (tmp_path / "results/small/trials.parquet").write_bytes(before)
    said = text_of(page(gather(["small"], store)))
    assert "all 39 trials are done" in said
    assert "The tables were written when 21 trials were done" in said


def test_trials_without_the_metric_are_told(tmp_path: Path):
    store, _ = made(tmp_path)
    assert "33 trials of 39 have dense test accuracy." in text_of(
        page(gather(["small"], store, Query("dense_test_accuracy")))
    )


def test_a_sweep_without_any_result_has_a_report(tmp_path: Path):
    store, _ = made(tmp_path, fate=lambda stage: "no" if stage.parent is None else None)
    contents = gather(["small"], store)
    assert contents.answer is None
    said = text_of(page(contents))
    assert "Unfinished: 0 of 39 trials are done, 9 failed, 30 blocked behind a failure." in said
    assert "No trial is finished yet" in said
    assert "retrain_schedule: [FT, ALLR]" in said


def test_one_seed_and_no_dense_control(tmp_path: Path):
    text = SWEEP.replace("seeds: 3", "seeds: 1").replace("  - method: dense\n", "")
    store, _ = made(tmp_path, text)
    contents = gather(["small"], store)
    assert contents.answer is not None
    found = {item.demand: item.verdict for item in contents.answer.checks}
    assert found["mean and sample deviation over at least 3 seeds"] == NOT_MET
    assert found["the dense network as a control"] == NOT_MET
    assert contents.answer.charts
    assert "±" not in "".join(value.text for row in contents.answer.grid.rows for value in row)


def test_a_sweep_of_dense_networks_only(tmp_path: Path):
    text = "name: d\ndataset: digits\nmodel: resnet8\nseeds: 2\ntrain: {epochs: 3}\ntrials:\n  - method: dense\n"
    store, _ = made(tmp_path, text)
    contents = gather(["d"], store)
    assert contents.answer is not None
    assert len(contents.answer.grid.rows) == 1
    assert "over sparsity: nothing to plot" in text_of(page(contents)).lower()


def test_several_sweeps_in_one_report(tmp_path: Path):
    store, _ = made(tmp_path)
    other = SWEEP.replace("name: small", "name: other").replace("[0.8, 0.9]", "[0.9, 0.95]")
    finish(other, store, tmp_path / "other.yaml")
    contents = gather(["small", "other"], store)
    assert len(contents.trials) == 3 * (1 + 3 * (CELLS - 1) // 2)
    assert contents.answer is not None
    assert len(contents.answer.trials) == len(contents.trials)
    assert "prunesweep report small other" in text_of(page(contents))


def test_what_a_report_says_of_its_origin_is_what_is_in_the_store(tmp_path: Path):
    store, _ = made(tmp_path)
    contents = gather(["small"], store)
    (run,) = contents.runs
    assert run.commit == "0123456789abcdef0123456789abcdef01234567+89abcdef"
    assert (run.torch, run.device, run.trials) == ("2.15.0", "Some GPU", 39)
    assert run.first == run.last == "2026-01-02 03:04 UTC"
    (origin,) = contents.origins
    assert origin.packages["ray"] in text_of(page(contents))


def test_local_changes_of_the_code_are_shown_as_they_are(tmp_path: Path):
    git = ["git", "-c", "user.name=n", "-c", "user.email=n@n"]
    (tmp_path / "code.py").write_text("rate = 1\n")
    for command in (["init", "-q"], ["add", "code.py"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    (tmp_path / "code.py").write_text("rate = '<i>2</i>'\n")
    store, _ = made(tmp_path)
    (origin,) = gather(["small"], store).origins
    html = page(gather(["small"], store))
    assert f"<code>{origin.commit}</code>" in html
    assert "+rate = &#39;&lt;i&gt;2&lt;/i&gt;&#39;" in html


def test_the_lines_of_python_give_the_means_of_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    store, _ = made(tmp_path)
    html = page(gather(["small"], store))
    lines = re.findall(r"<code>(from prunesweep .*?)</code>", html, re.DOTALL)[0].replace("&#34;", '"')
    exec(lines.replace("results/small", str(tmp_path / "results/small")))
    printed = capsys.readouterr().out
    assert len(re.findall(r" 3$", printed, re.MULTILINE)) == CELLS


def test_many_settings_leave_the_best_of_each_method_in_sight(tmp_path: Path):
    """More rows than anyone compares at a glance: they are in the table of every cell."""
    rates = ", ".join(f"{0.01 * k:.2f}" for k in range(1, 46))
    text = SWEEP.replace(
        "{method: gmp, sparsity: [0.8, 0.9]}", f"{{method: gmp, sparsity: 0.9, train: {{lr: [{rates}]}}}}"
    )
    store, _ = made(tmp_path, text.replace("seeds: 3", "seeds: 1"))
    contents = gather(["small"], store)
    assert contents.answer is not None
    (table,) = contents.answer.tables
    assert table.title.endswith(": each method at its best")
    assert table.details[-1].title == "settings with the best mean validation accuracy"
    assert len(table.lines) == 3
    assert len(contents.answer.grid.rows) == 1 + 8 + 2 + 45
    assert max(len(chart.names) for kind, chart in contents.answer.charts if kind == "sparsity") == 3


# --- for who reads it


ABOUT = """\
title: Does <retraining> pay?
authors: [A. Author, B. Author]
notes: |
  The second seed of GMP was odd.
"""


def test_title_authors_and_notes_are_those_of_the_sweep_file(tmp_path: Path):
    store, plan = made(tmp_path, SWEEP + ABOUT)
    (tmp_path / "plain.yaml").write_text(SWEEP)
    assert plan.sweep.about.authors == ("A. Author", "B. Author")
    assert require("small", store).about == plan.sweep.about
    html = page(gather(["small"], store))
    assert "<title>Does &lt;retraining&gt; pay?: pruning sweep</title>" in html
    assert "A. Author, B. Author" in text_of(html)
    assert "The second seed of GMP was odd." in text_of(html)
    assert plan.sweep.about.notes == "The second seed of GMP was odd.\n"
    assert plan.sweep.trials == read_sweep(tmp_path / "plain.yaml").trials, "no key changes by it"


def test_no_option_of_the_command_line_is_in_what_reviewers_read(tmp_path: Path):
    """Only the commands that do it again, and the sweep's own text, have any."""
    store, _ = made(tmp_path, SWEEP.replace("[1, 2]", "[1, 2, 3, 4, 5]"))
    html = re.sub(r"<pre.*?</pre>", " ", page(gather(["small"], store)), flags=re.DOTALL)
    assert re.findall(r"\s--[a-z-]+", text_of(html)) == []
    assert "settings are shown: those of the highest sparsity" in text_of(html)
    assert for_readers("5 of 9 are shown; choose others with --where") == "5 of 9 are shown"


def test_only_what_is_asked_about_is_compared(tmp_path: Path):
    store, _ = made(tmp_path)
    contents = gather(["small"], store, Query(by=["method"], where=["target_sparsity=0.9", "method=imp,random"]))
    assert contents.answer is not None
    assert (contents.answer.finished, contents.answer.selected, len(contents.answer.trials)) == (39, 15, 15)
    assert {row[0].text for row in contents.answer.grid.rows} == {"imp", "random"}
    said = text_of(page(contents))
    assert "Only trials with target_sparsity=0.9 and method=imp,random are compared." in said
    assert "prunesweep results small --by method --where target_sparsity=0.9 --where method=imp,random" in said


def test_differences_to_the_best_are_in_it(tmp_path: Path):
    store, _ = made(tmp_path)
    contents = gather(["small"], store)
    assert contents.answer is not None
    assert contents.answer.differences is not None
    blocks = [line for line in contents.answer.differences.lines if line.starts_block]
    assert len(contents.answer.differences.lines) == 2 * (2 + 2 + 1)  # 20+1: two schedules; 20+2: these and random
    assert len(blocks) == 3
    assert "How far each setting is from the best at the same sparsity and budget" in text_of(page(contents))


def test_the_values_of_every_seed_can_be_saved(tmp_path: Path):
    store, _ = made(tmp_path)
    html = page(gather(["small"], store))
    (data,) = re.findall(r'download="small-seeds.csv" href="data:text/csv;base64,([^"]*)"', html)
    frame = pd.read_csv(io.BytesIO(base64.b64decode(data)))
    assert len(frame) == 39
    whole = pd.read_parquet(tmp_path / "results/small/trials.parquet")
    assert frame["test_accuracy"].tolist() == pytest.approx(whole["test_accuracy"].tolist(), rel=1e-12)
    assert {"method", "retrain_schedule", "target_sparsity", "retrain_epochs", "seed"} <= {*frame.columns}
    assert "parameters" not in frame.columns


def test_the_test_set_is_told_from_the_accuracies():
    digits = pd.Series([k / 397 for k in (139, 250, 277, 301, 333, 360, 388, 390)])
    assert images_of(digits) == 397
    assert (
        images_of(pd.Series([k / 50_000 for k in (38_001, 37_777, 36_123, 38_550, 30_001, 35_555, 37_003, 36_001)]))
        == 50_000
    )
    assert images_of(digits[:3]) is None, "too few to say"
    assert images_of(pd.Series([0.1234567891, 0.31415926, 0.2718281, 0.577215664, 0.6931471, 0.71, 0.72, 0.73])) is None
    (count,) = image_counts(pd.DataFrame({"dataset": "digits", "test_accuracy": digits}))
    assert (count.dataset, round(count.worth, 4)) == ("digits", 0.2519)


def test_every_schedule_and_method_has_a_line_in_the_glossary(tmp_path: Path):
    assert set(glossary.SCHEDULES) == {*RETRAINING, *TUNABLE}
    assert glossary.METHODS.keys() == METHODS.keys()
    store, plan = made(tmp_path)
    assert list(glossary.methods(plan.sweep.trials)) == ["dense", "imp", "random", "gmp"]
    said = text_of(page(gather(["small"], store)))
    assert "gmp gradual magnitude pruning: the smallest weights are pruned every few epochs" in said
    assert "FT fine-tuning: the last learning rate of dense training" in said
    assert "LRW learning rate rewinding" not in said, "it is not in the sweep"


def test_times_are_written_as_people_write_them(tmp_path: Path):
    store, _ = made(tmp_path)
    assert re.search(r"Some GPU 39 228 2 h 17 min 2 h 28 min", text_of(page(gather(["small"], store))))


# --- the verb


def test_the_verb_writes_a_file_named_after_the_sweep(cli: Cli):
    made(cli.folder)
    said = cli("report", "small")
    assert re.fullmatch(r"wrote small\.html, [\d.]+ MB\n", said)
    html = (cli.folder / "small.html").read_text()
    assert html.startswith("<!DOCTYPE html>")
    assert "test accuracy in percent" in html
    cli("report", "small", "--metric", "theoretical_speedup", "--output", "other.html")
    assert "theoretical speedup, mean" in (cli.folder / "other.html").read_text()


def test_wrong_requests_are_told_in_a_line(cli: Cli):
    made(cli.folder)
    assert "ends in .html" in cli("report", "small", "--output", "small.pdf", code=2)
    assert 'has no sweep "smal": it knows small; did you mean' in cli("report", "smal", code=2)
    assert 'unknown metric "accuracy"' in cli("report", "small", "--metric", "accuracy", code=2)
    with pytest.raises(UserError, match="nothing to compare"):
        gather(["small"], Store(cli.folder / "results"), Query("test_accuracy_top5"))


def test_a_narrower_dense_network_is_asked_for_at_every_sparsity():
    demand = "a narrower dense network of as many weights at every sparsity"
    rows = [r for s in (0.5, 0.75, 0.9, 0.95, 0.98) for r in imp([0.8] * 3, "FT", 2, s, method="small_dense")]
    assert verdicts(evidence([*FAIR, *rows]))[demand] == (MET, "15 trials of small_dense, at 5 of 5 sparsities")
    assert verdicts(evidence([*FAIR, *rows[:3]]))[demand] == (NOT_MET, "3 trials of small_dense, at 1 of 5 sparsities")
    assert verdicts(evidence(dense([0.97, 0.98, 0.96])))[demand][0] == UNKNOWN
