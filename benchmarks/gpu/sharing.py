"""Small trials on one card: many processes, under MPS too, one process with CUDA graphs, and many networks as one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import perf_counter, sleep

import torch
from torch import Tensor, nn

from benchmarks.gpu.device import seconds_of
from benchmarks.gpu.fused import Grouped, Stacked, loss_of
from benchmarks.gpu.processes import CONTEXT, ended
from benchmarks.gpu.report import Outcome, Report
from benchmarks.training import LR, Ours, Setting, Task, images_of
from prunesweep.workers import models, precision

COUNTS = (1, 2, 4, 8, 16)
SECONDS, ITERATIONS, START = 2.0, 20, 60.0
"""Of a measurement; of one of networks that are trained as one; within which processes have to be ready."""

MPS = "nvidia-cuda-mps-control"


def run(report: Report) -> None:
    """The section."""
    precision.set_backends("bfloat16")
    report.attempt("trained as one", "as each alone", lambda: as_alone(report), seconds=5)
    report.attempt("processes", "time-sliced", lambda: processes(report, "time-sliced"), seconds=30)
    for count in counts(report):
        for way in ("vmap", "grouped"):
            check = f"{count} by {way}"
            report.attempt("trained as one", check, partial(as_one, report, count, way), seconds=4)
    report.attempt("CUDA graphs", "1 process", lambda: graphs(report), seconds=25)
    report.attempt("processes", "under MPS", lambda: under_mps(report), seconds=35)
    report.attempt("trained as one", "8, compiled", lambda: as_one(report, counts(report)[-2], "compiled"), seconds=50)


def counts(report: Report) -> Sequence[int]:
    """How many at once."""
    return COUNTS[:2] if report.smoke else COUNTS


def task(report: Report) -> Task:
    """ResNet-20 at CIFAR's shape."""
    name = "resnet14" if report.smoke else "resnet20"
    batch, iterations = (4, 1) if report.smoke else (128, 20)
    return Task(name, name, (3, 32, 32), 10, (batch, batch), (iterations, iterations))


def built(report: Report, *, compiled: bool) -> Ours:
    """A loop of prunesweep's, warm."""
    small = task(report)
    batch, iterations = small.batch[0], small.iterations[0]
    setting = Setting(report.device, "bfloat16", compiled, 0)
    ours = Ours(small, images_of(small, batch * iterations), batch, setting, compiled=compiled)
    ours.epoch()
    return ours


# --- many processes


def processes(report: Report, how: str) -> None:
    """The first so many of them train at once; the others wait, with their contexts."""
    with crew(report) as orders:
        alone = 0.0
        for count in counts(report):
            for order in orders[:count]:
                order.send(0.3 if report.smoke else SECONDS)
            rate = sum(order.recv() for order in orders[:count])
            alone = alone or rate
            said = f"{rate:,.0f} images/s together, {rate / alone:.2f} times one"
            report.measured("processes", f"{count}, {how}", said, {"images per second": rate, "times": rate / alone})


@contextmanager
def crew(report: Report) -> Iterator[list[Connection]]:
    """As many processes as are ever needed, each ready; they end with the block."""
    members: list[BaseProcess] = []
    orders: list[Connection] = []
    for _ in range(counts(report)[-1]):
        ours, theirs = CONTEXT.Pipe()
        members.append(CONTEXT.Process(target=member, args=(theirs, report)))
        members[-1].start()
        theirs.close()
        orders.append(ours)
    try:
        for order in orders:
            if not order.poll(START):
                raise TimeoutError(f"a process was not ready within {START:.0f} s")
            order.recv()
        yield orders
    finally:
        for order in orders:
            with suppress(OSError):
                order.send(None)
        ended(members, 10.0)


def member(orders: Connection, report: Report) -> None:
    """Train for as long as each order says, and tell the images/s."""
    torch.set_num_threads(1)
    precision.set_backends("bfloat16")
    ours = built(report, compiled=False)
    orders.send(0.0)
    images = ours.given.count("train")
    for seconds in iter(orders.recv, None):
        start, epochs = ours.setting.clock(), 0
        while perf_counter() - start < seconds:
            ours.epoch()
            epochs += 1
        orders.send(images * epochs / (ours.setting.clock() - start))


