"""The optimizer that a spec asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from prunesweep.workers import own_optimizer
from prunesweep.workers.methods.pruner import Pruner
from prunesweep.workers.optimizer_settings import require_installed
from prunesweep.workers.optimizer_state import MOMENTUM_BUFFER
from prunesweep.workers.parameter_patterns import factors
from prunesweep.workers.spec import TrainSpec


def make_optimizer(model: nn.Module, pruner: Pruner, train: TrainSpec) -> Optimizer:
    """The optimizer over all parameters, the pruner's own included; the learning rate is set at every iteration.

    SGD's momentum begins as zeros, which gives the same first step as none: fused SGD refuses parameters of which some
    have had a gradient before and others have not. After a step of an optimizer of one's own masks are applied again.
    """
    groups = list(_groups(model, pruner, train))
    match train.optimizer:
        case "sgd":
            return _sgd(groups, train)
        case "adamw" | "adam":
            cls = AdamW if train.optimizer == "adamw" else Adam
            beta1, beta2, eps, decay = _numbers(train, "beta1", "beta2", "eps", "weight_decay")
            return cls(groups, train.lr, (beta1, beta2), eps, decay, fused=True)
        case "rmsprop":
            alpha, eps, decay, momentum = _numbers(train, "alpha", "eps", "weight_decay", "momentum")
            return RMSprop(groups, train.lr, alpha, eps, decay, momentum, bool(train.centered))
        case "lamb":
            return _lamb(groups, train)
    optimizer = own_optimizer.make(train.optimizer, groups, train.lr, train.optimizer_settings)
    optimizer.register_step_post_hook(lambda *_: pruner.mask_again())
    return optimizer


def _sgd(groups: list[dict[str, Any]], train: TrainSpec) -> Optimizer:
    momentum, decay = _numbers(train, "momentum", "weight_decay")
    nesterov = bool(train.nesterov) and momentum > 0
    optimizer = SGD(groups, train.lr, momentum=momentum, nesterov=nesterov, weight_decay=decay, fused=True)
    if momentum > 0:
        for group in groups:
            for parameter in (p for p in group["params"] if p.requires_grad):
                optimizer.state[parameter][MOMENTUM_BUFFER] = torch.zeros_like(parameter)
    return optimizer


def _lamb(groups: list[dict[str, Any]], train: TrainSpec) -> Optimizer:
    """timm's, which bounds the norm of all gradients by 1, and moves what does not decay without its trust ratio."""
    require_installed(train.optimizer)
    from timm.optim.lamb import Lamb

    beta1, beta2, eps, decay = _numbers(train, "beta1", "beta2", "eps", "weight_decay")
    optimizer: Optimizer = Lamb(groups, train.lr, betas=(beta1, beta2), eps=eps, weight_decay=decay)
    return optimizer


def _numbers(train: TrainSpec, *names: str) -> list[float]:
    """The settings, which a spec has completed."""
    return [float(value) for name in names if (value := getattr(train, name)) is not None]


def _groups(model: nn.Module, pruner: Pruner, train: TrainSpec) -> Iterator[dict[str, Any]]:
    """Parameters by the factor of their learning rate, and whether they decay; one group where nothing differs.

    What a method learns decays as weights do, since that is how some of them find their sparsity.
    """
    named = dict(model.named_parameters())
    scales = factors(named, dict(train.lr_scale or ()))
    kinds: dict[tuple[float, bool], list[nn.Parameter]] = {(1.0, True): []}
    for name, parameter in named.items():
        decays = train.decay_norm_and_bias or not is_norm_or_bias(name, parameter)
        kinds.setdefault((scales[name], decays), []).append(parameter)
    kinds[1.0, True] += pruner.parameters().values()
    for (scale, decays), parameters in kinds.items():
        if parameters:
            own = {} if decays else {"weight_decay": 0.0}
            yield {"params": list(dict.fromkeys(parameters)), "lr_scale": scale, **own}


def is_norm_or_bias(name: str, parameter: Tensor) -> bool:
    """Of at most one dimension, as scales and shifts of normalisation are, or called a bias."""
    return parameter.dim() <= 1 or name.rpartition(".")[2] == "bias"
