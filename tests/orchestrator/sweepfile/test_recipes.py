"""Recipes: published settings by a name, one's own by a path, and what is said beside them first."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from prunesweep.orchestrator.sweepfile.read import read_sweep, sweep_of
from prunesweep.orchestrator.sweepfile.recipes import read_recipe, shipped
from prunesweep.workers.errors import UserError
from prunesweep.workers.spec import TrainSpec

SWEEP = """\
name: x
dataset: digits
model: lenet300
train: {recipe: cifar_wide_resnet, lr: 0.05}
trials:
  - {method: dense}
"""

OWN = """\
title: ours
train:
  epochs: 12
  lr: [0.1, 0.2]
"""


def trains(text: str, folder: Path) -> list[TrainSpec]:
    (folder / "x.yaml").write_text(text)
    return [trial.train for trial in read_sweep(folder / "x.yaml").trials]


def refusal(text: str, folder: Path) -> str:
    with pytest.raises(UserError) as refused:
        trains(text, folder)
    return str(refused.value).replace(str(folder), "")


def test_what_is_said_beside_a_recipe_goes_first(tmp_path: Path) -> None:
    (train,) = trains(SWEEP, tmp_path)
    assert (train.epochs, train.lr, train.milestones, train.gamma) == (200, 0.05, (60, 120, 160), 0.2)


def test_a_key_holds_the_settings_and_not_the_recipe(tmp_path: Path) -> None:
    settings = read_recipe("cifar_wide_resnet", tmp_path).train
    (by_name,) = trains(SWEEP, tmp_path)
    assert by_name == TrainSpec(**{**settings, "milestones": (60, 120, 160), "lr": 0.05})


def test_a_block_begins_with_its_own_recipe_over_the_files_settings(tmp_path: Path) -> None:
    train = "train: {recipe: cifar_resnet, epochs: 200}"
    (own,) = trains(SWEEP.replace("{method: dense}", f"{{method: dense, {train}}}"), tmp_path)
    assert (own.lr, own.epochs, own.gamma, own.weight_decay) == (0.1, 200, 0.1, 1e-4)


def test_ones_own_is_found_from_the_sweep_file_and_may_have_axes(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/ours.yaml").write_text(OWN)
    text = SWEEP.replace("recipe: cifar_wide_resnet, lr: 0.05", "recipe: recipes/ours.yaml")
    assert [train.lr for train in trains(text, tmp_path)] == [0.1, 0.2]
    changed = read_sweep(tmp_path / "x.yaml", ["train.epochs=3"])
    assert [trial.train.epochs for trial in changed.trials] == [3, 3]
    changed = read_sweep(tmp_path / "x.yaml", ["train.recipe=cifar_cosine"])
    assert [trial.train.epochs for trial in changed.trials] == [200]


def test_a_setting_of_a_recipe_can_be_taken_away(tmp_path: Path) -> None:
    (train,) = trains(SWEEP.replace("lr: 0.05", "schedule: cosine, milestones: null, gamma: null"), tmp_path)
    assert (train.schedule, train.milestones, train.gamma) == ("cosine", None, None)


def test_in_python_too() -> None:
    settings: dict[str, Any] = {"name": "x", "dataset": "digits", "model": "lenet300", "trials": [{"method": "dense"}]}
    (trial,) = sweep_of({**settings, "train": {"recipe": "cifar_cosine"}}).trials
    assert (trial.train.schedule, trial.train.epochs) == ("cosine", 200)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("cifar_wide_resnets", 'x.yaml:4: train.recipe: unknown recipe "cifar_wide_resnets": allowed are'),
        ("cifar_wide_resnets", 'did you mean "cifar_wide_resnet"?'),
        ("ours.yaml", "x.yaml:4: train.recipe: /ours.yaml: no such file"),
        ("[cifar_resnet, cifar_cosine]", "is not allowed: the name of a recipe, or a path; for several give a block"),
        ("3", "x.yaml:4: train.recipe: 3 is not allowed: the name of a recipe, or a path"),
    ],
)
def test_a_recipe_that_is_not_there(recipe: str, message: str, tmp_path: Path) -> None:
    assert message in refusal(SWEEP.replace("cifar_wide_resnet", recipe), tmp_path)


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("epochs: 12", "epoch: 12", '/r.yaml:3: train.epoch: unknown key of train of a recipe "epoch": allowed are'),
        ("lr: [0.1, 0.2]", "lr: -1", "/r.yaml:4: train.lr: -1 is not allowed: a number above 0 (peak learning rate)"),
        ("title: ours\n", "", "/r.yaml:1: title: missing: what it trains, in a line"),
        ("title: ours", "title: ours\nmodel: resnet20", '/r.yaml:2: model: unknown key of recipe "model"'),
        (
            "  epochs: 12",
            "  recipe: cifar_resnet",
            '/r.yaml:3: train.recipe: unknown key of train of a recipe "recipe"',
        ),
        ("train:", "train: {", "/r.yaml:2: not valid YAML: this { is not closed"),
    ],
)
def test_a_mistake_in_a_recipe_is_at_its_line_there(right: str, wrong: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(OWN.replace(right, wrong))
    said = refusal(SWEEP.replace("cifar_wide_resnet", "./r.yaml"), tmp_path)
    assert said.startswith("/x.yaml:4: train.recipe: ")
    assert message in said


def test_settings_that_do_not_fit_the_recipes_are_at_the_place_of_the_training(tmp_path: Path) -> None:
    said = refusal(SWEEP.replace("lr: 0.05", "epochs: 100"), tmp_path)
    assert said.startswith("/x.yaml:4: train.milestones: 160 is never reached in 100 epochs")


@pytest.mark.parametrize("name", shipped())
def test_every_recipe_that_ships_trains_something_and_says_where_it_is_from(name: str, tmp_path: Path) -> None:
    (train,) = trains(SWEEP.replace("cifar_wide_resnet, lr: 0.05", name), tmp_path)
    recipe = read_recipe(name, tmp_path)
    assert "http" in recipe.source
    assert recipe.differs
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in recipe.train.items()}
    assert given.items() <= asdict(train).items()


def test_the_literatures_are_there() -> None:
    wanted = {"torchvision_resnet50", "torchvision_resnet50_v2", "timm_a2", "timm_a3", "deit_small", "convnext_tiny"}
    assert wanted <= shipped().keys()
