"""A stage while it runs: prune, train, measure, checkpoint, publish."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from itertools import chain, islice
from typing import Any, get_args

import torch

from prunesweep.workers import (
    checkpoint,
    data,
    measure,
    methods,
    models,
    optimizer_state,
    outcome,
    parameter_patterns,
    precision,
    probe,
    schedules,
    selection,
    tasks,
    training,
)
from prunesweep.workers.average import average_of
from prunesweep.workers.checkpoint import Progress
from prunesweep.workers.curve import curve_file, curve_row, require_finite
from prunesweep.workers.data.augmented import augmented
from prunesweep.workers.data.base import Dataset, SplitName
from prunesweep.workers.data.portions import batch_sizes
from prunesweep.workers.errors import UserError
from prunesweep.workers.fingerprints import require_same
from prunesweep.workers.full_network import full_size
from prunesweep.workers.host import Where, cap_memory, describe_device, keep_freed_memory
from prunesweep.workers.init.kept import stored_weights
from prunesweep.workers.init.start import start_from
from prunesweep.workers.lineage import data_epoch
from prunesweep.workers.methods.base import Method
from prunesweep.workers.methods.pruner import Pruner, Setup
from prunesweep.workers.optimizers import make_optimizer
from prunesweep.workers.parts import longest_state, part_metrics, whole_of
from prunesweep.workers.prunable import prunable, require_effective
from prunesweep.workers.pruning import Pruning
from prunesweep.workers.recorded import Recording
from prunesweep.workers.recording import first_images, record
from prunesweep.workers.rehearsal import Rehearsal, require_own_store
from prunesweep.workers.replicas import ALONE, Replicas
from prunesweep.workers.scope import in_scope
from prunesweep.workers.scoring import Score
from prunesweep.workers.seeding import derive, preserved, seed_all
from prunesweep.workers.spec import PartStage, PruneStage, Stage, TrainStage, label
from prunesweep.workers.store import CHECKPOINTS, CURVE, MOMENTUM, NETWORK, STATE, Store, attempts_in, now
from prunesweep.workers.training import Batches, Network, contiguous

log = logging.getLogger("prunesweep")

Measured = tuple[dict[str, bytes], dict[str, Any]]
"""The files of a result, and what it says of them."""


class Execution:
    """One stage in progress: the data, the model, the pruner, the optimizer, and how far they are."""

    def __init__(
        self,
        stage: Stage,
        store: Store,
        where: Where,
        require_claim: Callable[[], None],
        reached: Callable[[Progress], None],
        drawn: Callable[[], None],
        replicas: Replicas = ALONE,
        contents: frozenset[str] = frozenset(),
    ) -> None:
        """`require_claim` raises when the stage is not this process's any more.

        `reached` hears of every epoch, and `drawn` of every batch. `contents` are those of the stage's folder before
        this attempt.
        """
        self.contents = contents
        self.asked, self.stage = stage, whole_of(stage)
        self.store, self.where, self.replicas = store, where, replicas
        self.require_claim, self.reached, self.drawn = require_claim, reached, drawn
        self.train = stage.root.train
        self.device = where.torch_device
        keep_freed_memory()
        cap_memory(self.device, where.gpu_share)
        torch.set_num_threads(where.threads)
        precision.set_backends(self.train.precision)
        self.peak_memory = measure.PeakMemory(self.device)
        self.rehearsal = Rehearsal(self._clock) if where.rehearsal else None
        self.dtype = precision.storage(self.train.precision)
        with preserved():
            self._set_up()
        if self.rehearsal:
            require_own_store(store.location)
            self.rehearsal.set_up()

    def _set_up(self) -> None:
        training.require_possible(self.train, self.replicas)
        require_same(self.stage, self.store)
        self.task = tasks.create(self.stage.root.task)
        self.metric = self.task.primary
        seed_all("dataset")
        dataset: Dataset = data.load(self.stage.root.dataset, self.where.data_folder).to(
            self.device, self.where.loaders
        )
        self.whole, self.dataset = dataset, augmented(dataset, self.train).portioned(self.replicas.portion)
        self.iterations = self.dataset.iterations(self.train.batch_size)
        self.network = self._new_network(dataset)
        self.model = self.network.model
        self.samples = partial(first_images, dataset, self.train.batch_size, self.dtype)
        self.images = next(self.samples())
        self.recorded = self._record()
        self.prunable = prunable(self.model, self.recorded)
        self.weights = in_scope(self.stage.prune, self.model, self.prunable, self.recorded)
        self.full = full_size(self.stage.root, dataset, self.images)
        self.sparse = measure.Sparse(self.weights, self.recorded, self.full)
        if self.recorded.depends_on_data:
            said = "the images decide what is computed: multiply-adds are the mean over %d of them"
            log.info(said, self.recorded.images)
        self.pruner = self._new_pruner(
            methods.create(self.stage.method) if isinstance(self.stage, TrainStage) else Method()
        )
        self.optimizer = self.pruner.optimizer = make_optimizer(self.model, self.pruner, self.train)
        self.pruner.average = average_of(self.model, self.pruner.parameters(), self.train.ema)
        self.started = self.last_checkpoint = time.perf_counter()
        self.checkpoint_cost, self.checkpointed = 0.0, False
        self.written: Future[None] = Future()
        self.written.set_result(None)
        self.progress = Progress()
        if not self._continue():
            self._begin()
        self.seconds_before = self.progress.elapsed_seconds
        self.reached(self.progress)

    def epochs(self) -> Iterator[Progress]:
        """Train epoch by epoch, then publish; yields after every epoch but the last, and after publishing."""
        lr = self._schedule()
        with ThreadPoolExecutor(1, "checkpoint") as self.writer:
            while self.progress.epoch < self.asked.epochs:
                with preserved():
                    self._epoch(lr)
                self.reached(self.progress)
                self.replicas.require_equal(checkpoint.storable(self.model.state_dict()).values())
                self.require_claim()
                if self.progress.epoch < self.asked.epochs:
                    self._checkpoint()
                    yield self.progress
                    if self.rehearsal:
                        self._skip_to_last_epoch()
        with preserved():
            self._publish()
        yield self.progress

    # --- beginning, or continuing

    def _new_network(self, dataset: Dataset) -> Network:
        root = self.stage.root
        seed_all(root.seed, "weights")
        tasks.require_fitting(root.task.name, self.task, root.dataset.name, dataset.targets)
        model = models.build(root.model, dataset.shape, dataset.classes)
        if root.init is not None and isinstance(self.stage, TrainStage):
            weights = self.replicas.agreed(partial(stored_weights, root.init, self.store))
            start_from(weights, root.init, model, root.model, dataset)
        parameter_patterns.freeze(model, self.train.freeze or ())
        channels_last = probe.place(model, root.model.name, dataset, self.device, self.dtype)
        network = Network(model, self.train, self.device, self.replicas, task=self.task, channels_last=channels_last)
        if isinstance(self.stage, TrainStage):
            refusal = self.replicas.agreed(
                lambda: probe.refusal(network, root.model.name, dataset, self.replicas.count)
            )
            if refusal is not None:
                raise UserError(refusal)
        return network

    def _record(self) -> Recording:
        batches = chain([self.images], islice(self.samples(), 1, None))
        layout = batches if self.network.channels_last else map(contiguous, batches)
        with precision.autocast(self.train.precision, self.device):
            return record(self.model, next(layout), layout)

    def _new_pruner(self, method: Method) -> Pruner:
        seed, length = derive(self.stage.root.seed, "method"), (self.stage.epochs, self.iterations)
        return method.pruner(Setup(self.model, self.weights, self.stage.sparsity, *length, seed, self.task))

    def _continue(self) -> bool:
        """From the newest checkpoint that is whole, else from the longest part; false when there is none."""
        key = self.asked.key
        checkpoints = self.replicas.agreed(
            lambda: [(name, self.store.read("stages", key, name)) for name in CHECKPOINTS if name in self.contents]
        )
        for name, saved in checkpoints:
            if saved is not None and self._unpacked(name, saved):
                log.info("continued from the checkpoint of epoch %d", self.progress.epoch)
                return True
        if any(saved is not None for _, saved in checkpoints):
            log.warning("no checkpoint is left: starting again from the beginning")
        return bool(self.where.parts) and self._continue_from_part()

    def _continue_from_part(self) -> bool:
        state = self.replicas.agreed(lambda: longest_state(self.asked, self.store, self.where.parts))
        if state is None:
            return False
        self.progress = checkpoint.unpack(state, self.stage.key, self.model, self.pruner, self.optimizer)
        log.info("continued from the part until epoch %d", self.progress.epoch)
        return True

    def _unpacked(self, name: str, saved: bytes) -> bool:
        try:
            self.progress = checkpoint.unpack(saved, self.stage.key, self.model, self.pruner, self.optimizer)
        except checkpoint.Refused as error:
            if self.replicas.leads:
                aside = self.store.set_file_aside("stages", self.asked.key, name)
                log.warning("%s is not used: %s; it is set aside as %s", name, error, aside)
            return False
        return True

    def _begin(self) -> None:
        if isinstance(self.stage, TrainStage) and self.stage.loads:
            self.progress.curve.append(self._curve_row(0, self._evaluate("validation")))
        if type(self.pruner).prepare is not Pruner.prepare:
            self._prepare()
        if isinstance(self.stage, PruneStage):
            self._prune(self.stage)
        if self.pruner.average:
            self.pruner.average.restart()

    def _prepare(self) -> None:
        """On the leading replica, whose checkpoint the others then continue from: devices need not round alike."""

        def checkpointed() -> bytes:
            self.pruner.prepare(self._asked("preparation"))
            return checkpoint.pack(self.stage.key, self.progress, self.model, self.pruner, self.optimizer)

        prepared = self.replicas.agreed(checkpointed)
        if not self.replicas.leads:
            checkpoint.unpack(prepared, self.stage.key, self.model, self.pruner, self.optimizer)

    def _asked(self, what: str) -> Batches:
        """Whole training batches for what is chosen by them; whatever draws is seeded."""
        seed_all(self.stage.root.seed, what)
        batches = self._few(what, self._own_batches(what, self.whole))
        return ((self.network.laid_out(inputs), targets) for inputs, targets in batches)

    def _prune(self, stage: PruneStage) -> None:
        """Prune the parent's network, and measure what is left before it is trained, or rewound first."""
        pruning = Pruning(stage, self.store, self.replicas, self.model, self.pruner, self.optimizer)
        parent = pruning.load_parent()
        masks = pruning.masks(partial(self._asked, "criterion"))
        norm_drop = selection.norm_drop(self.pruner.weights, masks.views)
        self.pruner.hold(masks)
        if norm_drop > 0.0:  # a network that was sparse enough stays as it is
            self._recalibrate()
        after = self._evaluate("test").metrics[self.metric.name]
        before = parent["metrics"][f"test_{self.metric.name}"]
        self.progress.pruned = {"relative_norm_drop": norm_drop, **outcome.pruned(self.metric, before, after)}
        self.progress.curve.append(self._curve_row(0, self._evaluate("validation")))
        pruning.rewind(masks)

    def _schedule(self) -> schedules.Schedule:
        if not isinstance(self.stage, PruneStage) or self.stage.retrain is None:
            return schedules.dense(self.train, self.iterations)
        before = self.stage.parent.sparsity
        fraction = (self.stage.sparsity - before) / (1.0 - before)
        pruned = schedules.Pruned(self.progress.pruned["relative_norm_drop"], fraction)
        return schedules.retraining(self.stage.retrain, self.train, self.iterations, pruned)

    # --- one epoch

    def _epoch(self, lr: schedules.Schedule) -> None:
        progress, first = self.progress, self.progress.epoch * self.iterations
        score = self._train_epoch(lr, first)
        progress.epoch += 1
        require_finite("training", score, progress.epoch)
        progress.images += self.dataset.count("train")
        self._sparsify()
        with self._validated():
            validation = self._evaluate("validation")
        require_finite("validation", validation, progress.epoch)
        progress.curve.append(self._curve_row(progress.epoch, validation, score, lr(first + self.iterations - 1)))
        progress.elapsed_seconds = self.seconds_before + time.perf_counter() - self.started
        log.info(
            "epoch %d of %d: training loss %.4f, validation %s %s",
            *(progress.epoch, self.stage.epochs, score.loss),
            *(self.metric.name, outcome.shown(validation.metrics[self.metric.name])),
        )

    def _skip_to_last_epoch(self) -> None:
        """Of a rehearsal: the method prunes as it would, and nothing is trained."""
        while self.progress.epoch < self.stage.epochs - 1:
            self.progress.epoch += 1
            self.pruner.after_epoch(self.progress.epoch)

    def _few(self, what: str, batches: Batches) -> Batches:
        return batches if self.rehearsal is None else self.rehearsal.few(what, iter(batches))

    def _train_epoch(self, lr: schedules.Schedule, first: int) -> Score:
        """Seeded by the epoch for whatever draws, such as dropout; the clock stops when the device has finished."""
        seed, epoch = self.stage.root.seed, data_epoch(self.stage) + self.progress.epoch
        seed_all(seed, "epoch", epoch, *((self.replicas.rank,) if self.replicas.rank else ()))
        start = self._clock()
        batches = self._few("training", self._train_batches(seed, epoch))
        sizes = None if self.replicas.count == 1 else batch_sizes(self.dataset.count("train"), self.train.batch_size)
        score = training.train_epoch(self.network, self.pruner, self.optimizer, batches, lr, first, sizes)
        self.progress.train_seconds += self._clock() - start
        return score

    def _sparsify(self) -> None:
        """Let the method prune; statistics are re-estimated before anything is evaluated."""
        pruned = self.pruner.after_epoch(self.progress.epoch)
        if self.progress.epoch == self.stage.epochs:
            if self.pruner.average:
                self.pruner.average.adopt()
            pruned = self.pruner.finalize() or pruned
            self.pruner = self._new_pruner(Method())  # the network is plain from here on
        if pruned:
            self._recalibrate()
        if pruned and self.pruner.average:
            with self.pruner.average.swapped():
                self._recalibrate()

    def _validated(self) -> AbstractContextManager[None]:
        """Inside it the network is the one to validate after an epoch."""
        average = self.pruner.average if self.train.validate_ema else None
        return average.swapped() if average else nullcontext()

    def _checkpoint(self) -> None:
        """Training goes on while a checkpoint is on its way to a remote store; the next one waits for its end."""
        if not self.replicas.leads:
            return
        begun = time.perf_counter()
        if not self.written.done() or self.checkpoint_cost >= self.where.checkpoint_share * (
            begun - self.last_checkpoint
        ):
            return
        packed = checkpoint.pack(self.stage.key, self.progress, self.model, self.pruner, self.optimizer)
        self.checkpointed = True
        self.written = self.writer.submit(self._write_checkpoint, packed, self.progress.epoch)
        if self.store.is_local:
            self.written.result()
        self.last_checkpoint = time.perf_counter()
        self.checkpoint_cost = self.last_checkpoint - begun

    def _write_checkpoint(self, packed: bytes, epoch: int) -> None:
        try:
            self.store.write_checkpoint(self.asked.key, packed)
        except OSError as error:  # a checkpoint only saves work
            log.warning("no checkpoint of epoch %d: %s; going on without", epoch, error)

    def _train_batches(self, seed: int, epoch: int, dataset: Dataset | None = None) -> Batches:
        size, augment = self.train.batch_size, self.train.augment
        return self._told(
            (dataset or self.dataset).train_batches(
                seed=seed, epoch=epoch, batch_size=size, augment=augment, dtype=self.dtype
            )
        )

    def _own_batches(self, name: str, dataset: Dataset | None = None) -> Batches:
        """Training batches in a stream of their own: the order of the training data must not change."""
        epoch = self.stage.start_epoch + self.progress.epoch
        return self._train_batches(derive(self.stage.root.seed, name), epoch, dataset)

    def _told(self, batches: Batches) -> Batches:
        for batch in batches:
            self.drawn()
            yield batch

    def _recalibrate(self) -> None:
        if self.train.recalibrate:
            batches = self._few("recalibration", self._own_batches("recalibration"))
            with self.pruner.view():
                training.recalibrate(self.network, batches)

    def _evaluate(self, split: SplitName, *, running: bool = True) -> Score:
        size = self.train.evaluation_batch_size
        batches = self._told(self.dataset.evaluation_batches(split, batch_size=size, dtype=self.dtype))
        with self.pruner.view():
            return training.evaluate(self.network, self._few("evaluation", batches), running=running)

    def _curve_row(
        self, epoch: int, validation: Score, score: Score | None = None, lr: float | None = None
    ) -> dict[str, Any]:
        return curve_row(self.metric, self.stage.start_epoch + epoch, validation, score, lr) | self._sparsity()

    def _sparsity(self) -> dict[str, float]:
        with self.pruner.view():
            return self.sparse.now(self.pruner.weights, self.pruner.masks)

    def _clock(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    # --- the end

    def _publish(self) -> None:
        files, measured = self._measured_part() if isinstance(self.asked, PartStage) else self._measured()
        if not self.replicas.leads:
            return
        result = {**self._result(files), **measured}
        self.require_claim()
        checkpointed = self.checkpointed or not self.contents.isdisjoint(CHECKPOINTS)
        self.store.publish(self.asked, files, result, checkpointed=checkpointed)

    def _measured_part(self) -> Measured:
        """The state to continue from, and what the last epoch was validated to."""
        state = checkpoint.pack(self.stage.key, self.progress, self.model, self.pruner, self.optimizer)
        return {STATE: state, CURVE: curve_file(self.metric, self.progress.curve)}, {
            "metrics": part_metrics(self.metric, self.progress.curve[-1])
        }

    def _measured(self) -> Measured:
        """The files of a finished stage, and its metrics on all splits; nothing where another replica leads."""
        seed_all(self.stage.root.seed, "evaluation")
        scores = {name: self._evaluate(name, running=name == "train") for name in get_args(SplitName)}
        if not self.replicas.leads:
            return {}, {}
        files = {
            NETWORK: checkpoint.pack_tensors(self.model.state_dict()),
            CURVE: curve_file(self.metric, self.progress.curve),
        }
        if isinstance(self.stage, PruneStage):
            momentum = optimizer_state.stored(dict(self.model.named_parameters()), self.optimizer)
            files[MOMENTUM] = checkpoint.pack_tensors(momentum)
        recorded, exempt = self._record(), self.prunable.keys() - self.weights.keys()
        require_effective(self.model, self.prunable, self.recorded, recorded)
        layers = measure.layer_costs(self.prunable, recorded)
        size = measure.summary(self.model, layers, exempt, self.full)
        metrics = {**outcome.measured(scores), **size, **self.progress.pruned}
        by_class = outcome.by_class(self.task, scores["test"])
        return files, {"metrics": metrics, "layers": [asdict(layer) for layer in layers], **by_class}

    def _result(self, files: Mapping[str, bytes]) -> dict[str, Any]:
        return {
            "label": label(self.asked),
            "epochs": self.asked.epochs,
            "images": self.progress.images,
            "classes": self.whole.classes,
            "bytes": sum(len(content) for content in files.values()),
            "train_seconds": self.progress.train_seconds,
            "elapsed_seconds": self.seconds_before + time.perf_counter() - self.started,
            "peak_memory_bytes": self.peak_memory.read(),
            "device": describe_device(self.device, self.replicas.count),
            "torch_version": torch.__version__,
            "attempts": attempts_in(self.contents) + 1,
            "finished_at": now(),
            **self.where.provenance,
            **({} if self.rehearsal is None else {"rehearsal": self._rates(self.rehearsal)}),
        }

    def _rates(self, rehearsal: Rehearsal) -> dict[str, Any]:
        size = self.train.evaluation_batch_size
        batches = {split: -(-self.dataset.count(split) // size) for split in get_args(SplitName)}
        return rehearsal.rates(self.iterations, batches["validation"], sum(batches.values()))
