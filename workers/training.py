"""The one training loop, evaluation, and batch-norm recalibration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from platform import node

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.utils._triton import has_triton

from prunesweep.workers import precision
from prunesweep.workers.errors import UserError
from prunesweep.workers.methods.pruner import Pruner
from prunesweep.workers.outputs import Outputs, read
from prunesweep.workers.replicas import ALONE, Replicas
from prunesweep.workers.schedules import Schedule
from prunesweep.workers.scoring import Score, Tally
from prunesweep.workers.spec import TrainSpec
from prunesweep.workers.tasks.base import Task
from prunesweep.workers.tasks.classification import Classification

Batches = Iterable[tuple[Tensor, Tensor]]

RECALIBRATION_BATCHES = 100


class Network:
    """A model as a stage computes with it: in the precision asked for, and compiled where that pays.

    Only full training batches run compiled: each other size and mode would cost another compilation, of up to minutes,
    for few batches. On a GPU the compiled training replays CUDA graphs. Inductor keeps what it compiled on the disk of
    the machine, where all processes find it.

    With replicas, batches are this one's portions; a backward pass leaves the gradients of the whole batch. A model
    that does not compute in channels-last layout (`workers.probe.place`) is given contiguous images.
    """

    def __init__(
        self,
        model: nn.Module,
        train: TrainSpec,
        device: torch.device,
        replicas: Replicas = ALONE,
        *,
        task: Task | None = None,
        channels_last: bool = True,
        compiled: bool | None = None,
    ) -> None:
        """`task` is classification and `compiled` what `train.compile` says unless given."""
        self.task = task or Classification()
        self.trained = self.task.in_training(train)
        self.model, self.train, self.device, self.replicas = model, train, device, replicas
        self.channels_last = channels_last
        mode = "reduce-overhead" if device.type == "cuda" else "default"
        (portion,) = replicas.portion.sizes(train.batch_size, train.batch_size)
        self._full = portion // train.accumulate
        self._trained = replicas.parallel(model)
        compiled = train.compile if compiled is None else compiled
        if compiled:
            require_compiler(device)
        self._compiled = torch.compile(self._trained, mode=mode, dynamic=False) if compiled else self._trained

    def laid_out(self, inputs: Tensor) -> Tensor:
        """Images in the layout that the model computes in."""
        return inputs if self.channels_last else contiguous(inputs)

    def parts(self, inputs: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of a batch what goes through the network at a time; there is one replica where that is not all."""
        if self.train.accumulate == 1:
            return [(inputs, targets)]
        number = part_count(len(targets), self.train)
        return list(zip(inputs.tensor_split(number), targets.tensor_split(number), strict=True))

    def outputs(self, inputs: Tensor) -> Outputs:
        """Images [B, C, H, W] -> what the task compares with targets, such as logits, and auxiliary ones."""
        whole = self.model.training and len(inputs) == self._full
        model = self._compiled if whole else self._trained if self.model.training else self.model
        return read(model(self.laid_out(inputs)))

    def __call__(self, inputs: Tensor) -> Tensor:
        """Images [B, C, H, W] -> outputs [B, ...], such as logits [B, classes]."""
        return self.outputs(inputs).logits

    def loss(self, outputs: Outputs, targets: Tensor, whole: int) -> Tensor:
        """The task's loss; of a portion what makes that of the `whole` batch the mean over the replicas.

        Of a part what it adds to that.
        """
        loss = self._mean(self.trained, outputs.logits, targets, whole)
        for logits in outputs.auxiliary:
            loss = loss + outputs.weight * self._mean(self.trained, logits, targets, whole)
        return loss

    def reported(self, loss: Tensor, outputs: Outputs, targets: Tensor, whole: int) -> Tensor:
        """The loss to report: of the logits alone, and the task's own without label smoothing, as in evaluation."""
        if self.trained is self.task and not outputs.auxiliary:
            return loss.detach()
        return self._mean(self.task, outputs.logits.detach(), targets, whole)

    def _mean(self, task: Task, outputs: Tensor, targets: Tensor, whole: int) -> Tensor:
        count = self.replicas.count
        if count == 1 and len(targets) == whole:
            return task.reduced(outputs, targets, "mean")
        return task.reduced(outputs, targets, "sum") * (count / whole)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Around a forward pass and its loss."""
        with precision.autocast(self.train.precision, self.device):
            if self.replicas.count == 1:
                yield
                return
            from prunesweep.workers.batchnorm import WholeBatch  # loads the compiler, for a second

            with WholeBatch():
                yield


def require_possible(train: TrainSpec, replicas: Replicas) -> None:
    """Raise `UserError` where batches are to be divided twice: batch norm would see other images together."""
    if train.accumulate > 1 and replicas.count > 1:
        raise UserError(f"train.accumulate: {train.accumulate} is for one process, and here are {replicas.count}")


def require_compiler(device: torch.device) -> None:
    """Raise `UserError` when `train.compile` has nothing to compile with."""
    advice = "or train with `compile: false`"
    if device.type == "cuda":
        if not has_triton():
            raise UserError(f"train.compile: no Triton that serves this GPU on {node()}; install triton, {advice}")
        return
    from torch._inductor.cpp_builder import get_cpp_compiler  # loads the compiler, for a second
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise UserError(f"train.compile: no C++ compiler on {node()}; install g++ or clang++, {advice}") from error


def part_count(images: int, train: TrainSpec) -> int:
    """Into how many parts a batch of so many images is divided, so that none is larger than those of a full one."""
    return -(-images * train.accumulate // train.batch_size)


def contiguous(tensor: Tensor) -> Tensor:
    """A copy with the strides of a contiguous tensor; `Tensor.contiguous` leaves those of one channel as they are."""
    return tensor.clone(memory_format=torch.contiguous_format)


def train_epoch(
    network: Network,
    pruner: Pruner,
    optimizer: Optimizer,
    batches: Batches,
    lr: Schedule,
    iteration: int,
    sizes: Sequence[int] | None = None,
) -> Score:
    """One epoch from iteration `iteration` on; returns the mean loss and the primary metric on the training batches.

    `sizes` are those of the whole batches, where `batches` are one replica's portions of them.

        for inputs, targets in batches:
            with pruner.view():
                loss = criterion(network(inputs), targets) + pruner.regularization()
                loss.backward()                                   part by part, where batches have several
            pruner.adjust_gradients()
            pruner.adjust_decay()
            if not pruner.replace_step():
                optimizer.step()
            pruner.iteration += 1
            pruner.after_step()
            average.update()                                      where there is one

    Sums stay on the device until the epoch ends: nothing in the loop waits for it.
    """
    network.model.train()
    pruner.iteration = iteration
    if pruner.average is not None:
        pruner.average.begin_epoch()
    clip_norm, replicas = network.train.clip_norm, network.replicas
    tally = Tally(replicas)
    for k, (inputs, targets) in enumerate(batches, iteration):
        for group in optimizer.param_groups:
            group["lr"] = lr(k) * group["lr_scale"]
        whole = sizes[k - iteration] if sizes is not None else len(targets)
        with pruner.view():
            for number, (images, wanted) in enumerate(network.parts(inputs, targets)):
                with network.computing():
                    outputs = network.outputs(images)
                    loss = network.loss(outputs, wanted, whole)
                torch.autograd.backward(loss if number else loss + pruner.regularization())
                reported = network.reported(loss, outputs, wanted, whole) * (whole / replicas.count)
                tally.add(reported, network.task.running(outputs.logits.detach(), wanted), len(wanted))
        if replicas.count > 1:  # the optimizer's others are the model's
            replicas.average(pruner.parameters().values())
        pruner.adjust_gradients()
        if clip_norm is not None:
            clip_grad_norm_((p for group in optimizer.param_groups for p in group["params"]), clip_norm)
        pruner.adjust_decay()
        if not pruner.replace_step():
            optimizer.step()
        pruner.iteration += 1
        pruner.after_step()
        if pruner.average is not None:
            pruner.average.update()
        optimizer.zero_grad()
    return tally.score(network.task)


@torch.no_grad()
def evaluate(network: Network, batches: Batches, *, running: bool = False) -> Score:
    """Mean loss and all metrics in evaluation mode; of `running` the primary metric, which costs less."""
    network.model.eval()
    task, tally = network.task, Tally(network.replicas)
    sums = task.running if running else task.sums
    with network.computing():
        for inputs, targets in batches:
            outputs = network(inputs)
            tally.add(task.reduced(outputs, targets, "sum"), sums(outputs, targets), len(targets))
    return tally.score(task)


@torch.no_grad()
def recalibrate(network: Network, batches: Batches) -> None:
    """Re-estimate batch-norm statistics on at most 100 training batches: reset, then a cumulative average.

    torch's `update_bn` would also reset layers that a network keeps in evaluation mode by a `train` of its own, and
    those that its training does not reach, and leave them with a mean of 0 and a variance of 1. Here these keep theirs.
    """
    model, was_training = network.model, network.model.training
    model.train()
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    before = [(norm.momentum, [buffer.clone() for buffer in norm.buffers()]) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    with network.computing():
        for inputs, _ in islice(batches, RECALIBRATION_BATCHES) if norms else ():
            model(network.laid_out(inputs))
    for norm, (momentum, buffers) in zip(norms, before, strict=True):
        norm.momentum = momentum
        if norm.num_batches_tracked == 0:
            for buffer, own in zip(norm.buffers(), buffers, strict=True):
                buffer.copy_(own)
    model.train(was_training)
