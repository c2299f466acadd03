"""prunesweep's loop over a plain one, and what exactness costs: cuDNN held to deterministic algorithms, or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.gpu.device import seconds_of
from benchmarks.gpu.report import Report
from benchmarks.training import LR, Ours, Setting, Task, images_of
from prunesweep.workers import models, precision
from prunesweep.workers.data.memory import InMemory

ROUNDS = 3

SMALL, WIDE, LARGE = (40, (3, 32, 32), 10), (10, (3, 32, 32), 10), (8, (3, 224, 224), 1000)
"""Iterations of a round, images' shape, classes."""

NETWORKS = {
    "resnet20": (SMALL, 128),
    "resnet56": (SMALL, 128),
    "wrn28x10": (WIDE, 128),
    "resnet18": (LARGE, 256),
    "resnet50": (LARGE, 256),
}
COMPILED = {"resnet20": 25.0, "resnet50": 50.0, "resnet56": 45.0, "resnet18": 30.0, "wrn28x10": 40.0}
"""In the order of what they tell, with the seconds that compilation may take."""


@dataclass(frozen=True)
class Way:
    """A loop's name, whether its model is in channels-last layout, and what cuDNN may do."""

    name: str
    ours: bool
    channels_last: bool = True
    deterministic: bool = False
    benchmark: bool = False


WAYS = (
    Way("plain", ours=False, channels_last=False),
    Way("plain, channels-last", ours=False),
    Way("prunesweep", ours=True, deterministic=True),
    Way("prunesweep, cuDNN not deterministic", ours=True),
    Way("prunesweep, cuDNN not deterministic, benchmark", ours=True, benchmark=True),
)
COMPILED_WAY = Way("prunesweep, compiled", ours=True, deterministic=True)


def run(report: Report) -> None:
    """The section: first all that needs no compiler."""
    precision.set_backends("bfloat16")
    setting = Setting(report.device, "bfloat16", True, 0)
    if report.smoke:
        task = Task("smoke", "resnet14", (3, 32, 32), 10, (4, 4), (2, 2))
        for way in (*WAYS, COMPILED_WAY):
            report.attempt("images/s", way.name, partial(measure, report, task, way, setting))
        return
    for name in NETWORKS:
        for way in WAYS:
            check = f"{name}, {way.name}"
            report.attempt("images/s", check, partial(measure, report, task_of(name), way, setting), seconds=5)
    for name, seconds in COMPILED.items():
        check = f"{name}, {COMPILED_WAY.name}"
        report.attempt(
            "images/s", check, partial(measure, report, task_of(name), COMPILED_WAY, setting), seconds=seconds
        )


images = lru_cache(1)(images_of)
"""Made once for all loops of a network."""


def task_of(name: str) -> Task:
    """The network with its images; on a CPU a hundredth of the work."""
    (iterations, shape, classes), batch = NETWORKS[name]
    return Task(name, name, shape, classes, (2, batch), (1, iterations))


def measure(report: Report, task: Task, way: Way, setting: Setting) -> None:
    """The median of some rounds, after one that warms up, and compiles."""
    batch, iterations = task.batch[setting.gpu], task.iterations[setting.gpu]
    given = images(task, batch * iterations)
    compiled = way is COMPILED_WAY
    with cudnn(way):
        if way.ours:
            epoch = Ours(task, given, batch, setting, compiled=compiled).epoch
        else:
            epoch = plain(task, given, batch, way, setting)
        seconds = seconds_of(epoch, report.device, ROUNDS)
    rate = batch * iterations / seconds
    report.measured("images/s", f"{task.model}, {way.name}", f"{rate:,.0f}", {"images per second": rate})
    torch.compiler.reset()
    if setting.gpu:
        torch.cuda.empty_cache()


@contextmanager
def cudnn(way: Way) -> Iterator[None]:
    """What cuDNN may choose from, for a while."""
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = way.deterministic, way.benchmark
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before


def plain(task: Task, given: InMemory, batch: int, way: Way, setting: Setting) -> Callable[[], None]:
    """The loop that people write, on images that are ready on the device: no loader stands in its way."""
    torch.manual_seed(0)
    layout = torch.channels_last if way.channels_last else torch.contiguous_format
    model = models.build(models.choose(task.model, {}), task.shape, task.classes).to(setting.device)
    model = model.to(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, nesterov=True, weight_decay=5e-4)
    place = given.to(setting.device)
    batches = [
        (inputs.to(memory_format=layout), targets)
        for inputs, targets in place.train_batches(seed=0, epoch=0, batch_size=batch, augment=False)
    ]
    return lambda: epoch_of(model, optimizer, batches, setting)


def epoch_of(
    model: nn.Module, optimizer: torch.optim.Optimizer, batches: list[tuple[Tensor, Tensor]], setting: Setting
) -> None:
    """A loss and an accuracy are read at every iteration."""
    model.train()
    for images, targets in batches:
        optimizer.zero_grad()
        with precision.autocast(setting.precision, setting.device):
            outputs = model(images)
            loss = functional.cross_entropy(outputs, targets)
        torch.autograd.backward(loss)
        optimizer.step()
        loss.item()
        (outputs.argmax(1) == targets).sum().item()
