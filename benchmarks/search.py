"""One space searched by prunesweep's halving, by plain Optuna and by Ray Tune's ASHA: epochs, wall time and regret.

    python -m benchmarks.search [--store FOLDER] [--methods gmp str] [--rounds 3]

The space of a method is the grid of 27 settings of `benchmarks.halving`, in whose `--store` is what each comes to after
its 20 epochs; what is missing there is trained first. All three may try 27 candidates, compare them after 2 and 6
epochs by validation accuracy, keep a third, and call the same training, one at a time:

- prunesweep: `halving` with a quarter of the grid's epochs; rungs are synchronous.
- Optuna: `TPESampler` and `SuccessiveHalvingPruner`, which is asynchronous, in a loop in one process.
- ASHA: Tune's `ASHAScheduler` over the 27 settings in random order, asynchronous.

Regret is the grid's best validation accuracy less that of the chosen setting at its end, in points. Optuna's samples
and ASHA's order have another seed in each round; prunesweep's halving tries all 27 and has nothing to draw. Wall time
is that of a whole call, with Ray's start where there is one; of Optuna's, torch is loaded before. The rounds are in
turns, for the machine's load changes; the ratio is that of a round.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import optuna
import ray
from ray import tune
from ray.tune import RunConfig, TuneConfig, Tuner
from ray.tune.schedulers import ASHAScheduler

import prunesweep
from benchmarks import halving
from benchmarks.methods import markdown
from prunesweep.orchestrator.lookup import planned_sweep
from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.run.tune import SETTINGS
from prunesweep.orchestrator.search.decision import one_shot_points
from prunesweep.orchestrator.search.spec import Search
from prunesweep.workers.host import Where
from prunesweep.workers.run import run_stage
from prunesweep.workers.spec import Stage
from prunesweep.workers.store import Store

FIRST_RUNG, FACTOR = 2, 3

Setting = tuple[float, float]
"""The learning rate, and the value of the method's own setting."""


class Space(NamedTuple):
    """Of each setting the stage that trains it, and what it comes to at its end, in percent."""

    method: str
    stages: dict[Setting, Stage]
    scores: dict[Setting, float]

    def regret(self, setting: Setting) -> float:
        return max(self.scores.values()) - self.scores[setting]

    @property
    def axes(self) -> list[list[float]]:
        return [sorted({setting[k] for setting in self.stages}) for k in (0, 1)]


class Outcome(NamedTuple):
    chosen: Setting
    epochs: int


def sweep_of(algorithm: str, epochs: int, method: str, options: argparse.Namespace) -> dict[str, Any]:
    """The search of `benchmarks.halving` for one method; the winner runs with the search's seed alone."""
    asked = halving.sweep(algorithm, epochs, argparse.Namespace(**{**vars(options), "methods": [method]}))
    return {**asked, "name": f"{asked['name']}_{method}", "seeds": 1}


def space_of(method: str, options: argparse.Namespace, store: str) -> Space:
    """Out of the grid's results; what is missing of them is trained."""
    asked = sweep_of("grid", halving.SETTINGS * halving.EPOCHS, method, options)
    prunesweep.run(asked, store)
    plan = make_plan(planned_sweep(asked, Store(store), "data"), Store(store))
    (search,) = (decision.search for decision in plan.decisions)
    tried = halving.scores(prunesweep.load_candidates(asked["name"], store=store), method)
    scores = {halving.settings(row, method): row["score"] for _, row in tried.iterrows()}
    return Space(method, stages_of(search, method), scores)


def stages_of(search: Search, method: str) -> dict[Setting, Stage]:
    """The stage of each candidate that trains."""
    stages = {}
    for point in one_shot_points(search):
        values: dict[str, Any] = dict(point)
        setting = float(values["train.lr"]), float(values[halving.OWN[method][0]])
        (stages[setting],) = (stage for stage in search.path(point, 0) if stage.epochs)
    return stages


def training(stage: Stage, folder: str) -> Iterator[float]:
    """Its validation accuracy after each epoch. Who has seen enough closes it."""
    store = Store(folder)
    for progress in run_stage(stage, store, Where()):
        yield progress.curve[-1]["validation_accuracy"]


# --- the three


