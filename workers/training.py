"""The one training loop, evaluation, and batch-norm recalibration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from platform import node

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.swa_utils import update_bn
from torch.utils._triton import has_triton

from prunesweep.workers import precision
from prunesweep.workers.errors import UserError
from prunesweep.workers.methods.pruner import Pruner
from prunesweep.workers.outputs import Outputs, read
from prunesweep.workers.replicas import ALONE, Replicas
from prunesweep.workers.schedules import Schedule
from prunesweep.workers.spec import TrainSpec

Batches = Iterable[tuple[Tensor, Tensor]]

RECALIBRATION_BATCHES = 100


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy and the shares of images whose class is the first, or among the first five, predicted.

    Images that were mixed have no one class, and so there is no accuracy on them.
    """

    loss: float
    accuracy: float | None = None
    top5: float | None = None


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
        channels_last: bool = True,
        compiled: bool | None = None,
    ) -> None:
        """`compiled` is what `train.compile` says unless given."""
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
        """Images [B, C, H, W] -> logits [B, classes], and auxiliary ones where the model has them."""
        whole = self.model.training and len(inputs) == self._full
        model = self._compiled if whole else self._trained if self.model.training else self.model
        return read(model(self.laid_out(inputs)))

    def __call__(self, inputs: Tensor) -> Tensor:
        """Images [B, C, H, W] -> logits [B, classes]."""
        return self.outputs(inputs).logits

    def loss(self, outputs: Outputs, targets: Tensor, whole: int) -> Tensor:
        """The mean cross-entropy; of a portion what makes that of the `whole` batch the mean over the replicas.

        Of a part what it adds to that.
        """
        smoothing = self.train.label_smoothing
        loss = self._cross_entropy(outputs.logits, targets, whole, smoothing)
        for logits in outputs.auxiliary:
            loss = loss + outputs.weight * self._cross_entropy(logits, targets, whole, smoothing)
        return loss

    def reported(self, loss: Tensor, outputs: Outputs, targets: Tensor, whole: int) -> Tensor:
        """The loss to report: of the logits alone, and without label smoothing, as in evaluation."""
        if not (self.train.label_smoothing or outputs.auxiliary):
            return loss.detach()
        return self._cross_entropy(outputs.logits.detach(), targets, whole, 0.0)

    def _cross_entropy(self, logits: Tensor, targets: Tensor, whole: int, smoothing: float) -> Tensor:
        count = self.replicas.count
        if count == 1 and len(targets) == whole:
            return functional.cross_entropy(logits, targets, label_smoothing=smoothing)
        return functional.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="sum") * (count / whole)

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
    """One epoch from iteration `iteration` on; returns the mean loss and accuracy on the training batches.

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
    losses, hits, count = [], [], 0
    for k, (inputs, targets) in enumerate(batches, iteration):
        for group in optimizer.param_groups:
            group["lr"] = lr(k) * group["lr_scale"]
        whole = sizes[k - iteration] if sizes is not None else len(targets)
        with pruner.view():
            for number, (images, classes) in enumerate(network.parts(inputs, targets)):
                with network.computing():
                    outputs = network.outputs(images)
                    loss = network.loss(outputs, classes, whole)
                torch.autograd.backward(loss if number else loss + pruner.regularization())
                losses.append(network.reported(loss, outputs, classes, whole) * (whole / replicas.count))
                if not classes.is_floating_point():  # those of mixed images are shares of classes
                    hits.append((outputs.logits.detach().argmax(1) == classes).sum())
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
        count += len(targets)
    return _score(replicas, count, losses, hits)


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
    """The score over all replicas, from what each batch of this one gave; it is the same on all of them.

    The device is waited for once: all sums are read together.
    """
    sums: list[float] = []
    if losses:
        totals = [torch.stack(values).sum().double() for values in (losses, hits, list(hits5)) if values]
        sums = torch.stack(totals).tolist()
    count, loss, *accuracies = replicas.summed(images, *sums)
    return Score(loss / count, *(accuracy / count for accuracy in accuracies))


def recalibrate(network: Network, batches: Batches) -> None:
    """Re-estimate batch-norm statistics on at most 100 training batches: reset, then a cumulative average."""
    with network.computing():
        images = (network.laid_out(inputs) for inputs, _ in islice(batches, RECALIBRATION_BATCHES))
        update_bn(images, network.model)
