"""How a network is trained, as a frozen value. Light to import: no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from prunesweep.workers.encoding import added
from prunesweep.workers.optimizer_settings import OPTIMIZERS, SETTINGS, is_own


@dataclass(frozen=True, slots=True)
class TrainSpec:
    """How a network is trained; retraining inherits batch size, optimizer and precision from it.

    Lengths are in epochs, `lr` is the peak learning rate. `step_epochs`, `milestones` (epochs), `gamma` (factor),
    `end_lr`, `power` and `rise` (fraction) belong to the schedules that use them (see `workers.schedules`). A batch
    goes through the network in `accumulate` parts, and `clip_norm` bounds the norm of all gradients together.
    `precision` is one of `workers.precision.PRECISIONS`. `compile` and `evaluation_batch_size` are here because they
    move the last bits. `augment` is the dataset's own augmentation; those from `mixup` on (`workers.augmentations`)
    come beside it.

    `optimizer` is one of `workers.optimizer_settings.OPTIMIZERS` or `module:name`. What is not given of its
    settings and of the learning rate gets its defaults; None are settings that it does not take. `lr_scale` are factors
    of the learning rate by patterns of parameters, and `freeze` patterns of those that do not train
    (`workers.parameter_patterns`). `ema` is the decay of the average that becomes the finished network
    (`workers.average`) unless `publish_ema` says otherwise, and that is validated after each epoch unless
    `validate_ema` does. The versions of an optimizer and a schedule of one's own are `..._code`
    (`workers.fingerprints`).

    `loss` is one of `workers.tasks.classification.LOSSES`, and None the task's own, by which networks are evaluated
    whatever they are trained with.
    """

    epochs: int = 20
    batch_size: int = 64
    lr: float = cast(float, None)
    schedule: str = "linear"
    warmup_epochs: int = 0
    step_epochs: int | None = None
    milestones: tuple[int, ...] | None = None
    gamma: float | None = None
    end_lr: float = 0.0
    momentum: float | None = None
    nesterov: bool | None = None
    weight_decay: float | None = None
    augment: bool = True
    recalibrate: bool = True
    precision: str = "float32"
    compile: bool = False
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    evaluation_batch_size: int = 256
    mixup: float | None = added(None)
    cutmix: float | None = added(None)
    randaugment: int | None = added(None)
    randaugment_operations: int = added(2)
    trivialaugment: bool = added(False)
    random_erasing: float = added(0.0)
    gaussian_noise: float = added(0.0)
    repeated_augmentation: int = added(1)
    optimizer: str = added("sgd")
    beta1: float | None = added(None)
    beta2: float | None = added(None)
    eps: float | None = added(None)
    alpha: float | None = added(None)
    centered: bool | None = added(None)
    decay_norm_and_bias: bool = added(True)
    lr_scale: tuple[tuple[str, float], ...] | None = added(None, pairs=True)
    freeze: tuple[str, ...] | None = added(None)
    power: float | None = added(None)
    rise: float | None = added(None)
    accumulate: int = added(1)
    ema: float | None = added(None)
    validate_ema: bool = added(True)
    publish_ema: bool = added(True)
    optimizer_code: str | None = added(None)
    schedule_code: str | None = added(None)
    loss: str | None = added(None)
    target_threshold: float | None = added(None)

    def __post_init__(self) -> None:
        for name, default in OPTIMIZERS.get(self.optimizer, {}).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)

    @property
    def own(self) -> dict[str, str]:
        """The optimizer and the schedule by name, where they are of one's own."""
        names = {"optimizer": self.optimizer, "schedule": self.schedule}
        return {kind: name for kind, name in names.items() if is_own(name)}

    @property
    def optimizer_settings(self) -> dict[str, float | bool | None]:
        """What the optimizer is told beside the learning rate; None for what it does not take, or has its own of."""
        return {name: getattr(self, name) for name in SETTINGS}


CODE = {"optimizer": "optimizer_code", "schedule": "schedule_code"}
"""The fields that hold the versions of one's own code, which are made and not given."""


@dataclass(frozen=True, slots=True)
class RetrainSpec:
    """One retraining phase: its length in epochs and its learning-rate schedule.

    `lr` (the initial value) and `warmup` (a fraction of the phase) are set for the tunable schedules only.
    """

    epochs: int
    schedule: str = "ALLR"
    lr: float | None = None
    warmup: float | None = None
