"""What the methods cost: images/s over those of plain training, and the seconds of a method's own work.

    python benchmarks/methods.py [--network resnet56|resnet50|hooks|all] [--methods NAME ...] [--rounds N]
        [--output FOLDER]

Throughput. In every round each method trains a few iterations with the real training loop between as many of plain
training before and after it: the ratio to their mean cancels what the machine does meanwhile. Each round begins with
another method. Reported are the median ratio over the rounds, its quartiles and the standard error of the median; the
row "dense" is plain training against itself, so what it shows is noise. Batches are synthetic and lie on the device.
Everything is as late in a training: masks of 90 % held, thresholds that prune 90 % of a layer or filter. What comes
seldom (GMP's prune, DPF's mask, updates of SET, RigL and GraNet) is timed once a round and shared over the iterations
between two of them. Methods that prune before training, and AC/DC in a compressed phase, hold a mask.

Hooks. At the size of ResNet-50, with random gradients and on one CPU thread: what a method does in an iteration beyond
plain training, part by part; a larger optimizer (CS) is not in it. GMP's prunes are those of a whole training.

On one CPU thread seconds are those that the process had the CPU: the same as on the clock of an idle machine, and on a
busy one a fifth of the noise.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunesweep.workers import models
from prunesweep.workers.host import describe_device
from prunesweep.workers.methods import METHODS, method_class
from prunesweep.workers.methods.base import Method
from prunesweep.workers.methods.dpf import DPF
from prunesweep.workers.methods.dynamic import DynamicPruner
from prunesweep.workers.methods.gmp import GMP
from prunesweep.workers.methods.granet import GraNetPruner
from prunesweep.workers.methods.pruner import Pruner, Setup
from prunesweep.workers.optimizers import make_optimizer
from prunesweep.workers.precision import set_backends
from prunesweep.workers.prunable import prunable
from prunesweep.workers.recording import record
from prunesweep.workers.selection import magnitude_masks
from prunesweep.workers.spec import TrainSpec
from prunesweep.workers.training import Network as Computed
from prunesweep.workers.training import train_epoch

SPARSITY, LR, GOAL = 0.9, 0.01, 0.97
RETRAINED = "imp, bimp, random"
"""Methods that start from a trained network are the same while they retrain: a mask is held."""

NAMES = ["dense", RETRAINED, *(name for name in METHODS if name not in ("dense", *RETRAINED.split(", ")))]
SETTINGS: dict[str, dict[str, Any]] = {
    "lc": {"penalty_growth": 1.01},
    "str": {"s_initial": -3.0},
    "dst": {"penalty": 1e-6},
    "sr_ste": {"pattern": "2:4"},
}
HELD = ("snip", "grasp", "synflow", "acdc")
"""Methods that train with a mask that something before has found."""

EARLY, LATE, MASK, UPDATE = "gmp: early prunes", "gmp: late prunes", "dpf: a mask", "%s: an update"
MOVING = ("set", "rigl", "granet")
"""Methods that update their masks now and then."""

GOALS = {EARLY: 0.3, LATE: 0.3, "gsm": 0.12, MASK: 0.3, "dnw": 0.09, "lc": 0.17, "str": 0.05, "dst": 0.08}
GOALS |= {UPDATE % "rigl": 0.5}
COLOURS = ["#4878a8", "#e0a458"]


@dataclass(frozen=True)
class Network:
    """A network, its training set, and batch size and iterations at a time, on a CPU and on a GPU."""

    title: str
    model: str
    shape: tuple[int, int, int]
    classes: int
    images: int
    epochs: int
    batch: tuple[int, int]
    iterations: tuple[int, int]


NETWORKS = {
    "resnet56": Network("ResNet-56", "resnet56", (3, 32, 32), 10, 45_000, 160, (128, 128), (1, 32)),
    "resnet50": Network("ResNet-50", "resnet50", (3, 224, 224), 1000, 1_153_050, 90, (4, 256), (1, 8)),
}


@dataclass(frozen=True)
class Setting:
    """Where and how to measure."""

    device: torch.device
    precision: str
    channels_last: bool
    batch: int | None

    def clock(self) -> float:
        """Seconds, once the device has finished."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return perf_counter()
        return process_time() if torch.get_num_threads() == 1 else perf_counter()

    def place(self, tensors: Any) -> Any:
        """A model, or images, on the device and in the layout."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return tensors.to(self.device).to(memory_format=layout)

    def __str__(self) -> str:
        threads, layout = torch.get_num_threads(), "channels-last" if self.channels_last else "contiguous"
        shown = f"{describe_device(self.device)}, CPU threads: {threads}, torch {torch.__version__}, {self.precision}"
        return f"{shown}, {layout}, load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"


class Trainer:
    """A method late in the training of a network of its own."""

    def __init__(self, name: str, network: Network, setting: Setting) -> None:
        self.name, self.network, self.setting = name, network, setting
        self.batch = setting.batch or self.network.batch[setting.device.type == "cuda"]
        torch.manual_seed(0)
        self.model = setting.place(models.build(models.choose(network.model, {}), network.shape, network.classes))
        train = TrainSpec(lr=LR, batch_size=self.batch, precision=setting.precision)
        self.computed = Computed(self.model, train, setting.device)
        method = Method() if name == RETRAINED else method_class(name)(**SETTINGS.get(name, {}))
        weights = prunable(self.model, record(self.model, setting.place(torch.randn(2, *self.network.shape))))
        setup = Setup(self.model, weights, SPARSITY, self.network.epochs, self.network.images // self.batch)
        self.pruner = method.pruner(setup)
        self.optimizer = self.pruner.optimizer = make_optimizer(self.model, self.pruner, train)
        self.weights = self.pruner.weights
        self.late = self.network.epochs * 7 // 8 * setup.iterations // 16 * 16

    def settle(self) -> None:
        """Masks and thresholds as they are late in training; momentum exists already."""
        if self.name in (RETRAINED, *HELD):
            self.pruner.hold(magnitude_masks(self.weights, SPARSITY))
        if self.name in ("str", "dst"):
            self.pruner.parameters()["threshold"].data.copy_(self.thresholds())
        self.seldom()
        self.pruner.iteration = self.late

    def thresholds(self) -> Tensor:
        """Those that prune the fraction `SPARSITY` of each layer (STR) or filter (DST)."""
        sizes = [w.detach().abs().flatten(1 if self.name == "dst" else 0) for w in self.weights]
        least = torch.cat([x.kthvalue(round(SPARSITY * x.shape[-1])).values.reshape(-1) for x in sizes])
        return least if self.name == "dst" else least.logit()

    def seldom(self) -> int:
        """What the method does once in many iterations; returns in how many, 0 if there is no such work."""
        method, pruner = self.pruner.method, self.pruner
        if isinstance(method, GMP):
            assert pruner.after_epoch((pruner.epochs // method.pruning_interval - 1) * method.pruning_interval)
            return method.pruning_interval * pruner.iterations
        if isinstance(method, DPF):
            pruner.iteration = self.late
            pruner.after_step()
            return method.mask_interval
        if isinstance(pruner, DynamicPruner):
            pruner.iteration = pruner.method.update_interval
            assert pruner.replace_step()
            return pruner.method.update_interval
        if isinstance(pruner, GraNetPruner):
            pruner.iteration = pruner.last * pruner.method.update_interval - 1
            pruner.adjust_gradients()
            pruner.iteration += 1
            pruner.after_step()
            return pruner.method.update_interval
        return 0

    def train(self, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
        score = train_epoch(self.computed, self.pruner, self.optimizer, batches, lambda k: LR, self.late)
        assert math.isfinite(score.loss), f"{self.name} diverged"

    def seconds(self, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
        """Of an iteration on each of the batches, with their share of what comes seldom."""
        start = self.setting.clock()
        self.train(batches)
        middle = self.setting.clock()
        every = self.seldom()
        rest = self.setting.clock() - middle
        return middle - start + (rest * (len(batches) % every) / every if every else 0.0)


# --- throughput


@dataclass(frozen=True)
class Throughput:
    """Images/s, and the ratios to plain training, round by round."""

    network: str
    name: str
    images: float
    ratios: Sequence[float]

    def quartiles(self) -> tuple[float, float, float]:
        """Lower quartile, median, upper quartile."""
        low, median, high = np.quantile(self.ratios, [0.25, 0.5, 0.75]).tolist()
        return low, median, high

    def error(self) -> float:
        """The standard error of the median, from the quartiles, as if the ratios were normal."""
        low, _, high = self.quartiles()
        return 0.93 * (high - low) / math.sqrt(len(self.ratios))


def measure_throughput(key: str, names: Sequence[str], rounds: int, setting: Setting) -> list[Throughput]:
    """These methods on a network."""
    dense = Trainer("dense", NETWORKS[key], setting)
    trainers = [Trainer(name, NETWORKS[key], setting) for name in names]
    batches = synthetic(dense)
    for trainer in [dense, *trainers]:
        trainer.train(batches[:1])
        trainer.settle()
        trainer.train(batches)
    seconds = np.array([one_round(trainers, dense, batches, number) for number in range(rounds)])
    images = len(batches) * dense.batch / np.median(seconds[:, :, 0], 0)
    title, ratios = f"{dense.network.title}, batch {dense.batch}", seconds[:, :, 1] / seconds[:, :, 0]
    return [Throughput(title, t.name, images[j], ratios[:, j].tolist()) for j, t in enumerate(trainers)]


def one_round(
    trainers: Sequence[Trainer], dense: Trainer, batches: Sequence[tuple[Tensor, Tensor]], number: int
) -> list[tuple[float, float]]:
    """For each method its seconds, and the mean of plain training's before and after; round `number` begins with it."""
    seconds, before = {}, dense.seconds(batches)
    for place in range(number, number + len(trainers)):
        own, after = trainers[place % len(trainers)].seconds(batches), dense.seconds(batches)
        seconds[place % len(trainers)] = own, (before + after) / 2
        before = after
    return [seconds[place] for place in range(len(trainers))]


