"""A stage while it runs: prune, train, measure, checkpoint, publish."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, get_args

import torch
from torch import nn

from prunesweep.workers import checkpoint, data, measure, methods, optimizer_state, outcome, schedules, tasks, training
from prunesweep.workers.average import average_of
from prunesweep.workers.building import build
from prunesweep.workers.checkpoint import Progress
from prunesweep.workers.continuation import Continuation
from prunesweep.workers.costs import Costs
from prunesweep.workers.curve import curve_file, curve_row, require_finite
from prunesweep.workers.data.base import SplitName
from prunesweep.workers.fingerprints import require_same
from prunesweep.workers.host import Where, describe_device, settle
from prunesweep.workers.lineage import data_epoch
from prunesweep.workers.methods.base import Method
from prunesweep.workers.methods.pruner import Pruner, Setup
from prunesweep.workers.optimizers import make_optimizer
from prunesweep.workers.parts import Measured, whole_of
from prunesweep.workers.passes import Passes
from prunesweep.workers.pruning import Pruning
from prunesweep.workers.rehearsal import Rehearsal, require_own_store
from prunesweep.workers.replicas import ALONE, Replicas
from prunesweep.workers.scoring import Score
from prunesweep.workers.seeding import derive, preserved, seed_all
from prunesweep.workers.spec import PruneStage, Stage, TrainStage, label
from prunesweep.workers.store import CURVE, MOMENTUM, NETWORK, Store, attempts_in, now
from prunesweep.workers.training import Batches

log = logging.getLogger("prunesweep")


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
        self.contents, self.drawn = contents, drawn
        self.asked, self.stage = stage, whole_of(stage)
        self.store, self.where, self.replicas = store, where, replicas
        self.require_claim, self.reached = require_claim, reached
        self.train = stage.root.train
        self.device = where.torch_device
        settle(where, self.train.precision)
        self.peak_memory = measure.PeakMemory(self.device)
        self.rehearsal = Rehearsal(self._clock) if where.rehearsal else None
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
        dataset = data.load(self.stage.root.dataset, self.where.data_folder).to(self.device, self.where.loaders)
        self.passes = Passes(self.stage, dataset, self.replicas, self.drawn, self.rehearsal)
        self.network = build(self.stage, self.task, dataset, self.device, self.store, self.replicas)
        self.model = self.network.model
        self.costs = Costs(self.stage, self.network, self.passes)
        self.pruner = self._new_pruner(
            methods.create(self.stage.method) if isinstance(self.stage, TrainStage) else Method()
        )
        self.optimizer = self.pruner.optimizer = make_optimizer(self.model, self.pruner, self.train)
        self.pruner.average = average_of(self.model, self.pruner.parameters(), self.train.ema)
        self.started, self.progress = time.perf_counter(), Progress()
        self.continuation = Continuation(self.asked, self.store, self.where, self.replicas, self.contents, self._unpack)
        if not self.continuation.restored():
            self._begin()
        self.seconds_before = self.progress.elapsed_seconds
        self.reached(self.progress)

    def epochs(self) -> Iterator[Progress]:
        """Train epoch by epoch, then publish; yields after every epoch but the last, and after publishing."""
        norm_drop = self.progress.pruned.get("relative_norm_drop", 0.0)
        lr = schedules.of_stage(self.stage, self.passes.iterations, norm_drop)
        with self.continuation.writing():
            while self.progress.epoch < self.asked.epochs:
                with preserved():
                    self._epoch(lr)
                self.reached(self.progress)
                self.replicas.require_equal(checkpoint.storable(self.model.state_dict()).values())
                self.require_claim()
                if self.progress.epoch < self.asked.epochs:
                    self.continuation.keep(self._packed, self.progress.epoch)
                    yield self.progress
                    if self.rehearsal:
                        self._skip_to_last_epoch()
        with preserved():
            self._publish()
        yield self.progress

    # --- beginning, or continuing

    def _new_pruner(self, method: Method, weights: Mapping[str, nn.Parameter] | None = None) -> Pruner:
        """Of the weights that may be pruned in this stage, unless others are given."""
        seed, length = derive(self.stage.root.seed, "method"), (self.stage.epochs, self.passes.iterations)
        own = self.costs.weights if weights is None else weights
        return method.pruner(Setup(self.model, own, self.stage.sparsity, *length, seed, self.task))

    def _packed(self) -> bytes:
        return checkpoint.pack(self.stage.key, self.progress, self.model, self.pruner, self.optimizer)

    def _unpack(self, state: bytes) -> int:
        self.progress = checkpoint.unpack(state, self.stage.key, self.model, self.pruner, self.optimizer)
        return self.progress.epoch

    def _begin(self) -> None:
        if isinstance(self.stage, TrainStage) and self.stage.loads:
            self._add_to_curve(self._evaluate("validation"))
        if type(self.pruner).prepare is not Pruner.prepare:
            self._prepare()
        if isinstance(self.stage, PruneStage):
            self._prune(self.stage)
        if self.pruner.average:
            self.pruner.average.restart()

    def _prepare(self) -> None:
        """On the leading replica, whose checkpoint the others then continue from: devices need not round alike."""

        def prepared() -> bytes:
            self.pruner.prepare(self._asked("preparation"))
            return self._packed()

        state = self.replicas.agreed(prepared)
        if not self.replicas.leads:
            self._unpack(state)

    def _asked(self, purpose: str) -> Batches:
        """Whole training batches for what is chosen by them; whatever draws is seeded."""
        seed_all(self.stage.root.seed, purpose)
        batches = self.passes.aside(purpose, self.progress.epoch, whole=True)
        return ((self.network.laid_out(inputs), targets) for inputs, targets in batches)

    def _prune(self, stage: PruneStage) -> None:
        """Prune the parent's network, and measure what is left before it is trained, or rewound first."""
        pruning = Pruning(stage, self.store, self.replicas, self.model, self.pruner, self.optimizer)
        parent = pruning.load_parent()
        norm_drop = pruning.prune(partial(self._asked, "criterion"))
        if norm_drop > 0.0:  # a network that was sparse enough stays as it is
            self._recalibrate()
        after = self._evaluate("test").metrics[self.metric.name]
        before = parent["metrics"][f"test_{self.metric.name}"]
        self.progress.pruned = {"relative_norm_drop": norm_drop, **outcome.pruned(self.metric, before, after)}
        self._add_to_curve(self._evaluate("validation"))
        pruning.rewind()

    # --- one epoch

    def _epoch(self, lr: schedules.Schedule) -> None:
        progress, first = self.progress, self.progress.epoch * self.passes.iterations
        score = self._train_epoch(lr, first)
        progress.epoch += 1
        require_finite("training", score, progress.epoch)
        progress.images += self.passes.count("train")
        self._sparsify()
        with self._validated():
            validation = self._evaluate("validation")
        require_finite("validation", validation, progress.epoch)
        self._add_to_curve(validation, score, lr(first + self.passes.iterations - 1))
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

    def _train_epoch(self, lr: schedules.Schedule, first: int) -> Score:
        """Seeded by the epoch for whatever draws, such as dropout; the clock stops when the device has finished."""
        epoch = data_epoch(self.stage) + self.progress.epoch
        seed_all(self.stage.root.seed, "epoch", epoch, *((self.replicas.rank,) if self.replicas.rank else ()))
        start = self._clock()
        batches, sizes = self.passes.training(self.progress.epoch), self.passes.training_sizes()
        score = training.train_epoch(self.network, self.pruner, self.optimizer, batches, lr, first, sizes)
        self.progress.train_seconds += self._clock() - start
        return score

    def _sparsify(self) -> None:
        """Let the method prune; statistics are re-estimated before anything is evaluated."""
        pruned = self.pruner.after_epoch(self.progress.epoch)
        if self.progress.epoch == self.stage.epochs:
            if self.pruner.average and self.train.publish_ema:
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

    def _recalibrate(self) -> None:
        if self.train.recalibrate:
            with self.pruner.view():
                training.recalibrate(self.network, self.passes.aside("recalibration", self.progress.epoch))

    def _evaluate(self, split: SplitName, *, running: bool = True) -> Score:
        with self.pruner.view():
            return training.evaluate(self.network, self.passes.evaluation(split), running=running)

    def _add_to_curve(self, validation: Score, score: Score | None = None, lr: float | None = None) -> None:
        """What was measured after the epochs so far; `score` and `lr` are of the training of the last one."""
        epoch = self.stage.start_epoch + self.progress.epoch
        row = curve_row(self.metric, epoch, validation, score, lr)
        self.progress.curve.append(row | self.costs.now(self.pruner))

    def _clock(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    # --- the end

    def _publish(self) -> None:
        files, measured = self._measured()
        if not self.replicas.leads:
            return
        result = {**self._result(files), **measured}
        self.require_claim()
        self.store.publish(self.asked, files, result, checkpointed=self.continuation.exists)

    def _measured(self) -> Measured:
        """The files of a finished stage, and its metrics on all splits; nothing where another replica leads."""
        seed_all(self.stage.root.seed, "evaluation")
        scores = {name: self._evaluate(name, running=name == "train") for name in get_args(SplitName)}
        if not self.replicas.leads:
            return {}, {}
        files = {
            NETWORK: checkpoint.pack_tensors(checkpoint.network(self.model)),
            CURVE: curve_file(self.metric, self.progress.curve),
        }
        if isinstance(self.stage, PruneStage):
            momentum = optimizer_state.stored(dict(self.model.named_parameters()), self.optimizer)
            files[MOMENTUM] = checkpoint.pack_tensors(momentum)
        size, layers = self.costs.finished()
        metrics = {**outcome.measured(scores), **size, **self.progress.pruned}
        return files, {"metrics": metrics, "layers": layers, **outcome.by_class(self.task, scores["test"])}

    def _result(self, files: Mapping[str, bytes]) -> dict[str, Any]:
        return {
            "label": label(self.asked),
            "epochs": self.asked.epochs,
            "images": self.progress.images,
            "classes": self.passes.whole.classes,
            "bytes": sum(len(content) for content in files.values()),
            "train_seconds": self.progress.train_seconds,
            "elapsed_seconds": self.seconds_before + time.perf_counter() - self.started,
            "peak_memory_bytes": self.peak_memory.read(),
            "device": describe_device(self.device, self.replicas.count),
            "torch_version": torch.__version__,
            "attempts": attempts_in(self.contents) + 1,
            "finished_at": now(),
            **self.where.provenance,
            **self.passes.rehearsed(),
        }
