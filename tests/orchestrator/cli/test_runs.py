"""What is said before Ray starts: data, devices and places that are missing, what --only, --trial and --set choose."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from prunesweep.orchestrator.cli.choosing import Choosing
from prunesweep.orchestrator.lookup import load_sweep
from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.records import has_changed, leaving, recall, remember, require
from prunesweep.orchestrator.run.preflight import SOCKET_PATH, absent_data, require_ready, unusable_places
from prunesweep.orchestrator.sweepfile.read import read_sweep, with_resources
from prunesweep.workers.errors import UserError
from prunesweep.workers.store import Store
from tests.orchestrator.conftest import COMMAND, Cli
from tests.orchestrator.finished import finish

TEXT = """\
dataset: digits
model: lenet300
seeds: 2
train: {epochs: 2}
trials:
  - {method: dense}
  - {method: imp, sparsity: [0.8, 0.9], retrain_epochs: 1}
"""


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """A store in which exp.yaml has been run."""
    finish(TEXT, Store(tmp_path / "results"), tmp_path / "exp.yaml")
    return Cli(tmp_path)


# --- data, devices, places


@pytest.mark.parametrize(
    ("dataset", "missing"),
    [
        ("cifar10", "there is no data/cifar-10-batches-py; fetch it with: prunesweep data fetch cifar10"),
        ("imagenet", "there is no data/imagenet/train; fetch it with"),
    ],
)
def test_missing_data_is_told_by_validate_and_plan_and_stops_a_run(dataset: str, missing: str, tmp_path: Path):
    cli = Cli(tmp_path)
    sweep = cli.write(TEXT.replace("digits", dataset))
    assert f"not on this machine: dataset {dataset}: {missing}" in cli("validate", sweep)
    assert missing in cli("plan", sweep)
    stopped = cli("run", sweep, code=2)
    assert missing in stopped.splitlines()[-1]


@pytest.mark.parametrize(("path", "folder"), [("shaps", "data/shaps"), ("/nowhere", "/nowhere")])
def test_missing_images_of_ones_own_make_no_trials(path: str, folder: str, tmp_path: Path):
    """Their content is part of what a trial is: without them there is nothing to plan."""
    cli = Cli(tmp_path)
    sweep = cli.write(TEXT.replace("digits", f"{{name: image_folder, path: {path}}}"))
    assert f"not on this machine: dataset image_folder: there is no {folder}; set its `path`" in cli("validate", sweep)
    for verb in ("plan", "run"):
        assert cli(verb, sweep, code=2).startswith("error: image_folder: there is no folder ")


def test_data_that_is_there_is_not_missed(tmp_path: Path):
    (tmp_path / "shapes/disc").mkdir(parents=True)
    trials = load_sweep(
        {
            "name": "x",
            "dataset": [{"name": "image_folder", "path": "shapes"}, "digits", {"name": "image_folder", "path": "none"}],
            "model": "lenet300",
            "trials": [{"method": "dense"}],
        }
    ).trials
    assert [problem.partition(";")[0] for problem in absent_data(trials, str(tmp_path))] == [
        f"dataset image_folder: there is no {tmp_path}/none"
    ]


def test_what_is_done_needs_no_data(tmp_path: Path):
    finish(TEXT.replace("digits", "cifar10"), Store(tmp_path / "results"), tmp_path / "exp.yaml")
    plan = make_plan(read_sweep(tmp_path / "exp.yaml"), Store(tmp_path / "results"))
    require_ready(plan, str(tmp_path), "cpu")
    more = make_plan(read_sweep(tmp_path / "exp.yaml", ["seeds=3"]), Store(tmp_path / "results"))
    with pytest.raises(UserError, match="dataset cifar10"):
        require_ready(more, str(tmp_path), "cpu")


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="the machine has a GPU")  # noqa: PTH110
def test_a_gpu_that_is_not_there_is_a_sentence(cli: Cli):
    stopped = cli("run", "exp.yaml", "--set", "seeds=[5]", "--device", "cuda", code=2)
    assert "error: --device cuda: torch finds no GPU on this machine" in stopped


def test_places_that_ray_cannot_use_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/tmp")
    assert list(unusable_places()) == []
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind"
    monkeypatch.setenv("TMPDIR", "/tmp/" + "t" * SOCKET_PATH)
    monkeypatch.setenv("HOME", "/proc/nowhere")
    too_long, no_home = unusable_places()
    assert too_long.startswith("TMPDIR is /tmp/ttt")
    assert no_home.startswith("HOME is /proc/nowhere, where Ray cannot write its token")
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    assert list(unusable_places()) == [no_home]


OTHER_USERS = """\
mount -t tmpfs -o size=$1 tmpfs /tmp && mkdir /tmp/ray && chown 65534 /tmp/ray && chmod 700 /tmp/ray || exit 77
shift; exec setpriv --inh-caps=-all --bounding-set=-all "$@"
"""
"""In a space of mounts of its own Ray's folder is another user's, and root has no more rights than others."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "code", "said"),
    [
        ("1m", 2, "are free and Ray wants 10 MB: make room, or set RAY_TMPDIR to another folder"),
        ("100m", 0, "1 of 1 trial done"),
    ],
)
def test_a_full_temporary_folder_is_refused_and_another_users_ray_avoided(size: str, code: int, said: str):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        cli = Cli(Path(folder))
        text = "dataset: digits\nmodel: lenet300\ntrain: {epochs: 1}\ntrials: [{method: dense}]\n"
        run = [str(COMMAND), "run", cli.write(text)]
        within = ["unshare", "--mount", "sh", "-c", OTHER_USERS, "sh", size]
        environment = {**os.environ, "TMPDIR": "/tmp", "HOME": folder}
        done = subprocess.run([*within, *run], cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if "unshare" in done.stderr or done.returncode == 77:
            pytest.skip("mounting is not permitted here")
        assert done.returncode == code, done.stdout + done.stderr
        assert said in done.stdout + done.stderr


# --- what is run


def test_only_and_trial_choose_some_trials_and_what_these_stand_on(cli: Cli):
    plan = make_plan(read_sweep(cli.folder / "exp.yaml"), Store(cli.folder / "none"))
    chosen = Choosing(["sparsity=0.9", "seed=1"]).trials(plan)
    assert [(trial.sparsity, trial.seed) for trial in chosen] == [(0.9, 1)]
    assert [stage.epochs for stage in plan.narrowed(chosen).runnable.values()] == [2, 1]
    assert Choosing(key=chosen[0].key[:8]).trials(plan) == chosen
    assert len(Choosing(["method=imp", "seed=0"]).trials(plan)) == 2
    with pytest.raises(UserError, match="begins no key of the 6 trials"):
        Choosing(key="zzz").trials(plan)
    with pytest.raises(UserError, match='unknown method "gmp"'):
        Choosing(["method=gmp"]).trials(plan)


def test_a_run_of_some_trials_that_are_done_ends_well(cli: Cli):
    cli.write(TEXT.replace("0.9]", "0.9, 0.95]"), "exp.yaml")
    printed = cli("run", "exp.yaml", "--only", "sparsity=0.9", ray=False)
    assert "  only      2 trials, 0 stages to run\n" in printed


def test_changes_go_before_the_file_and_make_a_sweep_of_their_own(cli: Cli):
    changed = read_sweep(cli.folder / "exp.yaml", ["train.lr=0.05,0.1", "seeds=1", "trials[1].sparsity=0.5"])
    assert changed.name == "exp-train.lr-0.05-0.1-seeds-1-trials-1-.sparsity-0.5"
    assert [(t.train.lr, t.sparsity) for t in changed.trials] == [(0.05, 0.0), (0.1, 0.0), (0.05, 0.5), (0.1, 0.5)]
    assert cli("plan", "exp.yaml", "--set", "name=mine", "--set", "seeds=[7]").startswith("mine: 3 trials in 3 stages")
    for change, message in {
        "train.lr": '"train.lr" is no change; write key=value',
        "train.lr=": "is no change",
        "trials[4].sparsity=1": "the file has no item [4] there",
        "train.lr={": "the value is not YAML",
        "train.lrate=1": 'train.lrate: unknown key of train "lrate"',
    }.items():
        assert message in cli("validate", "exp.yaml", "--set", change, code=2)


# --- what is said of sweeps that were run


def test_a_sweep_whose_file_has_changed_is_run_by_its_file(cli: Cli):
    """`resume` runs what was run: the command that is named must train the new sparsity."""
    cli.write(TEXT.replace("0.9]", "0.9, 0.95]"), "exp.yaml")
    assert cli("status", "exp.yaml").splitlines()[-1] == "run what is missing with: prunesweep run exp.yaml"
    resumed = cli("resume", "exp", ray=False).splitlines()
    assert resumed[0].endswith(
        f"has changed since exp was run; for what it asks now: prunesweep run {cli.folder}/exp.yaml"
    )
    assert has_changed(load_sweep(cli.folder / "exp.yaml")) is False


LARGE = TEXT + "resources: {cpus: 1000, for: [{method: imp, gpus: 1}]}\n"


@pytest.fixture
def large(tmp_path: Path) -> Cli:
    """The store of a larger machine, in which all stages are missing; its sweep file is not there."""
    store = Store(tmp_path / "results")
    store.require_writable()
    cli = Cli(tmp_path)
    remember(read_sweep(tmp_path / cli.write(LARGE, "exp.yaml")), store)
    (tmp_path / "exp.yaml").unlink()
    return cli


def test_a_machine_too_small_for_what_the_store_remembers(large: Cli):
    said = large("resume", "exp", code=2)
    assert "no node can hold a trial with cpus: 1000, gpus: 1; the cluster has" in said
    assert 'Lower them with `--set "resources={cpus: 1}"`' in said
    said = large("resume", "exp", "--set", "resources={cpus: 999}", code=2)
    assert "a trial with cpus: 999, gpus: 0; the" in said
    assert "Lower them with `--set resources.cpus=1`" in said
    assert recall("exp", Store(large.folder / "results")).resources.default.cpus == 1000, "nothing ran"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("train.lr=0.1", "only resources can be set, such as resources.cpus=1; for the rest: prunesweep run "),
        ("seeds=3", "a sweep is resumed as it was run"),
        ("resourcesx=3", "a sweep is resumed as it was run"),
        ("resources.cpus=0", "--set: resources.cpus: 0 is not allowed"),
        ("resources.cpu=1", '--set: resources.cpu: unknown key of resources "cpu"'),
        ("resources.for[0].method=dst", "--set: resources.for[0]: matches no trial of this sweep"),
        ("resources.for[3].cpus=1", "the file has no item [3] there"),
    ],
)
def test_only_resources_are_changed_when_a_sweep_is_resumed(change: str, said: str, large: Cli):
    with pytest.raises(UserError) as refused:
        with_resources(require("exp", Store(large.folder / "results")), [change])
    assert said in str(refused.value)