def synthetic(trainer: Trainer) -> list[tuple[Tensor, Tensor]]:
    """Batches for the iterations at a time; two different ones, in turn."""
    network, setting = trainer.network, trainer.setting
    images = setting.place(torch.randn(2 * trainer.batch, *network.shape)).split(trainer.batch)
    targets = torch.randint(network.classes, (2, trainer.batch)).to(setting.device)
    return [(images[i % 2], targets[i % 2]) for i in range(network.iterations[setting.device.type == "cuda"])]


# --- hooks


@dataclass(frozen=True)
class Work:
    """Seconds of each part of a method's own work, repeated."""

    name: str
    repeats: Sequence[dict[str, float]]

    def totals(self) -> list[float]:
        """All parts together."""
        return [sum(parts.values()) for parts in self.repeats]


def measure_hooks(names: Sequence[str], rounds: int, setting: Setting) -> list[Work]:
    """These methods at the size of ResNet-50, one after the other."""
    others = [name for name in names if name != "dense"]
    return [work for name in others for work in own_work(Trainer(name, NETWORKS["resnet50"], setting), rounds)]


def own_work(trainer: Trainer, rounds: int) -> Iterator[Work]:
    """What the method does in every iteration, and what it does seldom."""
    clock, noise = trainer.setting.clock, [1e-3 * torch.randn_like(weight) for weight in trainer.weights]
    give_gradients(trainer, noise)
    trainer.optimizer.step()  # momentum exists from here on
    if trainer.name == "gmp":
        prunes = [laps(clock, prune(trainer.pruner, epoch + 1)) for epoch in range(trainer.network.epochs)]
        prunes = [parts for parts in prunes if parts]
        half = len(prunes) // 2
        yield from (Work(EARLY, prunes[:half]), Work(LATE, prunes[half:]))
        return
    trainer.settle()
    yield Work(trainer.name, [laps(clock, iteration(trainer, noise)) for _ in range(rounds)])
    if trainer.name in ("dpf", *MOVING):
        give_gradients(trainer, noise)
        name = MASK if trainer.name == "dpf" else UPDATE % trainer.name
        yield Work(name, [laps(clock, mask(trainer)) for _ in range(rounds)])


