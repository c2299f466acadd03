"""The one training loop, evaluation, and batch-norm recalibration."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Optimizer
from torch.optim.swa_utils import update_bn

from workers import precision
from workers.methods.base import Method
from workers.schedules import Schedule
from workers.spec import TrainSpec

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
    """

    def __init__(self, model: nn.Module, train: TrainSpec, device: torch.device) -> None:
        self.model, self.train, self.device = model, train, device
        mode = "reduce-overhead" if device.type == "cuda" else "default"
        self._compiled = torch.compile(model, mode=mode, dynamic=False) if train.compile else model

    def __call__(self, inputs: Tensor) -> Tensor:
        """Images [B, C, H, W] -> logits [B, classes]."""
        full = self.model.training and len(inputs) == self.train.batch_size
        outputs: Tensor = self._compiled(inputs) if full else self.model(inputs)
        return outputs

    def autocast(self) -> AbstractContextManager[object]:
        """Around a forward pass and its loss."""
        return precision.autocast(self.train.precision, self.device)


def make_optimizer(model: nn.Module, method: Method, train: TrainSpec) -> Optimizer:
    """SGD over all parameters, the method's own included; the learning rate is set at every iteration."""
    return SGD(
        [*model.parameters(), *method.parameters().values()],
        lr=train.lr,
        momentum=train.momentum,
        nesterov=train.nesterov and train.momentum > 0,
        weight_decay=train.weight_decay,
        fused=True,
    )


def train_epoch(
    network: Network, method: Method, optimizer: Optimizer, batches: Batches, lr: Schedule, iteration: int
) -> Score:
    """One epoch from iteration `iteration` on; returns the mean loss and accuracy on the training batches.

        for inputs, targets in batches:
            with method.view():
                loss = criterion(network(inputs), targets) + method.regularization()
                loss.backward()
            method.adjust_gradients()
            optimizer.step()
            method.iteration += 1
            method.after_step()

    Sums stay on the device until the epoch ends: nothing in the loop waits for it.
    """
    network.model.train()
    method.iteration = iteration
    smoothing, clip_norm = network.train.label_smoothing, network.train.clip_norm
    losses, hits, images = [], [], 0
    for k, (inputs, targets) in enumerate(batches, iteration):
        for group in optimizer.param_groups:
            group["lr"] = lr(k)
        with method.view():
            with network.autocast():
                outputs = network(inputs)
                loss = functional.cross_entropy(outputs, targets, label_smoothing=smoothing)
            torch.autograd.backward(loss + method.regularization())
        method.adjust_gradients()
        if clip_norm is not None:
            clip_grad_norm_((p for group in optimizer.param_groups for p in group["params"]), clip_norm)
        optimizer.step()
        method.iteration += 1
        method.after_step()
        optimizer.zero_grad()
        losses.append(loss.detach() * len(targets))
        hits.append((outputs.detach().argmax(1) == targets).sum())
        images += len(targets)
    return Score(float(torch.stack(losses).sum()) / images, int(torch.stack(hits).sum()) / images)


@torch.no_grad()
def evaluate(network: Network, method: Method, batches: Batches) -> Score:
    """Mean loss and top-1 accuracy in evaluation mode; top-5 as well where there are more than ten classes."""
    network.model.eval()
    losses, hits, hits5, images = [], [], [], 0
    with method.view(), network.autocast():
        for inputs, targets in batches:
            outputs = network(inputs)
            losses.append(functional.cross_entropy(outputs, targets, reduction="sum"))
            hits.append((outputs.argmax(1) == targets).sum())
            if outputs.shape[1] > 10:
                hits5.append((outputs.topk(5).indices == targets[:, None]).any(1).sum())
            images += len(targets)
    top5 = int(torch.stack(hits5).sum()) / images if hits5 else None
    return Score(float(torch.stack(losses).sum()) / images, int(torch.stack(hits).sum()) / images, top5)


def recalibrate(network: Network, method: Method, batches: Batches) -> None:
    """Re-estimate batch-norm statistics on at most 100 training batches: reset, then a cumulative average."""
    with method.view(), network.autocast():
        update_bn(islice(batches, RECALIBRATION_BATCHES), network.model)
