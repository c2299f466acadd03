"""Optimizers and schedules of one's own, right and wrong, for sweep files that name them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


class Restless(torch.optim.Optimizer):
    """Momentum, counted in state and group, and a step that moves weights without gradients too."""

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.5, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "steps": 0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["steps"] += 1
            for p in (p for p in group["params"] if p.grad is not None):
                state = self.state[p]
                state["taken"] = state.get("taken", 0) + 1
                state["speed"] = group["momentum"] * state.get("speed", torch.zeros_like(p)) + p.grad
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(state["speed"] + 1e-3, alpha=group["lr"] / (1 + 0.1 * state["taken"] + 0.1 * group["steps"]))


class Hidden(Restless):
    """Keeps what it needs where no checkpoint looks."""

    taken = 0

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        self.taken += 1
        for group in self.param_groups:
            group["lr"] /= self.taken
        super().step()
        for group in self.param_groups:
            group["lr"] *= self.taken


class Closure(Restless):
    """Wants to evaluate the loss itself, as LBFGS does."""

    def step(self, closure: Any) -> None:  # type: ignore[override]
        closure()


class Idle(Restless):
    """Does nothing."""

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        pass


def no_optimizer() -> None: ...


def halving(k: int, n: int) -> float:
    """Half in the second half."""
    return 1.0 if k < n / 2 else 0.5


def negative(k: int, n: int) -> float:
    return 0.5 - k / n


def of_one(k: int) -> float:
    return 1.0


number = 3