def give_gradients(trainer: Trainer, values: Sequence[Tensor]) -> None:
    """As a backward pass leaves them."""
    for weight, value in zip(trainer.weights, values, strict=True):
        weight.grad = value.clone()
    for parameter in trainer.pruner.parameters().values():
        parameter.grad = None


def iteration(trainer: Trainer, gradients: Sequence[Tensor]) -> Iterator[str]:
    """What `train_epoch` does beyond plain training; names each part once it is done, at first what does not count."""
    pruner = trainer.pruner
    pruner.iteration = trainer.late
    give_gradients(trainer, gradients)
    yield ""
    with pruner.view():
        yield "view"
        term = pruner.regularization()
        if isinstance(term, Tensor):
            torch.autograd.backward(term)
        yield "regularization"
    yield "view"
    pruner.adjust_gradients()
    pruner.adjust_decay()
    yield "gradients"
    pruner.iteration += 1
    pruner.after_step()
    yield "step"


def mask(trainer: Trainer) -> Iterator[str]:
    trainer.seldom()
    yield "mask"


def prune(pruner: Pruner, epoch: int) -> Iterator[str]:
    if pruner.after_epoch(epoch):
        yield "prune"


def laps(clock: Callable[[], float], parts: Iterator[str]) -> dict[str, float]:
    """Seconds by part; a name that comes twice adds up, the part without a name is left out."""
    seconds: dict[str, float] = {}
    last = clock()
    for name in parts:
        now = clock()
        seconds[name] = seconds.get(name, 0.0) + now - last
        last = now
    seconds.pop("", None)
    return seconds


