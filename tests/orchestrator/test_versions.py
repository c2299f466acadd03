"""Versions of one's own code and images: in the key, said when they change, and checked where a stage is run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from prunesweep import load_results
from prunesweep.orchestrator.lookup import planned_sweep
from prunesweep.orchestrator.plan import Plan, make_plan
from prunesweep.orchestrator.records import remember
from prunesweep.orchestrator.run.collect import Collector
from prunesweep.orchestrator.status.forecast import as_json
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.orchestrator.tables.means import means_table
from prunesweep.orchestrator.versions import accept, changes, lines
from prunesweep.workers import data
from prunesweep.workers.causes import Cause
from prunesweep.workers.errors import UserError
from prunesweep.workers.fingerprints import SAME_CODE, fingerprinted, note_same_code, parts, same_code
from prunesweep.workers.host import Where
from prunesweep.workers.run import StageFailed, run_stage
from prunesweep.workers.seal import sealed_json
from prunesweep.workers.store import Store

NET = """\
from torch import nn
from version_layers import activation

def net(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), activation(), nn.Linear(16, classes))
"""
SWEEP = """\
name: edit
dataset: digits
model: "version_net:net"
train: {epochs: 1}
trials:
  - {method: imp, sparsity: SPARSITY, retrain_epochs: 1, retrain_schedule: FT}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user is: a network in two files, and a sweep over it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    for name in [name for name in sys.modules if name.startswith("version_")]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "version_net.py").write_text(NET)
    edit_layers(tmp_path, "ReLU")
    write_sweep(tmp_path, "[0.5]")
    return tmp_path


def edit_layers(folder: Path, activation: str, comment: str = "") -> None:
    (folder / "version_layers.py").write_text(f"{comment}\nfrom torch.nn import {activation} as activation\n")


def write_sweep(folder: Path, sparsity: str) -> None:
    (folder / "edit.yaml").write_text(SWEEP.replace("SPARSITY", sparsity))


def planned(store: Store, sweep: str = "edit.yaml") -> Plan:
    return make_plan(planned_sweep(sweep, store), store)


def run(plan: Plan, store: Store) -> None:
    remember(plan.sweep, store)
    for stage in plan.to_run.values():
        for _ in run_stage(stage, store, Where()):
            pass


def said(plan: Plan, store: Store) -> str:
    return "\n".join(lines(changes(plan.sweep, store)))


def test_an_edited_network_is_another_one_and_the_plan_says_so(folder: Path):
    store = Store("results")
    before = planned(store)
    assert said(before, store) == ""
    run(before, store)
    assert planned(store).counts.done == 1
    edit_layers(folder, "Sigmoid")
    write_sweep(folder, "[0.5, 0.6]")
    after = planned(store)
    assert (after.counts.done, after.counts.new) == (0, 2)
    assert not set(after.stages) & set(before.stages), "no stage starts from a network of the old code"
    assert "your model file version_net.py has changed: 1 trial is of another version" in said(after, store)
    (listed,) = json.loads(as_json(after, None, changes(after.sweep, store)))["changes"]
    assert (listed["kind"], listed["name"], listed["part"]) == ("model", "version_net:net", "code")
    assert (len(listed["before"]), len(listed["now"]), listed["trials"]) == (16, 16, 1)
    assert planned(store, "edit").counts.done == 1, "by its name it is what was run"


def test_a_worker_refuses_code_that_is_not_the_plans(folder: Path):
    store = Store("results")
    plan = planned(store)
    edit_layers(folder, "Sigmoid")
    with pytest.raises(StageFailed, match=r"version_net.py, or what it imports, has changed since .* --same-code") as e:
        run(plan, store)
    assert e.value.cause is Cause.BAD_REQUEST
    assert store.done(plan.stages) == set()


def test_a_comment_is_accepted_deliberately_and_once(folder: Path):
    store = Store("results")
    before = planned(store)
    run(before, store)
    edit_layers(folder, "ReLU", "# clearer now")
    write_sweep(folder, "[0.5, 0.6]")
    sweep = accept(planned(store).sweep, store)
    assert set(make_plan(sweep, store).stages) > set(before.stages)
    assert said(planned(store), store) == ""
    assert (planned(store).counts.done, planned(store).counts.new) == (1, 1)
    run(planned(store), store)
    assert planned(store).counts.done == 2, "a worker takes the code for what was accepted"
    edit_layers(folder, "Sigmoid")
    assert planned(store).counts.done == 0, "and no other"


def test_a_store_from_before_there_were_versions(folder: Path):
    store = Store("results")
    old = make_plan(read_sweep(folder / "edit.yaml"), store)
    assert all(choice.fingerprint is None for trial in old.sweep.trials for choice in (trial.model, trial.dataset))
    run(old, store)
    plan = planned(store)
    assert plan.counts.new == 1
    assert "1 trial from before the version of your model file version_net.py was named is kept" in said(plan, store)
    assert planned(store, "edit").counts.done == 1
    accept(plan.sweep, store)
    assert planned(store).counts.done == 1


def test_what_is_in_the_registry_has_no_fingerprint(folder: Path):
    text = "dataset: [digits, {name: synthetic, images: 20}]\nmodel: [lenet300, wrn16x4]\ntrials: [{method: dense}]\n"
    (folder / "known.yaml").write_text(text)
    store = Store("results")
    assert planned_sweep("known.yaml", store).trials == read_sweep(Path("known.yaml")).trials


# --- images


IMAGES = """\
name: pictures
dataset: {name: image_folder, path: shapes, size: 8, crop: padded}
model: lenet300
train: {epochs: 1}
trials:
  - {method: imp, sparsity: [0.5], retrain_epochs: 1, retrain_schedule: FT}
"""


