"""The passes that a stage makes over its images, as batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, get_args

from torch import Tensor

from prunesweep.workers import precision
from prunesweep.workers.data.augmented import augmented
from prunesweep.workers.data.base import Dataset, SplitName
from prunesweep.workers.data.portions import batch_sizes
from prunesweep.workers.lineage import data_epoch
from prunesweep.workers.recording import first_images
from prunesweep.workers.rehearsal import Rehearsal
from prunesweep.workers.replicas import Replicas
from prunesweep.workers.seeding import derive
from prunesweep.workers.spec import Whole
from prunesweep.workers.training import Batches


class Passes:
    """Each is a function of the trial's seed, the epoch and what it is for.

    Epochs are counted from the begin of the stage. `drawn` hears of every batch; a rehearsal has the first ones alone.
    """

    def __init__(
        self,
        stage: Whole,
        dataset: Dataset,
        replicas: Replicas,
        drawn: Callable[[], None],
        rehearsal: Rehearsal | None,
    ) -> None:
        self.stage, self.train, self.seed = stage, stage.root.train, stage.root.seed
        self.replicas, self.drawn, self.rehearsal = replicas, drawn, rehearsal
        self.whole, self.dataset = dataset, augmented(dataset, self.train).portioned(replicas.portion)
        self.dtype = precision.storage(self.train.precision)
        self.iterations = self.dataset.iterations(self.train.batch_size)

    def samples(self) -> Iterator[Tensor]:
        """The first training images as they are, [B, C, H, W] each; no replica has a portion of them alone."""
        return first_images(self.whole, self.train.batch_size, self.dtype)

    def training(self, epoch: int) -> Batches:
        """This replica's portions of one epoch's training batches."""
        batches = self._training(self.dataset, self.seed, data_epoch(self.stage) + epoch)
        return self._few("training", batches)

    def training_sizes(self) -> list[int] | None:
        """Of the whole training batches; None where there is one replica, which has them whole."""
        if self.replicas.count == 1:
            return None
        return batch_sizes(self.count("train"), self.train.batch_size)

    def aside(self, purpose: str, epoch: int, *, whole: bool = False) -> Batches:
        """Training batches in a stream of their own, so that the order of the training data does not change.

        They are this replica's portions unless asked for whole.
        """
        dataset = self.whole if whole else self.dataset
        batches = self._training(dataset, derive(self.seed, purpose), self.stage.start_epoch + epoch)
        return self._few(purpose, batches)

    def evaluation(self, split: SplitName, dataset: Dataset | None = None) -> Batches:
        """A split in its own order, of another dataset where one is given."""
        batches = (dataset or self.dataset).evaluation_batches(
            split, batch_size=self.train.evaluation_batch_size, dtype=self.dtype
        )
        return self._few("evaluation", self._told(batches))

    def count(self, split: SplitName) -> int:
        """How many images a split has."""
        return self.dataset.count(split)

    def rehearsed(self) -> dict[str, Any]:
        """What a result says of a rehearsal: how long whole passes would take; nothing where this is none."""
        if self.rehearsal is None:
            return {}
        size = self.train.evaluation_batch_size
        batches = {split: -(-self.count(split) // size) for split in get_args(SplitName)}
        rates = self.rehearsal.rates(self.iterations, batches["validation"], sum(batches.values()))
        return {"rehearsal": rates}

    def _training(self, dataset: Dataset, seed: int, epoch: int) -> Batches:
        batches = partial(dataset.train_batches, batch_size=self.train.batch_size, augment=self.train.augment)
        return self._told(batches(seed=seed, epoch=epoch, dtype=self.dtype))

    def _told(self, batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches:
            self.drawn()
            yield batch

    def _few(self, what: str, batches: Batches) -> Batches:
        return batches if self.rehearsal is None else self.rehearsal.few(what, iter(batches))
