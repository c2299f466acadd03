"""How fast training is: images/s beside a plain PyTorch loop, and what an epoch's time goes into.

    python benchmarks/training.py [--network resnet56|resnet8|resnet50|all] [--precision float32|tf32|bfloat16]
                                  [--compile] [--threads N] [--loaders N] [--rounds N] [--device cpu|cuda]

The plain loop is what public pruning repositories run: torchvision's transforms on PIL images, a DataLoader (without
processes of its own and with `--loaders` that persist; the faster one counts), weights and images in contiguous layout,
a loss and an accuracy read at every iteration. All loops train the same model on the same images, batch and precision,
each in a process of its own, in turns, in one run. Reported are the medians over the rounds, and the ratio of the
images/s round by round.

The shares are those of prunesweep's loop, with the device synchronised between the parts. The arithmetic is 6
multiply-adds' worth of operations an image (forward, and twice that backward), over what a product of two large
matrices reaches in the same precision on the same device.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

from benchmarks.methods import markdown
from prunesweep.workers import data, models, precision
from prunesweep.workers.data.memory import InMemory, Split
from prunesweep.workers.host import describe_device, keep_freed_memory
from prunesweep.workers.measure import layer_costs
from prunesweep.workers.methods import create
from prunesweep.workers.methods.base import Method
from prunesweep.workers.methods.pruner import Setup
from prunesweep.workers.optimizers import make_optimizer
from prunesweep.workers.prunable import prunable
from prunesweep.workers.recording import record
from prunesweep.workers.spec import Choice, TrainSpec
from prunesweep.workers.training import Network, evaluate, train_epoch

LR = 0.01
CONTEXT = get_context("spawn")


@dataclass(frozen=True)
class Task:
    """A network, its images, and the batch size and iterations of a round on a CPU and on a GPU."""

    title: str
    model: str
    shape: tuple[int, int, int]
    classes: int
    batch: tuple[int, int]
    iterations: tuple[int, int]


TASKS = {
    "resnet8": Task("ResNet-8 on digits", "resnet8", (1, 8, 8), 10, (64, 64), (20, 200)),
    "resnet56": Task("ResNet-56 on CIFAR's shape", "resnet56", (3, 32, 32), 10, (128, 128), (4, 100)),
    "resnet50": Task("ResNet-50 on ImageNet's shape", "resnet50", (3, 224, 224), 1000, (16, 256), (2, 16)),
}


@dataclass(frozen=True)
class Setting:
    """Where and how to measure."""

    device: torch.device
    precision: str
    compile: bool
    loaders: int

    @property
    def gpu(self) -> bool:
        """Whether there are two clocks, the host's and the device's."""
        return self.device.type == "cuda"

    def clock(self) -> float:
        """Seconds, once the device has finished."""
        if self.gpu:
            torch.cuda.synchronize(self.device)
        return perf_counter()


def images_of(task: Task, count: int) -> InMemory:
    """As many training images as a round needs, augmented as CIFAR is; the digits are scikit-learn's."""
    if task.model == "resnet8":
        known = data.load(data.choose("digits", {}), "")
        assert isinstance(known, InMemory)
        again = torch.arange(count) % known.count("train")
        train = Split(known.train.images[again], known.train.targets[again])
        return InMemory("digits", train, train, known.test, 10, known.mean, known.std, padding=1)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, *task.shape), generator=generator, dtype=torch.uint8)
    train = Split(images, torch.randint(task.classes, (count,), generator=generator))
    statistics = torch.full((task.shape[0],), 127.5), torch.full((task.shape[0],), 73.9)
    return InMemory("random", train, train, train, task.classes, *statistics, padding=task.shape[1] // 8, flip=True)


class Pictures(TorchDataset[tuple[Tensor, int]]):
    """Images as torchvision's datasets give them: through PIL, one at a time."""

    def __init__(self, given: InMemory) -> None:
        channels, height, _ = given.shape
        self.images = given.train.images.permute(0, 2, 3, 1).contiguous().numpy()
        self.images = self.images if channels == 3 else self.images[..., 0]
        self.targets = given.train.targets.tolist()
        flip = [transforms.RandomHorizontalFlip()] if given.flip else []
        mean, std = (given.mean / 255).tolist(), (given.std / 255).tolist()
        crop = transforms.RandomCrop(height, padding=given.padding)
        self.transform = transforms.Compose([crop, *flip, transforms.ToTensor(), transforms.Normalize(mean, std)])

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.targets[index]


class Plain:
    """The loop that people write."""

    def __init__(self, task: Task, given: InMemory, batch: int, setting: Setting, processes: int) -> None:
        self.setting = setting
        torch.manual_seed(0)
        self.model = models.build(models.choose(task.model, {}), task.shape, task.classes).to(setting.device)
        settings: dict[str, Any] = {"persistent_workers": True} if processes else {}
        self.loader = DataLoader(
            Pictures(given), batch, shuffle=True, num_workers=processes, pin_memory=setting.gpu, **settings
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LR, momentum=0.9, nesterov=True, weight_decay=5e-4)

    def epoch(self) -> None:
        """One epoch."""
        total, right = 0.0, 0
        self.model.train()
        for images, targets in self.loader:
            images, targets = images.to(self.setting.device), targets.to(self.setting.device)
            self.optimizer.zero_grad()
            with precision.autocast(self.setting.precision, self.setting.device):
                outputs = self.model(images)
                loss = functional.cross_entropy(outputs, targets)
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(targets)
            right += (outputs.argmax(1) == targets).sum().item()


class Ours:
    """prunesweep's loop, as a stage runs it."""

    def __init__(self, task: Task, given: InMemory, batch: int, setting: Setting, *, compiled: bool) -> None:
        self.setting, self.given = setting, given.to(setting.device)
        torch.manual_seed(0)
        model = models.build(models.choose(task.model, {}), task.shape, task.classes)
        self.model = model.to(setting.device).to(memory_format=torch.channels_last)
        train = TrainSpec(lr=LR, batch_size=batch, precision=setting.precision, compile=compiled)
        self.network, self.batch = Network(self.model, train, setting.device), batch
        self.recorded = record(self.model, next(self.given.evaluation_batches("train", batch_size=2))[0])
        self.weights = prunable(self.model, self.recorded)
        self.pruner = Method().pruner(Setup(self.model, self.weights, 0.0, 1, self.given.iterations(batch)))
        self.optimizer = self.pruner.optimizer = make_optimizer(self.model, self.pruner, train)

    def epoch(self) -> None:
        """One epoch."""
        batches = self.given.train_batches(seed=0, epoch=0, batch_size=self.batch, augment=True)
        train_epoch(self.network, self.pruner, self.optimizer, batches, lambda k: LR, 0)

    def load(self) -> None:
        """The batches of an epoch and nothing else."""
        for _ in self.given.train_batches(seed=0, epoch=0, batch_size=self.batch, augment=True):
            pass

    def multiply_adds(self) -> int:
        """Of one image's forward pass."""
        return sum(layer.multiply_adds for layer in layer_costs(self.weights, self.recorded))


def timed(loop: Plain | Ours) -> float:
    """Seconds of an epoch."""
    start = loop.setting.clock()
    loop.epoch()
    return loop.setting.clock() - start


class Watch:
    """Seconds by part, each part ending with the device synchronised."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.seconds = setting, dict[str, float]()

    def timed(self, part: str, of: Callable[..., Any]) -> Callable[..., Any]:
        """The same callable, on the clock."""

        def call(*args: Any, **kwargs: Any) -> Any:
            start = self.setting.clock()
            result = of(*args, **kwargs)
            self.add(part, start)
            return result

        return call

    def add(self, part: str, start: float) -> None:
        """Count what has passed since `start`."""
        self.seconds[part] = self.seconds.get(part, 0.0) + self.setting.clock() - start

    def watched(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Batches, with the time until each is there."""
        while True:
            start = self.setting.clock()
            batch = next(batches, None)
            self.add("data", start)
            if batch is None:
                return
            yield batch

    @contextmanager
    def patched(self, on: Any, name: str, part: str) -> Iterator[None]:
        """An attribute on the clock for a while."""
        own = getattr(on, name)
        setattr(on, name, self.timed(part, own))
        try:
            yield
        finally:
            setattr(on, name, own)


def shares(ours: Ours, setting: Setting, method: str) -> dict[str, float]:
    """Fractions of an epoch with evaluation; the method is one that works in every iteration."""
    watch = Watch(setting)
    work = create(Choice.of(method)).pruner(Setup(ours.model, ours.weights, 0.9, 1, ours.given.iterations(ours.batch)))
    ours.optimizer = work.optimizer = make_optimizer(ours.model, work, ours.network.train)
    ours.epoch()
    batches = watch.watched(ours.given.train_batches(seed=0, epoch=0, batch_size=ours.batch, augment=True))
    start = setting.clock()
    with (
        watch.patched(torch.autograd, "backward", "backward"),
        watch.patched(ours.optimizer, "step", "optimizer"),
        watch.patched(work, "view", "method"),
        watch.patched(work, "adjust_gradients", "method"),
        watch.patched(work, "after_step", "method"),
        watch.patched(ours.network, "_compiled", "forward"),
    ):
        train_epoch(ours.network, work, ours.optimizer, batches, lambda k: LR, 0)
    watch.seconds["other"] = setting.clock() - start - sum(watch.seconds.values())
    # An epoch validates on a tenth of its images.
    batches = ours.given.evaluation_batches("train", batch_size=256)
    start = setting.clock()
    with work.view():
        evaluate(ours.network, batches)
    watch.seconds["evaluation"] = (setting.clock() - start) / 9
    whole = sum(watch.seconds.values())
    return {part: seconds / whole for part, seconds in watch.seconds.items()}


def matrix_rate(setting: Setting) -> float:
    """Operations/s of a product of two large matrices in this precision."""
    size = 8192 if setting.gpu else 2048
    dtype = torch.bfloat16 if setting.precision == "bfloat16" else torch.float32
    a, b = (torch.randn(size, size, device=setting.device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(6):
        start = setting.clock()
        a @ b
        seconds.append(setting.clock() - start)
    return 2.0 * size**3 / min(seconds)


def serve(orders: Connection, task: Task, threads: int, setting: Setting, processes: int | None, on: bool) -> None:
    """A loop in a process of its own, as each is in real life; the plain one where `processes` are given."""
    torch.set_num_threads(threads)
    precision.set_backends(setting.precision)
    batch, iterations = task.batch[setting.gpu], task.iterations[setting.gpu]
    given = images_of(task, batch * iterations)
    if processes is None:
        keep_freed_memory()
        loop: Plain | Ours = Ours(task, given, batch, setting, compiled=on)
    else:
        loop = Plain(task, given, batch, setting, processes)
    for order in iter(orders.recv, None):
        orders.send(order(loop))


class Loop:
    """A loop that waits in its process until it is asked."""

    def __init__(self, *args: Any) -> None:
        self.orders, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=serve, args=(theirs, *args))
        self.process.start()

    def ask(self, of: Callable[..., Any]) -> Any:
        """The value of a function of the loop; it must be one of this module's."""
        self.orders.send(of)
        return self.orders.recv()

    def stop(self) -> None:
        """End the process, and the DataLoader's with it."""
        self.orders.send(None)
        self.process.join()


def everything(ours: Ours) -> tuple[float, float, dict[str, dict[str, float]]]:
    """Images/s of the batches alone, operations/s at one image/s over those of a matrix product, shares by method."""
    start = ours.setting.clock()
    ours.load()
    alone = ours.given.count("train") / (ours.setting.clock() - start)
    peak = 6 * ours.multiply_adds() / matrix_rate(ours.setting)
    return alone, peak, {method: shares(ours, ours.setting, method) for method in ("dense", "gsm")}


def measure(task: Task, setting: Setting, rounds: int, threads: int) -> str:
    """Two tables."""
    counts, single = sorted({0, setting.loaders}), replace(setting, precision="float32")
    plain = {f"plain, {n} loaders": (setting, n, False) for n in counts}
    exact = {f"plain in float32, {n} loaders": (single, n, False) for n in counts}
    ours = {f"prunesweep{', compiled' * on}": (setting, None, on) for on in sorted({False, setting.compile})}
    if setting.precision == "float32":
        exact = {}
    loops = {name: Loop(task, threads, *how) for name, how in {**exact, **plain, **ours}.items()}
    found: dict[str, list[float]] = {name: [] for name in loops}
    for k in range(rounds + 1):
        for name in list(loops)[:: 1 if k % 2 else -1]:
            found[name].append(loops[name].ask(timed))
    images = task.batch[setting.gpu] * task.iterations[setting.gpu]
    rates = {name: images / np.array(seconds[1:]) for name, seconds in found.items()}  # the first round warms up
    rows = [["loop", "images/s", "over plain", "quartiles", "over plain in float32"]]
    best, base = (max((rates[name] for name in each), key=np.median) for each in (plain, exact or plain))
    for name, values in rates.items():
        low, middle, high = np.quantile(values / best, [0.25, 0.5, 0.75])
        ratios = [f"{middle:.2f}", f"{low:.2f} to {high:.2f}", f"{np.median(values / base):.2f}"]
        rows.append([name, f"{np.median(values):,.0f}", *ratios])
    last = list(ours)[-1]
    alone, peak, parts = loops[last].ask(everything)
    for loop in loops.values():
        loop.stop()
    peak *= float(np.median(rates[last]))
    table = [["method", *(head := ["data", "forward", "backward", "optimizer", "method", "evaluation", "other"])]]
    table += [[name, *(f"{100 * of.get(part, 0.0):.1f} %" for part in head)] for name, of in parts.items()]
    text = f"The batches alone: {alone:,.0f} images/s. Arithmetic: {100 * peak:.0f} % of a large matrix product's."
    return f"{task.title}, batch {task.batch[setting.gpu]}\n\n{markdown(rows)}\n\n{text}\n\n{markdown(table)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=[*TASKS, "all"], default="all")
    parser.add_argument("--precision", choices=["float32", "tf32", "bfloat16"], default="float32")
    parser.add_argument("--compile", action="store_true", help="also compiled: minutes more")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads of torch (default: all)")
    parser.add_argument("--loaders", type=int, default=2, help="processes of the plain loop's DataLoader (default: 2)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    given = parser.parse_args()
    setting = Setting(torch.device(given.device), given.precision, given.compile, given.loaders)
    where = f"{describe_device(setting.device)}, CPU threads: {given.threads}, torch {torch.__version__}"
    print(f"{where}, {given.precision}, load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs\n", flush=True)
    for name in TASKS if given.network == "all" else [given.network]:
        print(measure(TASKS[name], setting, given.rounds, given.threads), flush=True)


if __name__ == "__main__":
    main()
