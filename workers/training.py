"""The one training loop, evaluation, and batch-norm recalibration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Optimizer
from torch.optim.swa_utils import update_bn

from prunesweep.workers import precision
from prunesweep.workers.methods.pruner import Pruner
from prunesweep.workers.replicas import ALONE, Replicas
from prunesweep.workers.schedules import Schedule
from prunesweep.workers.spec import TrainSpec

Batches = Iterable[tuple[Tensor, Tensor]]

RECALIBRATION_BATCHES = 100


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy and the shares of images whose class is the first, or among the first five, predicted."""

    loss: float
    accuracy: float
    top5: float | None = None


class Network:
    """A model as a stage computes with it: in the precision asked for, and compiled where that pays.

    Only full training batches run compiled: each other size and mode would cost another compilation, of up to minutes,
    for few batches. On a GPU the compiled training replays CUDA graphs. Inductor keeps what it compiled on the disk of
    the machine, where all processes find it.

    With replicas, batches are this one's portions; a backward pass leaves the gradients of the whole batch.
    """

    def __init__(self, model: nn.Module, train: TrainSpec, device: torch.device, replicas: Replicas = ALONE) -> None:
        self.model, self.train, self.device, self.replicas = model, train, device, replicas
        mode = "reduce-overhead" if device.type == "cuda" else "default"
        (self._full,) = replicas.portion.sizes(train.batch_size, train.batch_size)
        self._trained = replicas.parallel(model)
        self._compiled = torch.compile(self._trained, mode=mode, dynamic=False) if train.compile else self._trained

    def __call__(self, inputs: Tensor) -> Tensor:
        """Images [B, C, H, W] -> logits [B, classes]."""
        if not self.model.training:
            evaluated: Tensor = self.model(inputs)
            return evaluated
        outputs: Tensor = (self._compiled if len(inputs) == self._full else self._trained)(inputs)
        return outputs

    def loss(self, outputs: Tensor, targets: Tensor, whole: int) -> Tensor:
        """The mean cross-entropy; of a portion what makes that of the `whole` batch the mean over the replicas."""
        smoothing, count = self.train.label_smoothing, self.replicas.count
        if count == 1:
            return functional.cross_entropy(outputs, targets, label_smoothing=smoothing)
        return functional.cross_entropy(outputs, targets, label_smoothing=smoothing, reduction="sum") * (count / whole)

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


def make_optimizer(model: nn.Module, pruner: Pruner, train: TrainSpec) -> Optimizer:
    """SGD over all parameters, the pruner's own included; the learning rate is set at every iteration."""
    return SGD(
        [*model.parameters(), *pruner.parameters().values()],
        lr=train.lr,
        momentum=train.momentum,
        nesterov=train.nesterov and train.momentum > 0,
        weight_decay=train.weight_decay,
        fused=True,
    )


def train_epoch(
    network: Network,
    pruner: Pruner,
    optimizer: Optimizer,
    batches: Batches,
    lr: Schedule,
    iteration: int,
    sizes: Sequence[int] | None = None,
) -> Score:
    """One epoch from iteration `iteration` on; returns the mean loss and accuracy on the training batches.

    `sizes` are those of the whole batches, where `batches` are one replica's portions of them.

        for inputs, targets in batches:
            with pruner.view():
                loss = criterion(network(inputs), targets) + pruner.regularization()
                loss.backward()
            pruner.adjust_gradients()
            optimizer.step()
            pruner.iteration += 1
            pruner.after_step()

    Sums stay on the device until the epoch ends: nothing in the loop waits for it.
    """
    network.model.train()
    pruner.iteration = iteration
    clip_norm, replicas = network.train.clip_norm, network.replicas
    losses, hits, images = [], [], 0
    for k, (inputs, targets) in enumerate(batches, iteration):
        for group in optimizer.param_groups:
            group["lr"] = lr(k)
        with pruner.view():
            whole = sizes[k - iteration] if sizes is not None else len(targets)
            with network.computing():
                outputs = network(inputs)
                loss = network.loss(outputs, targets, whole)
            torch.autograd.backward(loss + pruner.regularization())
        if replicas.count > 1:  # the optimizer's others are the model's
            replicas.average(pruner.parameters().values())
        pruner.adjust_gradients()
        if clip_norm is not None:
            clip_grad_norm_((p for group in optimizer.param_groups for p in group["params"]), clip_norm)
        optimizer.step()
        pruner.iteration += 1
        pruner.after_step()
        optimizer.zero_grad()
        losses.append(loss.detach() * (whole / replicas.count))
        hits.append((outputs.detach().argmax(1) == targets).sum())
        images += len(targets)
    return _score(replicas, images, losses, hits)


@torch.no_grad()
def evaluate(network: Network, batches: Batches) -> Score:
    """Mean loss and top-1 accuracy in evaluation mode; top-5 as well where there are more than ten classes."""
    network.model.eval()
    losses, hits, hits5, images = [], [], [], 0
    with network.computing():
        for inputs, targets in batches:
            outputs = network(inputs)
            losses.append(functional.cross_entropy(outputs, targets, reduction="sum"))
            hits.append((outputs.argmax(1) == targets).sum())
            if outputs.shape[1] > 10:
                hits5.append((outputs.topk(5).indices == targets[:, None]).any(1).sum())
            images += len(targets)
    return _score(network.replicas, images, losses, hits, hits5)


def _score(
    replicas: Replicas, images: int, losses: list[Tensor], hits: list[Tensor], hits5: Sequence[Tensor] = ()
) -> Score:
    """The score over all replicas, from what each batch of this one gave; it is the same on all of them."""
    sums = [float(torch.stack(values).sum()) for values in (losses, hits, list(hits5)) if values]
    count, loss, *accuracies = replicas.summed(images, *sums)
    return Score(loss / count, *(accuracy / count for accuracy in accuracies))


def recalibrate(network: Network, batches: Batches) -> None:
    """Re-estimate batch-norm statistics on at most 100 training batches: reset, then a cumulative average."""
    with network.computing():
        update_bn(islice(batches, RECALIBRATION_BATCHES), network.model)
