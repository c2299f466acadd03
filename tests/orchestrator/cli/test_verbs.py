"""The verbs that need no run: plan, validate, list, doctor, and on made-up trials results and plot; help, completion,
and a reader that goes away.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from prunesweep import load_published
from prunesweep.orchestrator.cli.results import FORMATS
from prunesweep.orchestrator.records import remember
from prunesweep.orchestrator.results.schemas import TRIALS, trials_schema
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.store import Store
from tests.orchestrator.conftest import COMMAND, Cli
from tests.orchestrator.frames import imp, judged, write

SWEEPS = Path(__file__).parents[3] / "sweeps"
HEAD = "dataset: digits\nmodel: resnet8\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["pln"], "Did you mean 'plan'?"), (["plan", "--sotre", "x"], "--store"), (["validate"], "Missing argument")],
)
def test_an_unknown_verb_or_option_is_a_usage_error(arguments: list[str], said: str, cli: Cli):
    code, out, err = cli.ask(*arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_debug_shows_the_traceback_of_an_error(cli: Cli):
    code, _, err = cli.ask("plan", "none.yaml", "--debug")
    assert code == 2
    assert err.startswith("Traceback")
    assert err.splitlines()[-1] == "error: none.yaml: no such file"


# --- plan and validate


def test_a_plan_shows_what_sharing_saves(cli: Cli):
    lines = cli("plan", str(SWEEPS / "imagenet_schedules.yaml")).splitlines()
    assert lines == [
        "imagenet_schedules: 108 trials (54 with each of 2 seeds) in 110 stages",
        "  trials    108 new",
        "  epochs    792 instead of 10,332 without sharing (13.0x less); 396 instead of 5,166 a seed",
        "  to train  792 epochs in 110 stages",
        "  estimate  unknown: the store has no stages like these yet; `run --smoke` measures some",
        "  data      dataset imagenet: there is no data/imagenet/train; fetch it with: prunesweep data fetch imagenet "
        "--data-dir data",
    ]
    assert list(cli.folder.iterdir()) == []


def test_equal_trials_are_one_and_both_say_so(cli: Cli):
    block = "{method: gmp, sparsity: [0.8, 0.9]}"
    sweep = cli.write(HEAD + f"trials: [{block}, {{method: gmp, sparsity: 0.9}}, {{method: gmp, sparsity: 0.8}}]\n")
    plan = cli("plan", sweep).splitlines()
    assert plan[0] == "sweep: 2 trials in 2 stages; 2 equal trials merged"
    assert plan[2] == "  epochs    40; no two trials share a stage"
    assert cli("validate", sweep) == "sweep.yaml: valid, 2 trials; 2 equal trials merged\n"
    assert cli("validate", cli.write(HEAD + "trials: [{method: dense}]\n")) == "sweep.yaml: valid, 1 trial\n"


# --- results and plot


@pytest.fixture
def tuned(cli: Cli) -> str:
    """A folder of trials: interval 4 is best on validation data, 2 on test data; a setting at 70 % reaches 75 %."""
    cells = [(2, 0.9, 0.9, 0.80, 0.95), (4, 0.9, 0.9, 0.85, 0.90), (4, 0.7, 0.75, 0.99, 0.99)]
    rows = [
        row
        for interval, target, reached, validation, test in cells
        for row in judged([validation] * 2, [test] * 2, reached, pruning_interval=interval, target_sparsity=target)
    ]
    rows += judged([0.9], [0.97], method="dense", target_sparsity=None)
    write(cli.folder / "tuned", rows, trials_schema({"pruning_interval": pa.int64()}))
    return "tuned"


def test_results_of_the_best_settings(cli: Cli, tuned: str):
    lines = cli("results", tuned, "--best-by", "validation_accuracy").splitlines()
    assert [line.split() for line in lines if line.startswith("imp ")] == [
        ["imp", *["90.00", "±", "0.00", "(2)"]],
        ["imp", "pruning", "interval", "4"],
    ]
    missed = "imp: 1 of 3 settings left out, not within 0.02 of a target; none at 70%, the nearest reached 75.0%"
    assert missed in lines
    wide = cli.json("results", tuned, "--best-by", "validation_accuracy", "--tolerance", "0.05")
    assert {row["target_sparsity"]: row["mean"] for row in wide} == {None: 0.97, 0.7: 0.99, 0.9: 0.9}
    assert wide[1]["reached_sparsity"] == 0.75
    on_test = cli("results", tuned, "--best-by", "test_accuracy", "--where", "target_sparsity=0.9")
    assert "caution: settings were chosen by test_accuracy, on test data" in on_test


@pytest.fixture
def rivals(cli: Cli) -> str:
    """Two schedules on five seeds, one of them always better; a third lacks four of the five."""
    rows = [
        *(*imp([0.90, 0.92, 0.91, 0.90, 0.92], "FT"), *imp([0.93, 0.96, 0.94, 0.93, 0.94], "ALLR")),
        *imp([0.99], "LLR"),
    ]
    write(cli.folder / "rivals", rows, TRIALS)
    return "rivals"


def test_differences_to_the_best_and_to_a_setting(cli: Cli, rivals: str):
    lines = cli("compare", rivals).splitlines()
    assert lines[0] == "digits, resnet8: test accuracy in percent, differences to the best"
    assert lines[5].split() == ["90%", "20+1", "ALLR", "94.0", "±", "1.2", "(5)"], "not LLR, which has one seed only"
    assert "1 cell out of competition: fewer seeds than others at the same place" in lines
    (row,) = cli.json("compare", rivals, "--against", "retrain_schedule=FT", "--where", "retrain_schedule=FT,ALLR")
    assert (row["retrain_schedule"], row["against_retrain_schedule"], row["n"]) == ("ALLR", "FT", 5)
    assert row["difference"] == pytest.approx(0.03)
    assert row["distinguishable"] is True


def test_differences_to_published_numbers(cli: Cli, rivals: str):
    (cli.folder / "theirs.csv").write_text("method,target_sparsity,retrain_schedule,test_accuracy\nimp,0.9,FT,90.5\n")
    text = cli("compare", rivals, "--published", "theirs.csv", "--format", "markdown")
    assert "| 90% | imp | FT | 91.0 ± 1.0 (5) | 90.5 | +0.5 |" in text
    assert "2 of our 3 cells have no published counterpart: imp 2" in text
    paper = load_published()
    paper = paper[paper.metric.eq("test_accuracy") & paper.retrain_epochs.eq(2)].drop(
        columns=["source", "metric", "std"]
    )
    paper["mean"] *= 100
    rows = (
        paper.rename(columns={"mean": "test_accuracy"}).assign(our_retrain_epochs=1).dropna(axis="columns", how="all")
    )
    rows.to_csv(cli.folder / "paper.csv", index=False)
    across = [part for name in ("dataset", "model", "pretrain_epochs") for part in ("--across", name)]
    records = cli.json("compare", rivals, "--published", "paper.csv", *across)
    assert [round(row["published_mean"], 4) for row in records] == [0.5675, 0.6956, 0.6890]


def test_differences_in_other_formats(cli: Cli, rivals: str):
    found = {name: cli("compare", rivals, "--format", name) for name in ("csv", "markdown", "latex")}
    assert r"\begin{tabular}" in found["latex"]
    assert found["csv"].splitlines()[0].startswith("metric,dataset,model,target_sparsity,total_epochs,method,")
    assert found["markdown"].count("\n| ") == 5


def test_a_plot_is_a_file_here_or_where_it_is_asked_for(cli: Cli, tuned: str):
    assert cli("plot", tuned, "--where", "target_sparsity=0.9").splitlines()[0] == "wrote tuned.png"
    assert (cli.folder / "tuned.png").read_bytes().startswith(b"\x89PNG")
    printed = cli("plot", tuned, "--best-by", "validation_accuracy", "--metric", "train_loss", code=2)
    assert printed == "error: nothing to compare: none of 3 finished trials has train_loss\n"
    printed = cli("plot", tuned, "--best-by", "validation_accuracy", "--title", "Best ones", "--output", "best.svg")
    printed = printed.splitlines()
    assert printed[0] == "wrote best.svg"
    assert any(line.startswith("  imp: 1 of 3 settings left out") for line in printed), (
        "what the table would say below it"
    )
    assert "<!-- Best ones -->" in (cli.folder / "best.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plot", "tuned", "--output", "a.jpg"], "error: a.jpg: a figure's file ends in .png, .svg, .pdf\n"),
        (["plot", "tuned", "--best-by", "lr"], 'error: unknown column "lr": allowed are'),
        (["results", "tuned", "--best-by", "seed"], "error: cannot choose by seed: neither more nor less of it is"),
        (["results", "tuned", "--best-by", "validation_accuracy", "--tolerance", "-1"], "--tolerance"),
        (["compare", "tuned", "--against", "method"], 'error: unknown method "method": allowed are dense, imp'),
        (["compare", "tuned", "--against", "method=inp"], 'error: unknown method "inp"'),
        (["compare", "tuned", "--published", "theirs.csv"], "error: no published numbers at theirs.csv: give a CSV"),
        (["compare", "tuned", "--published", "paper"], "error: none of our 4 cells has a published counterpart: data"),
        (["compare", "tuned", "--published", "paper", "--by", "lr"], "error: --published fixes what is compared"),
        (["compare", "tuned", "--across", "dataset"], "error: --across goes with --published"),
        (["compare", "tuned", "--format", "tex"], 'error: unknown format "tex"'),
    ],
)
def test_what_is_wrong_with_a_choice_or_a_plot(arguments: list[str], said: str, cli: Cli, tuned: str):
    code, out, err = cli.ask(*arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert [path.name for path in cli.folder.iterdir()] == ["tuned"]


# --- list and doctor


def test_list_names_everything_there_is(cli: Cli):
    methods = cli("list", "methods")
    assert "\nimp: Iterative magnitude pruning (Han et al. 2015" in methods
    assert "  pruning_interval  epochs between prunes: a whole number of at least 1; default 2\n" in methods
    models = cli("list", "models")
    assert {"lenet300", "resnet8", "resnet50", "vit_b_16"} <= set(re.split(r"[,\s]+", models))
    assert len(models.splitlines()) < 40
    assert max(map(len, (methods + models).splitlines())) <= 120
    datasets = cli("list", "datasets")
    assert "  mnist, fashion_mnist, cifar10, cifar100, svhn, stl10\n" in datasets
    assert "    shape: default [3, 32, 32]\n" in datasets


def test_list_for_programs(cli: Cli):
    methods = {row["name"]: row for row in cli.json("list", "methods")}
    settings = {each["name"]: each for each in methods["bimp"]["settings"]}
    assert (settings["pretrain_epochs"]["required"], settings["phases"]["default"]) == (True, 1)
    assert methods["dense"]["settings"] == []
    allocations = {
        name: setting["allowed"]
        for name, method in methods.items()
        for setting in method["settings"]
        if setting["name"] == "allocation"
    }
    assert allocations["gmp"] == "one of global, uniform, erk, lamp or a pattern such as 2:4"
    assert allocations["rigl"] == "one of erk, uniform, first_dense"
    assert {"name": "resnet8", "options": {"depth": 8, "width": 16}}.items() <= dict(
        next(row for row in cli.json("list", "models") if row["name"] == "resnet8")
    ).items()


@pytest.mark.slow
def test_doctor_looks_runs_a_sweep_and_leaves_nothing_behind(cli: Cli):
    checks = {check["name"]: check for check in cli.json("doctor")}
    assert {"python", "torch", "ray", "devices", "store", "disk", "digits"} <= set(checks)
    assert checks["cifar10"]["state"] == "absent", "no fault: exit code 0"
    assert "fetch it with" in checks["cifar10"]["found"]
    assert checks["a sweep"] == {"name": "a sweep", "state": "ok", "found": "Ray starts, and a network was trained"}
    assert list(cli.folder.iterdir()) == []


def test_doctor_says_no_to_what_would_stop_a_sweep(cli: Cli):
    """A torch that does not load, and a store that cannot be."""
    cli.write("raise OSError('libcudart.so.13: cannot open shared object file')\n", "torch.py")
    command = [COMMAND, "doctor", "--store", "torch.py/store"]
    env = {**os.environ, "PYTHONPATH": str(cli.folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=cli.folder, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    wrong = [line for line in done.stdout.splitlines() if line.startswith("no")]
    assert wrong[0].split(None, 2)[1:] == ["devices", "torch does not work here: OSError: libcudart.so.13: cannot open "
                                           "shared object file"]  # fmt: skip
    assert "is not writable" in wrong[1]


def test_version_help_and_completion(cli: Cli):
    assert re.fullmatch(r"prunesweep \d+\.\d+\.\d+\n", cli("--version"))
    help_ = cli("--help")
    assert all(verb in help_ for verb in ("plan", "run", "resume", "status", "results", "doctor"))
    assert "--debug" in help_
    # In a shell of its own: completion is for the shell that the command is run from, and make's has none.
    shell = ["bash", "-c", f"{COMMAND} --show-completion; true"]
    assert "prunesweep" in subprocess.run(shell, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("prunesweep list ", ["methods", "models", "datasets", "columns", "schedules", "published", "recipes"]),
        ("prunesweep status ki", ["killed"]),
        ("prunesweep results good --format ", list(FORMATS)),
    ],
)
def test_the_shell_completes_values(line: str, expected: list[str], cli: Cli):
    sweep = cli.folder / cli.write(HEAD + "trials: [{method: dense}]\n", "killed.yaml")
    remember(read_sweep(sweep), Store(cli.folder / "results"))
    env = {**os.environ, "_PRUNESWEEP_COMPLETE": "complete_bash", "COMP_WORDS": line}
    env["COMP_CWORD"] = str(len(line.split(" ")) - 1)
    done = subprocess.run([COMMAND], cwd=cli.folder, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.split() == expected


@pytest.mark.parametrize("arguments", [["list", "models"], ["--version"]])
def test_a_reader_that_goes_away_is_no_error(arguments: list[str], cli: Cli):
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen([COMMAND, *arguments], cwd=cli.folder, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert process.communicate()[1] == ""


def test_no_name_leads_out_of_the_store(cli: Cli):
    """Beside the store lies what looks like a sweep of it."""
    (cli.folder / "results/stages").mkdir(parents=True)
    outside = cli.folder / "secret"
    outside.mkdir()
    remember(replace(read_sweep(cli.folder / cli.sweep(1)), name="secret"), Store(cli.folder))
    assert (outside / "sweep.json").exists()
    for verb in ("status", "resume", "results"):
        answer = cli.ask(verb, "../secret")
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.startswith("error: ")