def with_prunesweep(space: Space, options: argparse.Namespace, folder: str, seed: int) -> Outcome:
    asked = sweep_of("halving", halving.SETTINGS * halving.EPOCHS // halving.SHARE, space.method, options)
    prunesweep.run(asked, folder, max_concurrent=1)
    tried = halving.scores(prunesweep.load_candidates(asked["name"], store=folder), space.method)
    winner = tried[tried["winner"]].iloc[0]
    spent = prunesweep.load_results(asked["name"], store=folder)["tuning_epochs"].iloc[0]
    return Outcome(halving.settings(winner, space.method), int(spent))


def with_optuna(space: Space, options: argparse.Namespace, folder: str, seed: int) -> Outcome:
    rates, values = space.axes

    def setting_of(params: dict[str, int]) -> Setting:
        return rates[params["lr"]], values[params["own"]]

    def objective(trial: optuna.Trial) -> float:
        params = {
            name: trial.suggest_int(name, 0, len(axis) - 1)
            for name, axis in zip(("lr", "own"), space.axes, strict=True)
        }
        stage, accuracy = space.stages[setting_of(params)], 0.0
        for epoch, accuracy in enumerate(training(stage, f"{folder}/{trial.number}"), 1):
            trial.report(accuracy, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return accuracy

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=FIRST_RUNG, reduction_factor=FACTOR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner)
    study.optimize(objective, n_trials=halving.SETTINGS)
    return Outcome(setting_of(study.best_params), sum(len(trial.intermediate_values) for trial in study.trials))


def with_asha(space: Space, options: argparse.Namespace, folder: str, seed: int) -> Outcome:
    settings = [*space.stages]
    random.Random(seed).shuffle(settings)

    def trial(config: dict[str, Any]) -> None:
        place = "/".join([folder, *map(str, config["setting"])])
        for accuracy in training(space.stages[config["setting"]], place):
            tune.report({"accuracy": accuracy})

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    os.environ.update(SETTINGS)
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    results = Tuner(
        tune.with_resources(trial, {"cpu": 1}),
        param_space={"setting": tune.grid_search(settings)},
        tune_config=TuneConfig(
            reuse_actors=True,
            metric="accuracy",
            mode="max",
            scheduler=ASHAScheduler(max_t=halving.EPOCHS, grace_period=FIRST_RUNG, reduction_factor=FACTOR),
        ),
        run_config=RunConfig(storage_path=f"{folder}/tune", verbose=0),
    ).fit()
    ray.shutdown()
    spent = sum(
        result.metrics["training_iteration"]
        for result in map(results.__getitem__, range(len(results)))
        if result.metrics
    )
    best = results.get_best_result().config
    assert best is not None
    return Outcome(best["setting"], spent)


SEARCHES: dict[str, Callable[[Space, argparse.Namespace, str, int], Outcome]] = {
    "prunesweep": with_prunesweep,
    "Optuna": with_optuna,
    "ASHA": with_asha,
}


def measure(space: Space, options: argparse.Namespace) -> list[list[str]]:
    """A row for each of the three."""
    walls: dict[str, list[float]] = {name: [] for name in SEARCHES}
    outcomes: dict[str, list[Outcome]] = {name: [] for name in SEARCHES}
    for seed in range(options.rounds):
        for name, search in SEARCHES.items():
            with tempfile.TemporaryDirectory() as folder:
                begun = time.monotonic()
                outcomes[name].append(search(space, options, folder, seed))
                walls[name].append(time.monotonic() - begun)
    return [row(space, name, outcomes[name], walls[name], walls["prunesweep"]) for name in SEARCHES]


def row(
    space: Space, name: str, outcomes: Sequence[Outcome], walls: Sequence[float], ours: Sequence[float]
) -> list[str]:
    epochs = [outcome.epochs for outcome in outcomes]
    ratio = median(wall / own for wall, own in zip(walls, ours, strict=True))
    each = 1000 * median(wall / spent for wall, spent in zip(walls, epochs, strict=True))
    regrets = " ".join(f"{space.regret(outcome.chosen):.2f}" for outcome in outcomes)
    return [space.method, name, " ".join(map(str, epochs)), f"{ratio:.2f}", f"{each:.0f}", regrets]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="of benchmarks.halving (default: a folder that is removed)")
    parser.add_argument("--methods", nargs="+", choices=halving.OWN, default=["gmp", "str"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="resnet8")
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--validation", type=float, default=0.25)
    options = parser.parse_args()
    rows = [["method", "search", "epochs", "wall over prunesweep's", "ms an epoch", "regret"]]
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(options.store or folder).absolute())
        spaces = [space_of(method, options, store) for method in options.methods]
        for space in spaces:
            rows += measure(space, options)
    print(markdown(rows))


if __name__ == "__main__":
    main()