def under_mps(report: Report) -> None:
    """As before, with a server of NVIDIA's that lets processes' kernels run side by side."""
    program = shutil.which(MPS)
    if not report.gpu or program is None:
        report.add("processes", "under MPS", Outcome.ABSENT, f"no {MPS} here" if report.gpu else "a CPU has none")
        return
    with tempfile.TemporaryDirectory(prefix="mps") as folder:
        places = {f"CUDA_MPS_{kind}_DIRECTORY": str(Path(folder) / kind.lower()) for kind in ("PIPE", "LOG")}
        for place in places.values():
            Path(place).mkdir()
        os.environ.update(places)
        try:
            subprocess.run([program, "-d"], env=dict(os.environ), check=True, timeout=20)
            sleep(1.0)
            processes(report, "MPS")
        except (subprocess.SubprocessError, OSError, EOFError) as error:
            report.add("processes", "under MPS", Outcome.ABSENT, f"its server does not serve here: {error!r}")
        finally:
            subprocess.run([program], input="quit\n", text=True, env=dict(os.environ), check=False, timeout=20)
            for name in places:
                del os.environ[name]


# --- one process


def graphs(report: Report) -> None:
    """`compile: true`, which replays CUDA graphs."""
    ours = built(report, compiled=True)
    rate = ours.given.count("train") / seconds_of(ours.epoch, report.device, 3)
    report.measured("CUDA graphs", "1 process", f"{rate:,.0f} images/s", {"images per second": rate})
    torch.compiler.reset()


def networks_of(report: Report, count: int) -> list[nn.Module]:
    """As many networks with weights of their own, on the device."""
    made: list[nn.Module] = []
    for seed in range(count):
        torch.manual_seed(seed)
        made.append(models.build(models.choose(task(report).model, {}), (3, 32, 32), 10).to(report.device))
    return made


def batch_of(report: Report, count: int) -> tuple[Tensor, Tensor]:
    """Images [M, B, 3, 32, 32] and targets [M, B], other ones for each network."""
    generator, size = torch.Generator().manual_seed(1), task(report).batch[0]
    images = torch.randn((count, size, 3, 32, 32), generator=generator)
    return images.to(report.device), torch.randint(10, (count, size), generator=generator).to(report.device)


def as_one(report: Report, count: int, way: str) -> None:
    """Images/s of all of them together, without prunesweep's loop."""
    networks = networks_of(report, count)
    fused = Stacked(networks) if way == "vmap" else Grouped(networks)
    call: Callable[[Tensor], Tensor] = fused
    if way == "compiled":
        call = torch.compile(fused, mode="reduce-overhead" if report.gpu else "default", dynamic=False)
    images, targets = batch_of(report, count)
    optimizer = torch.optim.SGD(fused.parameters(), lr=LR, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)

    def train() -> None:
        for _ in range(1 if report.smoke else ITERATIONS):
            optimizer.zero_grad()
            with precision.autocast("bfloat16", report.device):
                logits = call(images)
            torch.autograd.backward(loss_of(logits.float(), targets))
            optimizer.step()

    trained = images.shape[0] * images.shape[1] * (1 if report.smoke else ITERATIONS)
    rate = trained / seconds_of(train, report.device, 3)
    said = f"{rate:,.0f} images/s together"
    report.measured("trained as one", f"{count} by {way}", said, {"images per second": rate, "networks": count})
    torch.compiler.reset()


def as_alone(report: Report) -> None:
    """The gradients of networks trained as one, beside those of each alone, in float32."""
    precision.set_backends("float32")
    count = 3
    images, targets = batch_of(report, count)
    expected = [gradient(network, images[i], targets[i]) for i, network in enumerate(networks_of(report, count))]
    ways: dict[str, Callable[[], Tensor]] = {
        "vmap": lambda: first_layers(Stacked(networks_of(report, count)), images, targets),
        "grouped": lambda: first_layers(Grouped(networks_of(report, count)), images, targets),
    }
    for way, first in ways.items():
        own = first()
        apart = float((own - torch.stack(expected)).norm() / torch.stack(expected).norm())
        said = f"the first layer's gradients are {apart:.1e} of their norm apart"
        report.judge("trained as one", f"{way}, as each alone", apart < 1e-3, said, {"apart": apart})
    precision.set_backends("bfloat16")


def gradient(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Of the first layer's weight."""
    torch.autograd.backward(nn.functional.cross_entropy(network(images), targets))
    weight = network.get_parameter("conv1.weight").grad
    assert weight is not None
    return weight


def first_layers(fused: Stacked | Grouped, images: Tensor, targets: Tensor) -> Tensor:
    """Likewise of all networks, [M, ...]."""
    torch.autograd.backward(loss_of(fused(images), targets))
    weight = fused.state["conv1.weight"] if isinstance(fused, Stacked) else fused.network.get_parameter("conv1.weight")
    assert weight.grad is not None
    return weight.grad.reshape(len(images), -1, *weight.shape[-3:])