# --- report


def throughput_table(results: Sequence[Throughput]) -> list[list[str]]:
    """A header, and a row a method."""
    rows = [["network", "method", "images/s", "of dense", "standard error", "quartiles", "rounds"]]
    for r in results:
        low, median, high = (f"{ratio:.3f}" for ratio in r.quartiles())
        count = str(len(r.ratios))
        rows.append([r.network, r.name, f"{r.images:.1f}", median, f"{r.error():.3f}", f"{low} to {high}", count])
    return rows


def hooks_table(results: Sequence[Work]) -> list[list[str]]:
    """A header, and a row a method."""
    rows = [["method", "minimum s", "median s", "maximum s", "goal s", "parts, median ms"]]
    for r in results:
        seconds = [f"{figure(r.totals()):.3f}" for figure in (min, np.median, max)]
        medians = {part: 1000 * np.median([parts[part] for parts in r.repeats]) for part in r.repeats[0]}
        parts = ", ".join(f"{part} {ms:.0f}" for part, ms in medians.items() if ms >= 0.5)
        rows.append([r.name, *seconds, str(GOALS.get(r.name, "")), parts])
    return rows


def markdown(table: list[list[str]]) -> str:
    """Aligned, so that it reads as plain text too."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    rows = [table[0], ["-" * width for width in widths], *table[1:]]
    lines = (" | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(f"| {line} |" for line in lines)


def draw(throughput: Sequence[Throughput], work: Sequence[Work], folder: Path) -> None:
    """`methods.svg` and `methods.png`; a panel without results is left out."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    plt.rcParams.update({"svg.fonttype": "none", "axes.spines.top": False, "axes.spines.right": False})
    panels: list[Callable[[Any], None]] = []
    panels += [lambda ax: draw_ratios(ax, throughput)] if throughput else []
    panels += [lambda ax: draw_seconds(ax, work)] if work else []
    figure, axes = plt.subplots(1, len(panels), figsize=(5.6 * len(panels), 5), layout="constrained", squeeze=False)
    for ax, panel in zip(axes[0], panels, strict=True):
        panel(ax)
        ax.invert_yaxis()
        ax.tick_params(axis="y", length=0)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.11), ncols=4, frameon=False)
    for ending in ("svg", "png"):
        figure.savefig(folder / f"methods.{ending}", dpi=150, bbox_inches="tight")