def test_resources_that_are_changed_when_a_sweep_is_resumed(large: Cli):
    sweep = require("exp", Store(large.folder / "results"))
    changed = with_resources(sweep, ["resources.cpus=2", "resources.for[0].gpus=0.5"])
    assert changed.trials == sweep.trials
    assert {str(changed.resources.of(trial)) for trial in changed.trials} == {"cpus: 2, gpus: 0", "cpus: 2, gpus: 0.5"}
    assert (
        make_plan(changed, Store(large.folder / "results")).counts
        == make_plan(sweep, Store(large.folder / "results")).counts
    )


def test_trials_that_leave_the_tables_are_counted(cli: Cli):
    store = Store(cli.folder / "results")
    (cli.folder / "bob").mkdir()
    cli.write(TEXT.replace("[0.8, 0.9]", "0.9"), "bob/exp.yaml")
    (sentence,) = leaving(read_sweep(cli.folder / "bob/exp.yaml"), store)
    assert sentence.startswith(f"2 trials of {cli.folder}/exp.yaml, which was last run as exp, leave its tables;")
    assert list(leaving(read_sweep(cli.folder / "exp.yaml"), store)) == []
    assert cli("run", "bob/exp.yaml", ray=False).startswith("2 trials of ")


def test_a_name_in_place_of_a_file_and_a_store_that_is_not_there(cli: Cli):
    assert "the store has a sweep of that name: prunesweep resume exp" in cli("run", "exp", code=2)
    for verb in (["status"], ["status", "exp"], ["gc"]):
        assert f"error: there is no store at {cli.folder}/none:" in cli(*verb, "--store", "none", code=2)


