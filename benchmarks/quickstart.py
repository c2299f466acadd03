"""The quickstart's IMP trials the plain way and with prunesweep, in one run: wall time, and the accuracies of both.

    python benchmarks/quickstart.py [--seeds 3]

The plain way is what a user of Ray Tune writes: one function per trial that trains a dense network, prunes it and
retrains it; default settings, two slots. It does less than prunesweep: no augmentation, no validation, no batch-norm
recalibration, no checkpoints, one metric. prunesweep gets the same 36 trials a seed as a sweep and an empty store.
Both times include starting Ray and everything until the last result.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import ray
from ray import tune

from prunesweep.orchestrator.results.parquet import load_results

if TYPE_CHECKING:
    from torch import Tensor

SPARSITIES, BUDGETS, SCHEDULES = [0.8, 0.9, 0.95], [1, 2], ["FT", "LRW", "SLR", "CLR", "LLR", "ALLR"]

SWEEP = """\
name: imp
dataset: digits
model: resnet8
seeds: {seeds}
train: {{epochs: 20, batch_size: 64, lr: 0.1, schedule: linear, warmup_epochs: 1, weight_decay: 5.0e-4}}
trials:
  - method: imp
    sparsity: [0.8, 0.9, 0.95]
    retrain_epochs: [1, 2]
    retrain_schedule: [FT, LRW, SLR, CLR, LLR, ALLR]
"""


def plain_trial(config: dict[str, Any]) -> None:
    """Everything in one place, one trial at a time, as in a hundred notebooks."""
    import torch
    from sklearn.datasets import load_digits
    from torch.nn import functional

    from prunesweep.workers.models.resnet import CifarResNet
    from prunesweep.workers.prunable import prunable
    from prunesweep.workers.recording import record
    from prunesweep.workers.schedules import Pruned, dense, retraining
    from prunesweep.workers.selection import magnitude_masks, norm_drop
    from prunesweep.workers.spec import RetrainSpec, TrainSpec

    torch.set_num_threads(1)
    torch.manual_seed(config["seed"])
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None].sub(4.9).div(6.0)
    targets = torch.tensor(digits.target)
    order = torch.randperm(1400, generator=torch.Generator().manual_seed(0))[:1260]
    model = CifarResNet((1, 8, 8), 10, depth=8, width=16)
    recorded = record(model, torch.zeros(1, 1, 8, 8))
    train = TrainSpec(epochs=20, batch_size=64, lr=0.1, warmup_epochs=1)

    def run(epochs: int, lr: Callable[[int], float], masks: Sequence[Tensor] | None = None) -> None:
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
        weights, k = list(prunable(model, recorded).values()), 0
        model.train()
        for _ in range(epochs):
            for batch in order[torch.randperm(1260)].split(64):
                optimizer.param_groups[0]["lr"] = lr(k)
                optimizer.zero_grad()
                functional.cross_entropy(model(images[batch]), targets[batch]).backward()
                optimizer.step()
                if masks:
                    with torch.no_grad():
                        for weight, mask in zip(weights, masks, strict=True):
                            weight.mul_(mask)
                k += 1

    run(20, dense(train, 20))
    weights = list(prunable(model, recorded).values())
    masks = magnitude_masks(weights, config["sparsity"]).views
    pruned = Pruned(norm_drop(weights, masks), config["sparsity"])
    with torch.no_grad():
        for weight, mask in zip(weights, masks, strict=True):
            weight.mul_(mask)
    spec = RetrainSpec(config["retrain_epochs"], config["retrain_schedule"])
    run(spec.epochs, retraining(spec, train, 20, pruned), masks)
    model.eval()
    with torch.no_grad():
        accuracy = (model(images[1400:]).argmax(1) == targets[1400:]).float().mean().item()
    tune.report({"test_accuracy": accuracy})


def plain(seeds: int) -> pd.DataFrame:
    """One Tune trial per cell and seed, default settings."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    space = {
        "sparsity": tune.grid_search(SPARSITIES),
        "retrain_epochs": tune.grid_search(BUDGETS),
        "retrain_schedule": tune.grid_search(SCHEDULES),
        "seed": tune.grid_search(list(range(seeds))),
    }
    with tempfile.TemporaryDirectory() as folder:
        settings = tune.RunConfig(storage_path=folder, verbose=0)
        frame = tune.Tuner(plain_trial, param_space=space, run_config=settings).fit().get_dataframe()
    ray.shutdown()
    frame.columns = frame.columns.str.removeprefix("config/")
    return frame.rename(columns={"sparsity": "target_sparsity"})


def shared(seeds: int) -> pd.DataFrame:
    """The command that a user runs, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "imp.yaml").write_text(SWEEP.format(seeds=seeds))
        command = [str(Path(sys.executable).parent / "prunesweep"), "run", "imp.yaml"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return load_results(Path(folder) / "results" / "imp")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    seconds, accuracies = {}, {}
    for name, work in (("prunesweep", shared), ("plain Ray Tune", plain)):
        start = time.perf_counter()
        frame = work(seeds)
        seconds[name] = time.perf_counter() - start
        assert len(frame) == 36 * seeds
        accuracies[name] = frame.groupby(["target_sparsity", "retrain_epochs", "retrain_schedule"]).test_accuracy.mean()
        print(f"{name}: {len(frame)} trials in {seconds[name]:.1f} s", flush=True)
    print(f"prunesweep is {seconds['plain Ray Tune'] / seconds['prunesweep']:.1f} times as fast")
    print((pd.DataFrame(accuracies) * 100).round(1).loc[0.95].to_string())


if __name__ == "__main__":
    main()