def draw_ratios(ax: Any, results: Sequence[Throughput]) -> None:
    """A bar a network and method, from plain training to the method, with a whisker over the quartiles."""
    networks = list(dict.fromkeys(r.network for r in results))
    height = 0.8 / len(networks)
    for i, network in enumerate(networks):
        low, median, high = np.array([r.quartiles() for r in results if r.network == network]).T
        at = np.arange(len(low)) + (i - (len(networks) - 1) / 2) * height
        ax.barh(at, median - 1.0, 0.9 * height, left=1.0, color=COLOURS[i], label=network)
        ax.errorbar(median, at, xerr=[median - low, high - median], fmt="none", ecolor="#333333", lw=1, capsize=2)
    ax.axvline(1.0, color="#333333", lw=1)
    ax.axvline(GOAL, color="#b03030", lw=1, ls="--", label=f"goal: {GOAL}")
    names = list(dict.fromkeys(r.name for r in results))
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("images/s over plain training's: median, quartiles")


def draw_seconds(ax: Any, results: Sequence[Work]) -> None:
    """A bar a method, with a whisker from the least to the median, and a mark at the goal."""
    at, least = range(len(results)), np.array([min(r.totals()) for r in results])
    median = np.array([np.median(r.totals()) for r in results])
    goals = {i: GOALS[r.name] for i, r in enumerate(results) if r.name in GOALS}
    ax.barh(at, median, 0.7, color=COLOURS[0])
    ax.errorbar(median, at, xerr=[median - least, 0 * least], fmt="none", ecolor="#333333", lw=1, capsize=2)
    ax.plot(list(goals.values()), list(goals), "|", color="#b03030", ms=17, mew=2, label="goal")
    ax.set_yticks(at, [r.name for r in results])
    ax.set_xlabel("own work at ResNet-50's size, s: median, minimum")


def run(given: argparse.Namespace) -> None:
    """Measure, print each table as it is ready, write what was asked for."""
    set_backends(given.precision)
    setting = Setting(torch.device(given.device), given.precision, given.channels_last, given.batch)
    throughput: list[Throughput] = []
    work: list[Work] = []
    sections = []
    for name in [*NETWORKS, "hooks"] if given.network == "all" else [given.network]:
        torch.set_num_threads(1 if name == "hooks" else given.threads)
        where = str(setting)
        if name == "hooks":
            work = measure_hooks(given.methods, given.rounds or 9, setting)
        else:
            throughput += measure_throughput(name, given.methods, given.rounds or 12, setting)
        table = hooks_table(work) if name == "hooks" else throughput_table(throughput[-len(given.methods) :])
        sections.append(f"{where}\n\n{markdown(table)}\n")
        print(sections[-1], flush=True)
    if given.output:
        given.output.mkdir(parents=True, exist_ok=True)
        (given.output / "methods.md").write_text("\n".join(sections))
        draw(throughput, work, given.output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=[*NETWORKS, "hooks", "all"], default="all")
    parser.add_argument("--methods", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help="default: all")
    parser.add_argument("--rounds", type=int, help="rounds of all methods, or repeats of their own work")
    parser.add_argument("--batch", type=int, help="default: 128 for ResNet-56; for ResNet-50 4, on a GPU 256")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch; the hooks take one")
    parser.add_argument("--precision", choices=["float32", "tf32", "bfloat16"], default="float32")
    parser.add_argument("--channels-last", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--output", type=Path, help="a folder for methods.md, methods.svg and methods.png")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
