"""What augmentations cost: images/s with each of them as a ratio to none, of batches alone and of training.

    python -m benchmarks.augmentations [--network resnet20] [--batches 4] [--rounds 5]

Batches have 128 images of CIFAR's shape. All share one thread and take turns, round by round; seconds are those of the
processor, so that other processes on the machine matter little. Reported are medians of the ratios of a round.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from time import process_time
from typing import Any

import torch

from benchmarks.methods import markdown
from prunesweep.workers import models
from prunesweep.workers.data.augmented import augmented
from prunesweep.workers.data.base import Dataset
from prunesweep.workers.data.synthetic import synthetic
from prunesweep.workers.methods.base import Method
from prunesweep.workers.methods.pruner import Setup
from prunesweep.workers.optimizers import make_optimizer
from prunesweep.workers.prunable import prunable
from prunesweep.workers.recording import record
from prunesweep.workers.spec import TrainSpec
from prunesweep.workers.training import Network, train_epoch

BATCH, LR = 128, 0.01

SETTINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
    "randaugment": {"randaugment": 9},
    "trivialaugment": {"trivialaugment": True},
    "random_erasing": {"random_erasing": 0.25},
    "gaussian_noise": {"gaussian_noise": 0.1},
    "repeated_augmentation": {"repeated_augmentation": 3},
    "DeiT's": {"mixup": 0.8, "cutmix": 1.0, "randaugment": 27, "random_erasing": 0.25, "repeated_augmentation": 3},
}


class Loop:
    """Training with an augmentation; beside its own crops and mirror images."""

    def __init__(self, model: str, batches: int, settings: dict[str, Any]) -> None:
        train = TrainSpec(lr=LR, batch_size=BATCH, **settings)
        whole = synthetic("", images=BATCH * batches * 10 // 9 + 1, test_images=1)
        whole = replace(whole, train=whole.train.at(slice(BATCH * batches)))
        self.given: Dataset = augmented(whole, train)
        torch.manual_seed(0)
        network = models.build(models.choose(model, {}), whole.shape, whole.classes).to(
            memory_format=torch.channels_last
        )
        self.network = Network(network, train, torch.device("cpu"))
        recorded = record(network, next(whole.evaluation_batches("train", batch_size=2))[0])
        self.pruner = Method().pruner(Setup(network, prunable(network, recorded), 0.0, 1, batches))
        self.optimizer = self.pruner.optimizer = make_optimizer(network, self.pruner, train)

    def batches(self) -> Any:
        """Of an epoch."""
        return self.given.train_batches(seed=0, epoch=0, batch_size=BATCH, augment=True)

    def load(self) -> None:
        """The batches and nothing else."""
        for _ in self.batches():
            pass

    def train(self) -> None:
        """An epoch."""
        train_epoch(self.network, self.pruner, self.optimizer, self.batches(), lambda k: LR, 0)


def seconds(work: Callable[[], None]) -> float:
    """Of the processor."""
    start = process_time()
    work()
    return process_time() - start


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    loops = {name: Loop(asked.network, asked.batches, settings) for name, settings in SETTINGS.items()}
    rounds: list[dict[str, tuple[float, float]]] = []
    for number in range(asked.rounds + 1):
        measured = {name: (seconds(loop.load), seconds(loop.train)) for name, loop in loops.items()}
        rounds += [measured] if number else []  # the first one warms up
    images = BATCH * asked.batches
    rows = [
        [
            name,
            *(f"{images / median(row[name][part] for row in rounds):,.0f}" for part in (0, 1)),
            *(f"{median(row['none'][part] / row[name][part] for row in rounds):.2f}" for part in (0, 1)),
        ]
        for name in SETTINGS
    ]
    head = ["augmentation", "batches, images/s", "training, images/s", "ratio of batches", "ratio of training"]
    print(markdown([head, *rows]))


if __name__ == "__main__":
    main()
