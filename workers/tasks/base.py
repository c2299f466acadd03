"""What a task is: the loss of a batch, sums that metrics are made of, and the metric by which networks are compared.

One file per task, one line in the registry (`workers/tasks/__init__.py`). Task files are imported to read sweep
files, so they get torch from `workers.lazy`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

if TYPE_CHECKING:
    from typing import Self

    from torch import Tensor

    from prunesweep.workers.train_spec import TrainSpec

    Sums = Mapping[str, Tensor]


class Metric(NamedTuple):
    """A number that a task measures; in tables it is `test_NAME`, `validation_NAME` and, of the primary, `train_NAME`.

    A `unit` of `fraction` is shown in percent. `better` is `higher` or `lower`.
    """

    name: str
    description: str
    better: str
    unit: str = ""


class ClassScore(NamedTuple):
    """What a task measures of one class: on how many images (or pixels) of it, and the value; None without any."""

    number: int
    images: int
    value: float | None


class Task:
    """Base of all tasks. One's own needs `metrics`, `losses`, `sums` and `measured`:

        class AbsoluteError(Task):
            metrics = (Metric("mae", "mean absolute error", "lower"),)

            def losses(self, outputs, targets):
                return (outputs - targets).abs().flatten(1).mean(1)

            def sums(self, outputs, targets):
                return {"errors": (outputs - targets).abs().sum(), "values": torch.tensor(targets.numel())}

            def measured(self, sums, images):
                return {"mae": float(sums["errors"] / sums["values"])}

    `outputs` are the tensor that the network gave, [B, ...], and `targets` the dataset's, of which a batch may be empty
    where several replicas share it. Keyword-only parameters of `__init__` with plain defaults are options.
    """

    metrics: ClassVar[tuple[Metric, ...]] = ()
    """The first is the primary one: it is in tables and plots unless another is asked for, and in every curve."""

    targets: ClassVar[str] = ""
    """What the dataset's targets must be (`Dataset.targets`); empty where the task takes any."""

    class_metric: ClassVar[str] = ""
    """What `by_class` measures."""

    smooths: ClassVar[bool] = False
    """Whether `losses` heeds `label_smoothing`; training with any is refused where they do not."""

    label_smoothing: float = 0.0

    @property
    def primary(self) -> Metric:
        """The metric by which networks are compared."""
        return self.metrics[0]

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each image [B]; that of a batch is their mean, also where replicas have parts of the batch."""
        raise NotImplementedError

    def sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Sums over a batch, by name, each always of one shape: they are added up over batches and replicas.

        Whole numbers are added as such and others in float64.
        """
        raise NotImplementedError

    def running(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Those of `sums` that the primary metric needs, where the others cost time; taken while a stage trains."""
        return self.sums(outputs, targets)

    def measured(self, sums: Sums, images: int) -> dict[str, float | None]:
        """The metrics by name, of `sums` (float64, on the CPU) over so many images; of `running` the primary one.

        None where there is nothing to measure.
        """
        raise NotImplementedError

    def by_class(self, sums: Sums) -> Sequence[ClassScore]:
        """What `sums` say of each class."""
        return ()

    def reduced(self, outputs: Tensor, targets: Tensor, reduction: Literal["mean", "sum"]) -> Tensor:
        """The mean or the sum of `losses`."""
        losses = self.losses(outputs, targets)
        return losses.mean() if reduction == "mean" else losses.sum()

    def problem(self, outputs: Tensor, targets: Tensor, classes: int) -> str | None:
        """What is wrong with a network's outputs for these targets, to come after `model NAME`; None for nothing."""
        return None

    def in_training(self, train: TrainSpec) -> Self:
        """The task with the loss that is trained with; itself where it is that of evaluation."""
        if not train.label_smoothing:
            return self
        task = copy(self)
        task.label_smoothing = train.label_smoothing
        return task


def beyond(targets: Tensor, classes: int) -> str | None:
    """What to say of a class number that has no logit; None where there is none."""
    if not targets.numel() or (int(targets.min()) >= 0 and int(targets.max()) < classes):
        return None
    wrong = int(targets.max()) if int(targets.max()) >= classes else int(targets.min())
    return f"gives {classes} logits, and a target of the dataset is class {wrong}; classes are counted from 0"
