"""The optimizers by name, the settings that each takes, and what holds where nothing is said. No torch."""

from __future__ import annotations

from importlib.util import find_spec

from prunesweep.workers.errors import SpecError, unknown

OPTIMIZERS: dict[str, dict[str, float | bool]] = {
    "sgd": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
    "adamw": {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01},
    "adam": {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0},
    "rmsprop": {"lr": 1e-3, "alpha": 0.99, "centered": False, "eps": 1e-8, "momentum": 0.0, "weight_decay": 0.0},
    "lamb": {"lr": 5e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-6, "weight_decay": 0.01},
}
"""With the defaults of torch, and of timm for LAMB; those of SGD are the usual ones for images, as are the learning
rates of RMSprop and LAMB."""

SETTINGS = ("momentum", "nesterov", "weight_decay", "beta1", "beta2", "eps", "alpha", "centered")
"""What optimizers take beside the learning rate; None means that one has none, or, of one's own, its default."""

DECOUPLED = frozenset({"adamw", "lamb"})
"""Their weight decay shrinks weights apart from the gradient, which the others add it to."""


def is_own(name: str) -> bool:
    """Whether it is a class of one's own, `module:name`."""
    return ":" in name


def check(name: str, given: dict[str, float | bool | None], lr: float | None, *, all_decay: bool) -> None:
    """Raise `SpecError` for an optimizer that there is not, or for a setting that would have no effect in it.

    `given` are the `SETTINGS`; `all_decay` says that norms and biases decay, too.
    """
    if not is_own(name):
        if name not in OPTIMIZERS:
            raise SpecError("train.optimizer", unknown("optimizer", name, OPTIMIZERS, more=" or module:name"))
        _check_taken(name, given)
        require_installed(name)
    elif (given["beta1"] is None) != (given["beta2"] is None):
        raise SpecError("train.beta1", f"{name} is given both as betas, or none; give beta1 and beta2")
    elif lr is None:
        raise SpecError("train.lr", "missing: only the optimizers that come with prunesweep have a usual learning rate")
    if not all_decay and given["weight_decay"] == 0:
        raise SpecError("train.decay_norm_and_bias", "with weight_decay 0 nothing decays; give a weight_decay")


def require_installed(name: str) -> None:
    """Raise `SpecError` where an optimizer comes from a package that is not installed here."""
    if name == "lamb" and find_spec("timm") is None:
        raise SpecError(
            "train.optimizer", "lamb is timm's, which is not installed here: pip install 'prunesweep[timm]'"
        )


def _check_taken(name: str, given: dict[str, float | bool | None]) -> None:
    takes = OPTIMIZERS[name]
    for setting, value in given.items():
        if value is not None and setting not in takes:
            *most, last = (other for other, theirs in OPTIMIZERS.items() if setting in theirs)
            others = f"{', '.join(most)} and {last}" if most else last
            raise SpecError(
                f"train.{setting}",
                f"optimizer {name} has no {setting}, which belongs to {others}; its settings are {', '.join(takes)}",
            )