def test_several_columns_make_the_rows(cli: Cli):
    assert cli("results", "exp", "--by", "method,seed") == cli("results", "exp", "--by", "method", "--by", "seed")


def test_a_run_that_has_all_says_what_to_type_next(cli: Cli):
    last = cli("run", "exp.yaml", ray=False).splitlines()[-1]
    assert last == "next: prunesweep compare exp, prunesweep plot exp, prunesweep report exp"


# --- logs


def test_logs_of_a_store_show_why_stages_failed(tmp_path: Path):
    cli, store = Cli(tmp_path), Store(tmp_path / "results")
    plan = finish(TEXT, store, tmp_path / "exp.yaml", lambda s: "lost [its] way\nat last" if s.root.seed == 1 else None)
    lines = cli("logs", "exp").splitlines()
    failed = next(key for key, state in plan.states.items() if state == "failed")
    assert lines[0].startswith(f"{failed}  train dense lenet300 digits 2 epochs seed 1: failed")
    assert lines[1].endswith(": diverged: lower train.lr, or add warm-up epochs")
    assert lines[2:] == ["    epoch 1", "    epoch 2", "    lost [its] way", "    at last"]
    trial = next(trial for trial in plan.sweep.trials if trial.sparsity == 0.9 and trial.seed == 0)
    shown = cli("logs", "exp.yaml", trial.key[:10]).splitlines()
    assert [line.split()[-1] for line in shown if not line.startswith(" ")] == ["done", "done"]
    assert "no trial and no stage of exp has a key that begins with" in cli("logs", "exp", "zzz", code=2)
    assert "--follow prints the log of a job" in cli("logs", "exp", "--follow", code=2)