@pytest.fixture
def images(folder: Path) -> Path:
    data.load.cache_clear()
    for number, name in enumerate(("dark", "light")):
        (folder / "data" / "shapes" / name).mkdir(parents=True)
        for index in range(12):
            place = folder / "data" / "shapes" / name / f"{index}.png"
            Image.new("RGB", (10, 10), (100 * number + index,) * 3).save(place)
    (folder / "pictures.yaml").write_text(IMAGES)
    return folder / "data" / "shapes"


def test_another_image_makes_other_trials_and_children_stand_on_their_parents_images(images: Path):
    store = Store("results")
    before = planned(store, "pictures.yaml")
    run(before, store)
    assert planned(store, "pictures.yaml").counts.done == 1
    Image.new("RGB", (10, 10), (3, 200, 9)).save(images / "dark" / "more.png")
    after = planned(store, "pictures.yaml")
    assert not set(after.stages) & set(before.stages)
    assert "the images of image_folder have changed" in said(after, store)
    for stage in after.stages.values():
        assert stage.root.dataset == after.sweep.trials[0].dataset
    with pytest.raises(UserError, match="--same-code is for code, but the images of image_folder have changed"):
        accept(after.sweep, store)


def test_a_worker_refuses_images_that_are_not_the_plans(images: Path):
    store, elsewhere = Store("results"), images.parents[1] / "elsewhere"
    stage = next(iter(planned(store, "pictures.yaml").stages.values()))
    (elsewhere / "shapes").mkdir(parents=True)
    for name in ("dark", "light"):
        (images / name).rename(elsewhere / "shapes" / name)
    assert data.load(stage.root.dataset, str(elsewhere)).classes == 2
    (elsewhere / "shapes" / "dark" / "0.png").unlink()
    with pytest.raises(StageFailed, match=r"the images in .*elsewhere/ are not those that this trial was planned with"):
        list(run_stage(stage, store, Where(data_folder=f"{elsewhere}/")))


def test_images_without_a_fingerprint_are_refused(images: Path):
    store = Store("results")
    stage = next(iter(make_plan(read_sweep(Path("pictures.yaml")), store).stages.values()))
    with pytest.raises(StageFailed, match="planned before its images were part of it"):
        list(run_stage(stage, store, Where()))


def test_images_that_are_missing_are_said_with_the_remedy(images: Path):
    with pytest.raises(UserError, match=r"there is no folder .*/nowhere/shapes.*--data-dir, or PRUNESWEEP_DATA"):
        planned_sweep("pictures.yaml", Store("results"), "nowhere")


def test_images_beside_the_sweep_file_are_found_by_the_data_folder_that_is_named(images: Path):
    images.rename("shapes")
    with pytest.raises(UserError, match=r"shapes is in the current folder: add --data-dir \."):
        planned_sweep("pictures.yaml", Store("results"), "nowhere")


def test_files_of_a_dataset_of_ones_own_count_too(folder: Path):
    (folder / "version_data.py").write_text(
        "def own(folder):\n    ...\ndef files(name, folder):\n    return ['a.npz']\n"
    )
    (folder / "a.npz").write_bytes(b"1")
    (trial,) = read_sweep(folder / "edit.yaml").trials
    choice = data.choose("version_data:own", {})
    own = type(trial)(choice, trial.model, trial.method)
    first, again = (fingerprinted([own], "data", {})[0].dataset.fingerprint for _ in range(2))
    (folder / "a.npz").write_bytes(b"2")
    other = fingerprinted([own], "data", {})[0].dataset.fingerprint
    assert first == again
    assert parts(first)["code"] == parts(other)["code"]
    assert parts(first)["content"] != parts(other)["content"]


def test_two_versions_in_one_store_are_two_rows_of_a_table(folder: Path):
    """The same sweep under two names, before and after an edit."""
    store = Store("results")
    for name, comment in (("edit", ""), ("edited", "# another one")):
        edit_layers(folder, "ReLU", comment)
        (folder / f"{name}.yaml").write_text(SWEEP.replace("SPARSITY", "0.5").replace("name: edit", f"name: {name}"))
        run(planned(store, f"{name}.yaml"), store)
        Collector(planned(store, f"{name}.yaml"), store).write()
    frame = load_results("results/edit", "results/edited")
    assert frame["model_version"].str.fullmatch("code [0-9a-f]{8}").all()
    assert len(frame) == frame["model_version"].nunique() == 2
    assert len(means_table(frame).cells) == 2


def test_what_was_said_of_code_is_whole_or_said_to_be_damaged(tmp_path: Path):
    """A forged one, with its sum, lets code of this folder count as another version of itself, and no more."""
    store, (one, two, three) = Store(tmp_path / "store"), ("1" * 16, "2" * 16, "3" * 16)
    store.require_writable()
    store.write(json.dumps({one: two}).encode(), SAME_CODE)
    note_same_code({three: ""}, store)
    assert same_code(store) == {one: two, three: ""}, "also what was said before there was a sum"
    data, refused = store.read(SAME_CODE), 0
    for position in range(8 * len(data)):
        bad = bytearray(data)
        bad[position // 8] ^= 1 << position % 8
        store.write(bytes(bad), SAME_CODE)
        with pytest.raises(UserError, match=r"same_code\.json is damaged: remove it"):
            same_code(store)
        refused += 1
    assert refused > 1000
    for forged in ({"same": {one: "../../mine.py"}}, {"same": {"os:system": two}}, {"same": [one]}, {"same": {one: 3}}):
        store.write(sealed_json(forged), SAME_CODE)
        with pytest.raises(UserError, match="is damaged"):
            same_code(store)
