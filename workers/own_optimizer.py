"""An optimizer of one's own, `module:name`: made, and checked before anything is trained with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from prunesweep.workers import optimizer_state, registry
from prunesweep.workers.errors import SpecError
from prunesweep.workers.lazy import torch

if TYPE_CHECKING:
    from torch.optim import Optimizer

Settings = Mapping[str, float | bool | None]

LR = 1e-2


def make(name: str, groups: Iterable[Any], lr: float, settings: Settings) -> Optimizer:
    """Called with the groups of parameters, the learning rate, and the settings that are given, under torch's names."""
    given: dict[str, Any] = {key: value for key, value in settings.items() if value is not None}
    if "beta1" in given:
        given["betas"] = (given.pop("beta1"), given.pop("beta2"))
    optimizer: Optimizer = registry.load(name)(groups, lr=lr, **given)
    return optimizer


def check(name: str, settings: Settings, *, all_decay: bool) -> None:
    """Raise `SpecError` for what is no optimizer, or one that a training could not use or resume."""
    if problem := _problem(name, tuple(settings.items()), all_decay):
        raise SpecError("train.optimizer", f"{name} {problem}")


@cache
def _problem(name: str, settings: tuple[tuple[str, float | bool | None], ...], all_decay: bool) -> str | None:
    """What is wrong with it, as a step of two parameters shows."""
    cls = registry.load(name)
    if not (isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer)):
        return "is no optimizer: a class derived from torch.optim.Optimizer is wanted"
    try:
        unbroken = _Trial(name, dict(settings))
        if not all_decay and "weight_decay" not in unbroken.optimizer.defaults:
            return "has no weight_decay that decay_norm_and_bias could leave out"
        unbroken.steps(2)
        resumed = _Trial(name, dict(settings))
        resumed.continue_from(unbroken)
        unbroken.steps(1)
        resumed.steps(1)
    except Exception as error:  # noqa: BLE001 (anybody's code)
        return f"cannot be used: {type(error).__name__}: {error}"
    pairs = zip(unbroken.parameters.values(), resumed.parameters.values(), strict=True)
    if not all(torch.equal(one, other) for one, other in pairs):
        return (
            "goes on otherwise from a checkpoint: it keeps something in other places than `state` and `param_groups`, "
            "or draws at random"
        )
    if torch.equal(unbroken.parameters["weight"], _Trial(name, dict(settings)).parameters["weight"]):
        return "moves nothing when it steps"
    return None


class _Trial:
    """An optimizer of a matrix and a vector, with gradients that are the same in all trials."""

    def __init__(self, name: str, settings: Settings) -> None:
        start = {"weight": torch.linspace(-1, 1, 6).view(2, 3), "bias": torch.ones(2)}
        self.parameters = {name: torch.nn.Parameter(value) for name, value in start.items()}
        groups = [{"params": [parameter], "lr_scale": 1.0} for parameter in self.parameters.values()]
        self.optimizer = make(name, groups, LR, settings)
        self.taken = 0

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.taken += 1
            for parameter in self.parameters.values():
                parameter.grad = parameter.detach() * self.taken + 0.5
            self.optimizer.step()

    def continue_from(self, other: _Trial) -> None:
        for name, parameter in self.parameters.items():
            parameter.data.copy_(other.parameters[name].data)
        from prunesweep.workers.checkpoint import pack_tensors, unpack_tensors

        kept = unpack_tensors(pack_tensors(optimizer_state.stored(other.parameters, other.optimizer)))
        optimizer_state.restore(self.parameters, self.optimizer, kept)
        self.taken = other.taken