def test_logs_of_a_sweep_without_failures(cli: Cli):
    assert cli("logs", "exp").startswith("no stage of exp has failed;")


# --- init and list


def test_init_writes_a_sweep_that_is_valid(tmp_path: Path):
    from PIL import Image

    cli = Cli(tmp_path)
    for place in ("flowers/daisy", "flowers/rose"):
        (tmp_path / place).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (20, 20), (number, 0, 0)).save(tmp_path / place / f"{number}.png")
    for split in ("train", "val", "test"):
        shutil.copytree(tmp_path / "flowers", tmp_path / "split" / split)
    cli.write(
        "from torch import nn\nclass Net(nn.Sequential):\n    def __init__(self, num_classes, width=4):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))\n",
        "net.py",
    )
    cli.write(
        "from prunesweep import Method\nclass Mine(Method):\n    '''Mine.'''\nclass Two(Method):\n    '''2.'''\n",
        "own.py",
    )
    assert cli("init") == "wrote sweep.yaml, 30 trials; look at it, and then: prunesweep plan sweep.yaml\n"
    assert "sweep.yaml is there already" in cli("init", code=2)
    for about, line in {
        "flowers": f'dataset: {{name: image_folder, path: "{tmp_path}/flowers", size: 64, crop: padded}}',
        "split": f'dataset: {{name: image_folder, path: "{tmp_path}/split", size: 64, crop: padded}}',
        "net.py": 'model: "net:Net"',
        "net:Net": 'model: "net:Net"',
        "own:Mine": '  - method: "own:Mine" ',
    }.items():
        (tmp_path / "made.yaml").unlink(missing_ok=True)
        cli("init", about, "--output", "made.yaml")
        text = (tmp_path / "made.yaml").read_text()
        assert any(written.startswith(line) for written in text.splitlines()), text
        assert ("\nvalidation: {fraction: 0.2}" in text) == (about == "flowers"), (
            "of a folder without a split of its own"
        )
        assert cli("validate", "made.yaml").startswith("made.yaml: valid, 30 trials")
    assert text.startswith("# Which method")
    for about, message in {
        "own.py": "own: which of Mine, Two? Give MODULE:NAME",
        "nothing": '"nothing" is neither a folder nor a module',
    }.items():
        assert message in cli("init", about, "--output", "other.yaml", code=2)
    assert not (tmp_path / "other.yaml").exists()


def test_what_options_can_be_given_is_listed(cli: Cli):
    assert "  ALLR " in cli("list", "schedules")
    assert "  deit_small " in cli("list", "recipes")
    assert "  test_accuracy " in cli("list", "columns")
    assert {row["of"] for row in cli.json("list", "columns")} == {
        f"{n}.parquet" for n in ("trials", "curves", "layers", "classes")
    }
    assert "bimp with resnet50 on imagenet: test_accuracy at 70%, 80%, 90%" in cli("list", "published")


def test_every_schedule_is_described():
    from prunesweep.orchestrator.glossary import SCHEDULES, TRAINING
    from prunesweep.workers.schedules import DENSE, RETRAINING, TUNABLE

    assert set(TRAINING) == set(DENSE)
    assert set(SCHEDULES) == {*RETRAINING, *TUNABLE}
