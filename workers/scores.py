"""How much each weight matters, told by gradients: what pruning at initialisation ranks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from prunesweep.workers.accounting import CRITERION_BATCHES
from prunesweep.workers.evaluating import same_buffers
from prunesweep.workers.outputs import read

Batch = tuple[Tensor, Tensor]

TOGETHER = 256
"""So many images go through the network at once; of more, gradients are added up."""

TEMPERATURE = 200.0
"""GraSP divides logits by it (Wang et al. 2020, in the authors' code)."""


def of_each_class(model: nn.Module, batches: Iterable[Batch], count: int) -> Batch:
    """The first `count` images of every class, in the order of the batches; fewer of a class that has fewer."""
    images: list[Tensor] = []
    targets: list[Tensor] = []
    lacking: list[int] = []
    for inputs, labels in batches:
        lacking = lacking or [count] * _classes(model, inputs)
        chosen = []
        for place, label in enumerate(labels.tolist()):
            if lacking[label] > 0:
                lacking[label] -= 1
                chosen.append(place)
        images.append(inputs[chosen])
        targets.append(labels[chosen])
        if not any(lacking):
            break
    return torch.cat(images), torch.cat(targets)


def gradients(model: nn.Module, weights: Sequence[nn.Parameter], batch: Batch, temperature: float = 1) -> list[Tensor]:
    """Of the mean cross-entropy at logits / `temperature`, in training mode; nothing of the network changes."""
    with _probing(model, weights):
        return _summed(_gradients(loss, weights) for loss in _losses(model, batch, temperature))


def by_batches(
    criterion: str, model: nn.Module, weights: Sequence[nn.Parameter], batches: Iterable[Batch]
) -> list[Tensor]:
    """In float64, with gradients g of each batch: w^2 mean(g^2) by `fisher`, -w mean(g) by `movement`."""
    power = {"fisher": 2, "movement": 1}[criterion]
    sums, count = [torch.zeros_like(weight, dtype=torch.float64) for weight in weights], 0
    for batch in islice(batches, CRITERION_BATCHES):
        own = gradients(model, weights, batch)
        torch._foreach_add_(sums, [gradient.double() ** power for gradient in own])
        count += 1
    sign = 1 if criterion == "fisher" else -1
    return [
        sign * weight.detach().double() ** power * total / count for weight, total in zip(weights, sums, strict=True)
    ]


def curvature(model: nn.Module, weights: Sequence[nn.Parameter], batch: Batch, temperature: float) -> list[Tensor]:
    """H g, where g are these gradients and H is the Hessian of the same loss: the gradient of g . stop_gradient(g)."""
    fixed = gradients(model, weights, batch, temperature)
    with _probing(model, weights), sdpa_kernel(SDPBackend.MATH):  # attention's other kernels have no second derivative
        return _summed(_product(loss, weights, fixed) for loss in _losses(model, batch, temperature))


def flow(model: nn.Module, weights: Mapping[str, nn.Parameter], masks: Sequence[Tensor], image: Tensor) -> list[Tensor]:
    """|w dR/dw| in float64, R the sum of outputs for an input of ones of this image's shape [1, C, H, W].

    Of the masked network in evaluation mode, with absolute values for all parameters and buffers.
    """
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    state = {name: _positive(tensor) for name, tensor in tensors.items()}
    masked = {n: (state[n] * mask).requires_grad_() for n, mask in zip(weights, masks, strict=True)}
    training = model.training
    model.eval()
    outputs = read(functional_call(model, {**state, **masked}, torch.ones_like(image, dtype=torch.float64)))
    model.train(training)
    own = torch.autograd.grad(outputs.logits.sum(), list(masked.values()), materialize_grads=True)
    return [(weight.detach() * of_weight).abs() for weight, of_weight in zip(masked.values(), own, strict=True)]


def _positive(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor.double().abs() if tensor.is_floating_point() else tensor


def _classes(model: nn.Module, inputs: Tensor) -> int:
    training = model.training
    model.eval()
    with torch.no_grad(), same_buffers(model):
        classes = read(model(inputs[:1])).logits.shape[1]
    model.train(training)
    return classes


@contextmanager
def _probing(model: nn.Module, weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """Training mode, in which the weights have gradients; buffers are afterwards as before."""
    frozen = [weight for weight in weights if not weight.requires_grad]
    with same_buffers(model):
        model.train()
        for weight in frozen:
            weight.requires_grad_(True)
        try:
            yield
        finally:
            for weight in frozen:
                weight.requires_grad_(False)


def _losses(model: nn.Module, batch: Batch, temperature: float) -> Iterator[Tensor]:
    """The parts of the mean cross-entropy that so many images give at once."""
    for inputs, targets in zip(*(torch.split(part, TOGETHER) for part in batch), strict=True):
        logits = read(model(inputs)).logits / temperature
        yield functional.cross_entropy(logits, targets, reduction="sum") / len(batch[1])


def _gradients(loss: Tensor, weights: Sequence[nn.Parameter], *, again: bool = False) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(weights), create_graph=again, materialize_grads=True))


def _product(loss: Tensor, weights: Sequence[nn.Parameter], fixed: Sequence[Tensor]) -> list[Tensor]:
    own = _gradients(loss, weights, again=True)
    dot = torch.stack([(gradient * other).sum() for gradient, other in zip(own, fixed, strict=True)]).sum()
    return _gradients(dot, weights)


def _summed(parts: Iterable[list[Tensor]]) -> list[Tensor]:
    sums: list[Tensor] = []
    for part in parts:
        sums = part if not sums else [total + own for total, own in zip(sums, part, strict=True)]
    return sums
