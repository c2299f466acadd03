"""The verbs on a store with results, failures and a killed sweep; what is said of wrong requests. The real command."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pandas as pd
import pexpect
import pytest

from prunesweep.orchestrator.cli.results import FORMATS
from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.records import remember
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.host import Where
from prunesweep.workers.run import run_stage
from prunesweep.workers.store import Store
from tests.orchestrator.conftest import COMMAND, Answer, Cli

HEAD = "dataset: digits\nmodel: lenet300\n"
GOOD = HEAD + "train: {epochs: 2}\nseeds: %d\ntrials:\n  - {method: imp, sparsity: [0.5, 0.9], retrain_epochs: 1}\n"
BAD = """\
  - {method: gmp, sparsity: 0.9, pruning_interval: 1, train: {lr: [1.0e+30, 2.0e+30, 3.0e+30, 4.0e+30]}}
  - {method: imp, sparsity: [0.5, 0.9], retrain_epochs: 1, train: {lr: 1.0e+30}}
"""
"""Eight training stages over two seeds diverge; so do two dense ones, and four pruning stages wait for them."""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """A store with a sweep of which some stages failed, one of which all is done, and one that was killed midway."""
    folder = tmp_path_factory.mktemp("ran")
    cli = Cli(folder, PYTHONPATH=str(folder / "installed"))
    (folder / "installed").mkdir()
    cli.write("open(__file__ + '.imported', 'w').close()\n", "installed/wandb.py")
    file = cli.write(GOOD % 2 + BAD, "mixed.yaml")
    _train_first(cli, file)
    process = cli.start("run", file)
    _leave_unfinished(cli)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 1, out + err
    (cli.folder / "printed").write_text(out)
    cli("run", cli.write(GOOD % 2, "good.yaml"), ray=False)
    return cli


def _train_first(cli: Cli, file: str) -> None:
    """One dense network, which the run then finds in the store."""
    store = Store(cli.folder / "results")
    store.require_writable()
    list(run_stage(next(iter(make_plan(read_sweep(cli.folder / file), store).stages.values())), store, Where()))


def _leave_unfinished(cli: Cli) -> None:
    """A sweep as a killed driver leaves it: one stage with a checkpoint, and one just begun."""
    text = "train: {epochs: 9}\nseeds: 2\ntrials: [{method: dense}]\n"
    sweep = read_sweep(cli.folder / cli.write(HEAD + text, "killed.yaml"))
    store = Store(cli.folder / "results")
    remember(sweep, store)
    first, second = make_plan(sweep, store).stages.values()
    stage = run_stage(first, store, Where(checkpoint_share=math.inf))
    list(islice(stage, 4))
    stage.close()
    store.begin(second)


def test_a_run_imports_no_package_for_logs_that_happens_to_be_installed(ran: Cli):
    assert [file.name for file in (ran.folder / "installed").glob("wandb*")] == ["wandb.py"]


# --- wrong requests

WRONG: dict[str, tuple[list[str], list[str]]] = {
    "not YAML": (
        ["validate", "broken.yaml"],
        ["broken.yaml:1: not valid YAML", "\n  trials: [{method: gmp,\n           ^\n"],
    ),
    "empty": (["plan", "empty.yaml"], ["empty.yaml:1: the file is empty; a sweep needs dataset, model and trials"]),
    "no such file": (["run", "godo.yaml"], ['godo.yaml: no such file; did you mean "good.yaml"?']),
    "a folder": (["validate", "folder"], ["folder: is a folder", "inner.yaml"]),
    "setting": (
        ["plan", "wrong.yaml"],
        ['wrong.yaml:5: trials[0].sparsity: "ninety" is not allowed: a number in [0, 1)'],
    ),
    "method": (
        ["status", "method.yaml"],
        ['method.yaml:4: trials[0].method: unknown method "inp": allowed are acdc,', 'did you mean "imp"?'],
    ),
    "store in a file": (
        ["plan", "good.yaml", "--store", "empty.yaml/store"],
        ["empty.yaml/store is not writable: ", "empty.yaml is not a folder", "--store or PRUNESWEEP_STORE"],
    ),
    "store is a file": (["status", "--store", "empty.yaml"], ["empty.yaml is not a folder"]),
    "store of no kind": (["resume", "good", "--store", "s4://x"], ['cannot open "s4://x"']),
    "another sweep of that name": (
        ["run", "folder/inner.yaml"],
        ["results/good holds another sweep of that name", "good.yaml", "give this one another `name:`"],
    ),
    "resume": (["resume", "mixt"], ['has no sweep "mixt": it knows good, killed, mixed; did you mean "mixed"?']),
    "status": (["status", "goood"], ['has no sweep "goood"', 'did you mean "good"?']),
    "results": (["results", "good", "killd"], ['has no sweep "killd"', 'did you mean "killed"?']),
    "no store": (["status", "x", "--store", "none"], ["there is no store at ", "/none: `prunesweep run` makes one"]),
    "metric": (["results", "good", "--metric", "test_acuracy"], ["unknown metric", 'did you mean "test_accuracy"?']),
    "column": (["results", "good", "--by", "methd"], ['unknown column "methd"', 'did you mean "method"?']),
    "format": (["results", "good", "--format", "tex"], ['unknown format "tex"', 'did you mean "latex"?']),
    "kind": (
        ["list", "methosd"],
        ['unknown kind "methosd": allowed are columns, datasets, methods, models, ', '"methods"?'],
    ),
    "device": (["run", "good.yaml", "--device", "gpu"], ['--device: "gpu" is not allowed: auto, cpu, cuda or cuda:N']),
    "a name that is too long": (["status", "x" * 300], ["has no sweep", "it knows good, killed, mixed"]),
}


@pytest.fixture(scope="module")
def answers(ran: Cli) -> dict[str, Answer]:
    """All wrong requests, asked side by side."""
    files = {
        "broken.yaml": "trials: [{method: gmp,\n",
        "empty.yaml": "",
        "wrong.yaml": HEAD + "trials:\n  - method: gmp\n    sparsity: ninety\n",
        "method.yaml": HEAD + "trials:\n  - {method: inp, sparsity: 0.9}\n",
    }
    for name, text in files.items():
        ran.write(text, name)
    (ran.folder / "folder").mkdir()
    ran.write(f"name: good\n{HEAD}trials: [{{method: dense}}]\n", "folder/inner.yaml")
    with ThreadPoolExecutor(3) as pool:
        made = pool.map(lambda request: ran.ask(*request[0], ray=False), WRONG.values())
        return dict(zip(WRONG, made, strict=True))


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_request_is_a_line_that_says_what_to_do(what: str, answers: dict[str, Answer]):
    code, _, err = answers[what]
    assert code == 2
    assert err.startswith("error: ")
    assert len(err.splitlines()) <= 3
    for part in WRONG[what][1]:
        assert part in err


def test_a_wrong_request_leaves_nothing_behind(answers: dict[str, Answer], ran: Cli):
    assert answers
    assert not (ran.folder / "none").exists()
    assert {path.name for path in (ran.folder / "results").iterdir()} == {
        ".prunesweep",
        "stages",
        "mixed",
        "good",
        "killed",
    }


# --- plan and validate


def test_what_needs_the_store_only_loads_neither_torch_nor_ray(ran: Cli):
    verbs = [
        ["plan", "good.yaml"],
        ["validate", "good.yaml"],
        ["status", "killed"],
        ["status", "--json"],
        ["schema"],
        *(["list", kind] for kind in ("methods", "models", "datasets")),
    ]
    code = (
        "import sys; from prunesweep.orchestrator.cli.main import app\n"
        f"for verb in {verbs}: app(verb, standalone_mode=False)\n"
        "print([name for name in ('torch', 'ray', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ran.folder, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_plan_on_a_store_with_history_forecasts_time_and_disk(ran: Cli):
    """Half of the stages are new: a second half costs about what the first did."""
    done = [json.loads(path.read_text()) for path in (ran.folder / "results/stages").glob("*/result.json")]
    plan = ran.json("plan", ran.write(GOOD % 4, "more.yaml"))
    assert (plan["done"], plan["new"], plan["stages_to_run"]) == (4, 4, len(done))
    assert plan["estimate"]["seconds"] == pytest.approx(sum(each["elapsed_seconds"] for each in done), rel=0.01)
    assert plan["estimate"]["bytes"] == pytest.approx(sum(each["bytes"] for each in done), rel=0.01)
    printed = ran("plan", "more.yaml")
    assert "  trials    4 done, 4 new\n" in printed
    assert re.search(
        r"  estimate  \d+ s of work(, \d+ s with \d+ at a time on this machine)?; \d\.\d+ MB of disk", printed
    )
    gpus = ran("plan", ran.write(GOOD % 4 + "resources: {gpus: 1}\n", "more.yaml"))
    assert "at a time" not in gpus, "how many GPUs there are is not known without torch"


# --- run and status


def test_a_run_ends_with_what_failed_and_how_to_go_on(ran: Cli):
    printed = (ran.folder / "printed").read_text()
    assert printed.startswith("mixed: 16 trials (8 with each of 2 seeds) in 20 stages\n")
    assert f"4 of 16 trials done; tables in {ran.folder}/results/mixed: trials.parquet, curves.parquet, " in printed
    assert "failed: train gmp 0.9 lenet300 digits 2 epochs seed 0, train.lr 3e+30: Diverged: the training" in printed
    assert printed.splitlines()[-1] == "run what is missing with: prunesweep resume mixed"


def test_a_run_trains_nothing_again_that_the_store_has(ran: Cli):
    store = Store(ran.folder / "results")
    first, *others = make_plan(read_sweep(ran.folder / "good.yaml"), store).stages
    assert [len(store.attempts(key)) for key in (first, *others)] == [1] * 6
    assert store.attempts(first)[0].run == ""
    assert {store.attempts(key)[0].run for key in others} != {""}


def test_status_groups_failures_by_cause_and_shows_a_few(ran: Cli):
    lines = ran("status", "mixed").splitlines()
    assert lines[:3] == [
        "mixed: 16 trials: 4 done, 8 failed, 4 blocked",
        "failed: 10 diverged",
        "  diverged: lower train.lr, or add warm-up epochs",
    ]
    dense = r"    \w{20}  train dense lenet300 digits 2 epochs seed [01], train.lr 1e\+30; blocks 2 stages"
    assert all(re.fullmatch(dense, line) for line in lines[3:5]), "what blocks others comes first"
    assert re.fullmatch(r"    \w{20}  train gmp 0.9 lenet300 digits 2 epochs seed 0, train.lr 1e\+30", lines[5])
    assert sum("the training loss became" in line for line in lines) == 1, "the same message once"
    assert lines[-2:] == [
        "    and 5 more; `status --json` lists all",
        "run what is missing with: prunesweep resume mixed",
    ]


def test_status_for_programs_has_every_failure(ran: Cli):
    (status,) = ran.json("status", "mixed")
    assert len(status["failures"]) == 10
    assert {failure["cause"] for failure in status["failures"]} == {"diverged"}
    assert "Traceback" in status["failures"][0]["traceback"]
    assert (status["trials"], status["done"], status["failed"], status["blocked"]) == (16, 4, 8, 4)


def test_status_shows_what_a_killed_driver_left(ran: Cli):
    lines = ran("status", "killed").splitlines()
    assert lines[:2] == ["killed: 2 trials: 2 unfinished", "unfinished: 2 interrupted"]
    label = (
        r"    \w{20}  train dense lenet300 digits 9 epochs seed %d; interrupted; began .+ ago \(\S+ \S+ UTC\) on .+, "
    )
    assert re.fullmatch(label % 0 + "checkpoint of epoch 4 of 9", lines[2])
    assert re.fullmatch(label % 1 + "no checkpoint yet of 9", lines[3])
    (status,) = ran.json("status", "killed")
    assert [(each["checkpoint"], each["epochs"]) for each in status["unfinished_stages"]] == [(4, 9), (None, 9)]


def test_status_of_all_sweeps_is_a_line_each(ran: Cli):
    assert ran("status").splitlines() == [
        "good: 4 trials: 4 done",
        "killed: 2 trials: 2 unfinished",
        "mixed: 16 trials: 4 done, 8 failed, 4 blocked",
    ]
    assert len(ran.json("status")) == 3


def test_the_way_on_names_the_file_and_the_store_where_it_must(ran: Cli):
    ran.write(HEAD + "trials: [{method: dense}]\n", "fresh.yaml")
    assert ran("status", "fresh.yaml").endswith("run what is missing with: prunesweep run fresh.yaml\n")
    elsewhere = ran("status", "fresh.yaml", "--store", "other")
    assert elsewhere.endswith(f"prunesweep run fresh.yaml --store {ran.folder}/other\n")


# --- results


def test_results_in_every_format(ran: Cli):
    with ThreadPoolExecutor(3) as pool:
        found = dict(zip(FORMATS, pool.map(lambda f: ran("results", "good", "--format", f), FORMATS), strict=True))
    frame = pd.read_csv(ran.folder / Path(ran.write(found["csv"], "good.csv")))
    assert frame["target_sparsity"].tolist() == [0.5, 0.9]
    assert frame["n"].tolist() == [2, 2]
    assert [row["mean"] for row in json.loads(found["json"])] == pytest.approx(frame["mean"].tolist())
    percent = f"{100 * frame['mean'][1]:.1f}"
    assert all(percent in found[name] for name in ("table", "markdown", "latex"))
    assert found["markdown"].count("| imp | ALLR |") == 1
    assert r"\begin{tabular}" in found["latex"]
    assert "\x1b" not in found["table"]


def test_results_of_several_sweeps_have_each_trial_once(ran: Cli):
    several = ran.json("results", "mixed", str(ran.folder / "results/good"))
    assert [row["n"] for row in several if "failed" not in row] == [2, 2]
    assert {(row["n"], row["mean"]) for row in several if "failed" in row} == {(0, None)}


def test_results_can_be_asked_for_another_metric_and_part_of_the_trials(ran: Cli):
    arguments = ["--metric", "train_images_per_second", "--by", "method", "--where", "target_sparsity>=0.9"]
    (row,) = ran.json("results", "good", *arguments)
    assert (row["metric"], row["method"], row["target_sparsity"], row["n"]) == (arguments[1], "imp", 0.9, 2)
    assert row["mean"] > 1


def test_a_terminal_has_colours_and_its_own_width(ran: Cli):
    def on_a_terminal(*arguments: str) -> str:
        command = " ".join([str(COMMAND), *arguments])
        env = {**os.environ, "TERM": "xterm-256color"}
        for name in ("NO_COLOR", "COLUMNS"):
            env.pop(name, None)
        made = pexpect.run(command, cwd=str(ran.folder), env=env, dimensions=(24, 60), encoding="utf-8")
        return str(made)

    assert "\x1b[32m4 done" in on_a_terminal("plan", "good.yaml")
    assert "\x1b[31m8 failed" in on_a_terminal("status", "mixed")
    assert "\x1b[1m" in on_a_terminal("results", "good")
    assert all(len(line) <= 60 for line in on_a_terminal("list", "methods").splitlines())
