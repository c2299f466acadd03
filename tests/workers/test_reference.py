"""Every method against a second, naive implementation in float64, written from the methods' page and their papers.

SGD, schedules, selections and masks are spelled out in plain loops and full sorts; autograd does all chain rules. Only
the model, the initial weights and the batches are shared: it knows nothing of methods, stages or optimizers. Both
trainings are compared after every epoch: losses, weights, statistics, momentum, and what a method learns beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from prunesweep.workers import checkpoint, data, methods, models
from prunesweep.workers.host import Where
from prunesweep.workers.run import run_stage
from prunesweep.workers.seeding import derive
from prunesweep.workers.spec import PruneStage, Stage, TrainSpec, TrialSpec, path
from prunesweep.workers.store import CHECKPOINT, MOMENTUM, NETWORK, Store
from tests.cases import RESNET, TINY, TRAIN

E = 6
"""180 training images in batches of 32."""

FLOAT64 = replace(TRAIN, precision="float64", epochs=10)
"""60 iterations; peak learning rate 0.05, weight decay 5e-4."""

Tensors = dict[str, Tensor]


# --- the reference: dense training, and what all methods share


@dataclass(eq=False)
class Reference:
    """Dense training; a method's reference changes what it needs to. Settings have the names of the method's own."""

    sparsity: float = 0.0
    train: TrainSpec = FLOAT64

    def __post_init__(self) -> None:
        self.decay, self.gamma = self.train.weight_decay, 0.9
        self.dataset = data.load(TINY, "unused")
        torch.manual_seed(derive(0, "weights"))
        self.model = models.build(RESNET, self.dataset.shape, self.dataset.classes).double()
        layers = {f"{n}.weight" for n, m in self.model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
        self.weights = {name: p for name, p in self.model.named_parameters() if name in layers}
        self.n = sum(w.numel() for w in self.weights.values())
        self.masks: Tensors = {}
        self.momentum_of: dict[Tensor, Tensor] = {}
        self.learned: dict[str, list[Tensor]] = {}
        self.iteration = self.epochs_over = 0
        self.plain = False

    # What a method may change.

    def view(self) -> Tensors:
        """The weights that the forward pass sees, where they are not the stored ones."""
        return {}

    def regularization(self) -> Tensor | float:
        return 0.0

    def adjust_gradients(self) -> None:
        for name, mask in self.masks.items():
            self.weights[name].grad *= mask

    def decayed(self, p: Tensor) -> Tensor:
        return self.decay * p

    def after_step(self) -> None: ...

    def after_epoch(self) -> None: ...

    def finalize(self) -> None: ...

    # Training.

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        return self.dataset.train_batches(
            seed=seed, epoch=self.epochs_over, batch_size=32, augment=True, dtype=torch.float64
        )

    def forward(self, inputs: Tensor) -> Tensor:
        return functional_call(self.model, {} if self.plain else self.view(), inputs)

    def epoch(self, lr: Callable[[int], float], first: int) -> float:
        """One epoch from iteration `first` of the stage on; returns the mean loss over the images."""
        self.model.train()
        self.iteration, total = first, 0.0
        for inputs, targets in self.batches(seed=0):
            total += self.one_iteration(inputs, targets, lr(self.iteration)) * len(targets)
        self.epochs_over += 1
        return total / len(self.dataset.train)

    def one_iteration(self, inputs: Tensor, targets: Tensor, lr: float) -> float:
        parameters = [*self.model.parameters(), *(p for parts in self.learned.values() for p in parts)]
        for p in parameters:
            p.grad = None
        loss = functional.cross_entropy(self.forward(inputs), targets)
        (loss + self.regularization()).backward()
        with torch.no_grad():
            self.adjust_gradients()
            for p in parameters:
                self.step(p, lr)
            self.iteration += 1
            self.after_step()
        return loss.item()

    def step(self, p: Tensor, lr: float) -> None:
        """SGD with Nesterov momentum (Sutskever et al. 2013), weight decay in the gradient."""
        gradient = p.grad + self.decayed(p)
        buffer = self.momentum_of.get(p)
        buffer = gradient.clone() if buffer is None else self.gamma * buffer + gradient
        self.momentum_of[p] = buffer
        p -= lr * (gradient + self.gamma * buffer)

    @torch.no_grad()
    def validation_loss(self) -> float:
        self.model.eval()
        batches = self.dataset.evaluation_batches("validation", batch_size=256, dtype=torch.float64)
        [(inputs, targets)] = batches
        return functional.cross_entropy(self.forward(inputs), targets).item()

    # Pruning.

    def select(self, sparsity: float, allocation: str = "global") -> Tensors:
        """Masks by magnitude."""
        scores = {name: w.detach().abs() for name, w in self.weights.items()}
        keep = self.n - round(sparsity * self.n)
        if allocation == "global":
            return largest(scores, keep)
        if allocation == "lamp":
            return largest({name: lamp(score) for name, score in scores.items()}, keep)
        room = [int((score != 0).sum()) for score in scores.values()]
        shares = [score.numel() if allocation == "uniform" else sum(score.shape) for score in scores.values()]
        counts = shared_out(shares, room, keep)
        layers = zip(scores.items(), counts, strict=True)
        return {name: largest({name: score}, count)[name] for (name, score), count in layers}

    @torch.no_grad()
    def prune(self, masks: Tensors) -> float:
        """Weights and momentum, and keep them so; returns the relative norm drop."""
        before = torch.cat([w.flatten() for w in self.weights.values()])
        self.masks = masks
        for name, w in self.weights.items():
            w *= masks[name]
            if w in self.momentum_of:
                self.momentum_of[w] *= masks[name]
        after = torch.cat([w.flatten() for w in self.weights.values()])
        if not torch.equal(before, after):
            self.recalibrate()
        return float((before - after).norm() / before.norm())

    @torch.no_grad()
    def become_the_view(self) -> None:
        for name, value in self.view().items():
            self.weights[name].copy_(value)
        self.plain = True

    @torch.no_grad()
    def recalibrate(self) -> None:
        """Statistics are averages over an epoch of batches of their own."""
        norms = [m for m in self.model.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        self.model.train()
        for inputs, _ in self.batches(derive(0, "recalibration")):
            self.forward(inputs)
        for norm in norms:
            norm.momentum = 0.1

    # Looking at it.

    def reached(self) -> float:
        """The share of zeros among the weights."""
        return sum(int((w == 0).sum()) for w in self.weights.values()) / self.n

    def everything(self) -> Tensors:
        """What a checkpoint keeps, by its names there."""
        found = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        momentum = {n: self.momentum_of[p] for n, p in self.model.named_parameters() if p in self.momentum_of}
        found |= {f"momentum/{name}": tensor for name, tensor in momentum.items()}
        found |= {f"method/mask.{name}": mask for name, mask in self.masks.items()}
        for name, parts in self.learned.items():
            found[f"method/{name}"] = flat(parts)
            found[f"momentum/method:{name}"] = flat([self.momentum_of[p] for p in parts])
        return found


def flat(parts: Sequence[Tensor]) -> Tensor:
    """One after the other, in the order in which a checkpoint has them: channels last."""
    return torch.cat([(p.permute(0, 2, 3, 1) if p.dim() == 4 else p).detach().flatten() for p in parts])


def largest(scores: Tensors, keep: int) -> Tensors:
    """Masks of the largest scores over all tensors, by a full stable sort."""
    pool = torch.cat([score.flatten() for score in scores.values()])
    mask = torch.zeros_like(pool)
    mask[pool.argsort(descending=True, stable=True)[:keep]] = 1
    parts = mask.split([score.numel() for score in scores.values()])
    return {name: part.view_as(scores[name]) for name, part in zip(scores, parts, strict=True)}


def lamp(magnitudes: Tensor) -> Tensor:
    """w^2 over the sum of all squares of its layer that are no smaller (Lee et al. 2021, equation 2)."""
    squares = magnitudes.square().flatten()
    no_smaller = squares[None, :] >= squares[:, None]
    return torch.nan_to_num(squares / (no_smaller * squares).sum(1)).view_as(magnitudes)


def shared_out(shares: Sequence[int], room: Sequence[int], total: int) -> list[int]:
    """In proportion to the shares, or all of a layer that has no more; in exact fractions, by largest remainder."""
    layers = range(len(shares))
    first_full = sorted(layers, key=lambda i: Fraction(room[i], shares[i]))
    for count in layers:
        full, rest = first_full[:count], first_full[count:]
        scale = Fraction(total - sum(room[i] for i in full), sum(shares[i] for i in rest))
        if all(scale * shares[i] <= room[i] for i in rest):
            break
    quotas = [Fraction(room[i]) if i in full else scale * shares[i] for i in layers]
    counts = [floor(quota) for quota in quotas]
    for i in sorted(layers, key=lambda i: counts[i] - quotas[i])[: total - sum(counts)]:
        counts[i] += 1
    return counts


def cubic(final: float, epochs_over: int, train: TrainSpec, interval: int) -> float:
    """The sparsity of GMP and DPF (Zhu & Gupta 2017)."""
    steps = train.epochs // interval - 1
    return final * (1 - (1 - min(epochs_over // interval, steps) / steps) ** 3)


def revived(before: Tensors, after: Tensors) -> int:
    """How many weights come back."""
    return sum(int((after[name] > before[name]).sum()) for name in before)


# --- the methods of the reference


@dataclass(eq=False)
class GMP(Reference):
    pruning_interval: int = 1
    recover: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.stored: Tensors = {}
        self.revived = 0

    def after_epoch(self) -> None:
        if self.epochs_over % self.pruning_interval or self.epochs_over > self.train.epochs - self.pruning_interval:
            return
        if self.recover:
            self.restore()
        before = self.masks
        self.prune(self.select(cubic(self.sparsity, self.epochs_over, self.train, self.pruning_interval)))
        self.revived += revived(before, self.masks)

    @torch.no_grad()
    def restore(self) -> None:
        """All weights as they were when last they were not masked."""
        for name, stored in self.stored.items():
            self.weights[name].copy_(torch.where(self.masks[name] == 1, self.weights[name], stored))
        self.stored = {name: w.detach().clone() for name, w in self.weights.items()}

    def everything(self) -> Tensors:
        aside = {f"method/aside.{name}": w * (1 - self.masks[name]) for name, w in self.stored.items()}
        return {**super().everything(), **aside}


@dataclass(eq=False)
class GSM(Reference):
    momentum: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        self.gamma = self.momentum

    def adjust_gradients(self) -> None:
        saliency = {name: (w * w.grad).abs() for name, w in self.weights.items()}
        for name, mask in largest(saliency, self.n - round(self.sparsity * self.n)).items():
            self.weights[name].grad *= mask

    def finalize(self) -> None:
        self.prune(self.select(self.sparsity))


@dataclass(eq=False)
class LC(Reference):
    penalty: float | None = None
    penalty_growth: float = 1.0

    def adjust_gradients(self) -> None:
        self.top = {self.weights[name]: mask for name, mask in self.select(self.sparsity).items()}

    def decayed(self, p: Tensor) -> Tensor:
        if p not in self.top:
            return self.decay * p
        penalty = self.decay if self.penalty is None else self.penalty
        return penalty * self.penalty_growth ** (self.iteration // E) * torch.where(self.top[p] == 1, 0.0, p)

    def finalize(self) -> None:
        self.prune(self.select(self.sparsity))


class StraightThrough(torch.autograd.Function):
    """w m, with the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, mask: Tensor) -> Tensor:
        return w * mask

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


@dataclass(eq=False)
class DPF(Reference):
    pruning_interval: int = 1
    mask_interval: int = 16
    allocation: str = "global"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.changes = self.revived = 0

    def view(self) -> Tensors:
        return {name: StraightThrough.apply(self.weights[name], mask) for name, mask in self.masks.items()}

    def adjust_gradients(self) -> None:
        """The mask is in the view alone."""

    def after_step(self) -> None:
        if self.iteration % self.mask_interval == 0:
            before, sparsity = self.masks, cubic(self.sparsity, self.iteration // E, self.train, self.pruning_interval)
            self.masks = self.select(sparsity, self.allocation)
            self.changes += any(not torch.equal(mask, self.masks[name]) for name, mask in before.items())
            self.revived += revived(before, self.masks)

    def finalize(self) -> None:
        self.prune(self.select(self.sparsity, self.allocation))


@dataclass(eq=False)
class DNW(Reference):
    allocation: str = "global"

    def view(self) -> Tensors:
        masks = self.select(self.sparsity, self.allocation)
        return {name: StraightThrough.apply(self.weights[name], mask) for name, mask in masks.items()}

    def finalize(self) -> None:
        self.become_the_view()


@dataclass(eq=False)
class STR(Reference):
    s_initial: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        start = torch.tensor([self.s_initial], dtype=torch.float64)
        self.learned["threshold"] = [start.clone().requires_grad_() for _ in self.weights]

    def view(self) -> Tensors:
        layers = zip(self.weights.items(), self.learned["threshold"], strict=True)
        return {name: w.sign() * functional.relu(w.abs() - t.sigmoid()) for (name, w), t in layers}

    def finalize(self) -> None:
        self.become_the_view()


class Step(torch.autograd.Function):
    """1 above 0, with the long-tailed slope of Liu et al. 2020, equation 5."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0).double()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        size = ctx.saved_tensors[0].abs()
        return gradient * torch.where(size <= 0.4, 2 - 4 * size, 0.4 * (size <= 1).double())


@dataclass(eq=False)
class DST(Reference):
    penalty: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        zeros = [torch.zeros(len(w), dtype=torch.float64) for w in self.weights.values()]
        self.learned["threshold"] = [t.requires_grad_() for t in zeros]
        self.resets = 0

    def view(self) -> Tensors:
        self.feed_the_starved()
        layers = zip(self.weights.items(), self.learned["threshold"], strict=True)
        return {name: w * Step.apply(w.abs() - along(t, w)) for (name, w), t in layers}

    @torch.no_grad()
    def feed_the_starved(self) -> None:
        for w, t in zip(self.weights.values(), self.learned["threshold"], strict=True):
            if int((w.abs() > along(t, w)).sum()) <= w.numel() / 100:
                t.zero_()
                self.resets += 1

    def regularization(self) -> Tensor:
        return self.penalty * sum((-t).exp().sum() for t in self.learned["threshold"])

    def finalize(self) -> None:
        self.become_the_view()


def along(t: Tensor, w: Tensor) -> Tensor:
    """A value per output neuron or filter, in the shape of its weights."""
    return t.view(-1, *[1] * (w.dim() - 1)).expand_as(w)


@dataclass(eq=False)
class CS(Reference):
    s_initial: float = 0.0
    beta_final: float = 200.0
    penalty: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        self.learned["m"] = [torch.full_like(w, self.s_initial).requires_grad_() for w in self.weights.values()]

    def soft(self, m: Tensor) -> Tensor:
        return torch.sigmoid(self.beta_final ** (self.iteration / (self.train.epochs * E)) * m)

    def view(self) -> Tensors:
        start = torch.tensor(self.s_initial, dtype=torch.float64)
        layers = zip(self.weights.items(), self.learned["m"], strict=True)
        return {name: w * self.soft(m) / start.sigmoid() for (name, w), m in layers}

    def regularization(self) -> Tensor:
        return self.penalty * sum(self.soft(m).sum() for m in self.learned["m"])

    @torch.no_grad()
    def finalize(self) -> None:
        self.become_the_view()
        for w, m in zip(self.weights.values(), self.learned["m"], strict=True):
            w[m <= 0] = 0
        self.recalibrate()


# --- the comparison


def stage_of(name: str, sparsity: float, settings: dict[str, Any], train: TrainSpec = FLOAT64) -> Stage:
    method = methods.method_class(name)(**settings)
    trial = TrialSpec(TINY, RESNET, method.choice(name), 0, sparsity, train)
    method.check(trial)
    return method.stage(trial)


def dense_lr(epochs: int) -> Callable[[int], float]:
    """0.05, one epoch of warm-up, linear to 0 over the rest."""
    return lambda k: 0.05 * k / E if k < E else 0.05 * (1 - (k - E) / (epochs * E - E))


def allr(epochs: int, drop: float, fraction: float, dense_epochs: int) -> Callable[[int], float]:
    n, warmup = epochs * E, floor(0.1 * epochs * E)
    peak = 0.05 * min(1.0, max(drop / fraction**0.5, epochs / dense_epochs))
    return lambda k: peak * k / warmup if k < warmup else peak * (1 - (k - warmup) / (n - warmup))


def epochs_of(stage: Stage, store: Store) -> Iterator[tuple[dict[str, Any], Tensors]]:
    """The row of the curve of every epoch, with the checkpoint after it; after the last with what is published."""
    for progress in run_stage(stage, store, Where(checkpoint_share=math.inf)):
        done = progress.epoch == stage.epochs
        yield progress.curve[-1], published(stage, store) if done else load(store.read("stages", stage.key, CHECKPOINT))


def published(stage: Stage, store: Store) -> Tensors:
    files = {"model": NETWORK, "momentum": MOMENTUM} if isinstance(stage, PruneStage) else {"model": NETWORK}
    found = {kind: checkpoint.unpack_tensors(store.read_published(stage.key, file)) for kind, file in files.items()}
    return {f"{kind}/{name}": tensor for kind, tensors in found.items() for name, tensor in tensors.items()}


def compare(stage: Stage, reference: Reference, store: Store, lr: Callable[[int], float] | None = None) -> None:
    """A stage that trains, epoch by epoch; on the dense schedule if no other is given."""
    lr = lr or dense_lr(stage.epochs)
    for epoch, (row, ours) in enumerate(epochs_of(stage, store), 1):
        assert row["train_loss"] == pytest.approx(reference.epoch(lr, (epoch - 1) * E), rel=1e-9)
        reference.after_epoch()
        if epoch == stage.epochs:
            reference.finalize()
        assert row["validation_loss"] == pytest.approx(reference.validation_loss(), rel=1e-9)
        assert_close(ours, reference)


def compare_prune(stage: Stage, reference: Reference, store: Store) -> None:
    """The prune at the end of a training that found a sparsity of its own."""
    [(row, ours)] = epochs_of(stage, store)
    reference.prune(reference.select(stage.sparsity))
    assert row["validation_loss"] == pytest.approx(reference.validation_loss(), rel=1e-9)
    assert_close(only("model", ours), reference)


def compare_phases(
    stage: Stage, reference: Reference, store: Store, phases: Iterable[tuple[float, int]], allocation: str = "global"
) -> None:
    """Pruning phases of (sparsity, epochs) after a dense training; one optimizer, that starts with no momentum."""
    reference.momentum_of.clear()
    before = 0.0
    for each, (sparsity, epochs) in zip(path(stage)[1:], phases, strict=True):
        drop = reference.prune(reference.select(sparsity, allocation))
        lr = allr(epochs, drop, (sparsity - before) / (1 - before), stage.root.epochs)
        compare(each, reference, store, lr)
        before = sparsity


def assert_close(ours: Tensors, reference: Reference) -> None:
    """Of the kinds that we have (model, momentum, method) both have the same tensors, and the same weights are zero."""
    kinds = {name.split("/")[0] for name in ours}
    expected = {name: t.detach() for kind in kinds for name, t in only(kind, reference.everything()).items()}
    assert ours.keys() == expected.keys()
    for name, tensor in ours.items():
        # Elements that nearly cancel have the rounding errors of those that do not.
        noise = 1e-12 * float(expected[name].abs().max())
        torch.testing.assert_close(tensor, expected[name].contiguous(), rtol=1e-9, atol=noise)
    for name, w in reference.weights.items():
        assert torch.equal(ours[f"model/{name}"] != 0, w != 0)


def only(kind: str, tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if name.startswith(f"{kind}/")}


@pytest.mark.parametrize("allocation", ["global", "uniform", "erk", "lamp"])
def test_imp_in_two_phases(allocation: str, store: Store):
    """75 % in two phases of 1 and 2 epochs; momentum carries over, q = 1/2 in both."""
    settings = {"retrain_epochs": 3, "phases": 2, "allocation": allocation}
    stage, reference = stage_of("imp", 0.75, settings), Reference()
    compare(stage.root, reference, store)
    compare_phases(stage, reference, store, [(0.5, 1), (0.75, 2)], allocation)


def test_imp_by_erk_keeps_all_of_a_small_layer(store: Store):
    """At 25 % the classifier, of 64 weights, and the first convolution, of 36, are full."""
    settings = {"retrain_epochs": 1, "allocation": "erk"}
    train = replace(FLOAT64, epochs=2)
    stage, reference = stage_of("imp", 0.25, settings, train), Reference(train=train)
    compare(stage.root, reference, store)
    compare_phases(stage, reference, store, [(0.25, 1)], "erk")
    full = [name for name, mask in reference.masks.items() if mask.all()]
    assert {"conv1.weight", "fc.weight"} <= set(full) < reference.weights.keys()


def test_bimp(store: Store):
    """10 epochs in all: 6 dense, then two phases of 2; the length of the dense schedule is 6."""
    stage, reference = stage_of("bimp", 0.75, {"pretrain_epochs": 6, "phases": 2}), Reference()
    assert stage.root.epochs == 6
    compare(stage.root, reference, store)
    compare_phases(stage, reference, store, [(0.5, 2), (0.75, 2)])


@pytest.mark.parametrize(("interval", "sparsity"), [(1, 0.5), (2, 0.9)])
def test_gmp(interval: int, sparsity: float, store: Store):
    settings = {"pruning_interval": interval}
    reference = GMP(sparsity, **settings)
    compare(stage_of("gmp", sparsity, settings), reference, store)
    assert reference.revived == 0


@pytest.mark.parametrize(("interval", "sparsity"), [(1, 0.9), (2, 0.5)])
def test_gmp_with_recover(interval: int, sparsity: float, store: Store):
    """Strong weight decay, so that survivors fall below what is set aside."""
    settings, train = {"pruning_interval": interval, "recover": True}, replace(FLOAT64, weight_decay=5e-2)
    reference = GMP(sparsity, train, **settings)
    compare(stage_of("gmp", sparsity, settings, train), reference, store)
    assert reference.revived > 10


@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_gsm(sparsity: float, store: Store):
    settings = {"momentum": 0.95}
    compare(stage_of("gsm", sparsity, settings), GSM(sparsity, **settings), store)


@pytest.mark.parametrize("settings", [{}, {"penalty": 1e-2, "penalty_growth": 1.5}, {"penalty": 0.0}])
def test_lc(settings: dict[str, float], store: Store):
    compare(stage_of("lc", 0.9, settings), LC(0.9, **settings), store)


@pytest.mark.parametrize(
    "settings",
    [
        {"pruning_interval": 1, "mask_interval": 4},
        {"pruning_interval": 2, "mask_interval": 7, "allocation": "erk"},
        {"pruning_interval": 1, "mask_interval": 5, "allocation": "uniform"},
    ],
)
def test_dpf(settings: dict[str, Any], store: Store):
    reference = DPF(0.9, **settings)
    compare(stage_of("dpf", 0.9, settings), reference, store)
    assert reference.changes > 5
    assert reference.revived > 10


@pytest.mark.parametrize("allocation", ["global", "uniform", "erk"])
def test_dnw(allocation: str, store: Store):
    settings = {"allocation": allocation}
    compare(stage_of("dnw", 0.75, settings), DNW(0.75, **settings), store)


@pytest.mark.parametrize(
    ("s_initial", "decay", "target", "learns"), [(-3.0, 5e-3, 0.9, (0.3, 0.45)), (-4.0, 1e-2, 0.1, (0.15, 0.3))]
)
def test_str(s_initial: float, decay: float, target: float, learns: tuple[float, float], store: Store):
    """What undershoots the target is pruned to it, what overshoots it stays."""
    settings, train = {"s_initial": s_initial}, replace(FLOAT64, weight_decay=decay)
    stage, reference = stage_of("str", target, settings, train), STR(target, train, **settings)
    compare(stage.root, reference, store)
    learned = reference.reached()
    assert learns[0] < learned < learns[1]
    assert max(abs(t.item() - s_initial) for t in reference.learned["threshold"]) > 0.1
    compare_prune(stage, reference, store)
    assert reference.reached() == pytest.approx(max(learned, target), abs=1e-3)


@pytest.mark.parametrize(("penalty", "target"), [(1e-2, 0.9), (1e-2, 0.3), (6e-2, 0.9)])
def test_dst(penalty: float, target: float, store: Store):
    """The larger penalty takes thresholds past 0.4, and starves a layer, so that its thresholds are reset."""
    settings = {"penalty": penalty}
    stage, reference = stage_of("dst", target, settings), DST(target, **settings)
    compare(stage.root, reference, store)
    learned = reference.reached()
    assert 0.5 < learned < 0.95
    assert (reference.resets > 0) == (penalty > 1e-2)
    assert (max(t.max().item() for t in reference.learned["threshold"]) > 0.4) == (penalty > 1e-2)
    compare_prune(stage, reference, store)
    assert reference.reached() == pytest.approx(max(learned, target), abs=1e-3)


@pytest.mark.parametrize(("beta_final", "target"), [(50.0, 0.5), (200.0, 0.5)])
def test_cs(beta_final: float, target: float, store: Store):
    """The larger temperature decides for more zeros than the target, the smaller one for fewer."""
    settings = {"s_initial": 0.02, "beta_final": beta_final, "penalty": 1e-3}
    stage, reference = stage_of("cs", target, settings), CS(target, **settings)
    compare(stage.root, reference, store)
    learned = reference.reached()
    assert 0.1 < learned < 0.9
    assert (learned > target) == (beta_final == 200.0)
    compare_prune(stage, reference, store)
    assert reference.reached() == pytest.approx(max(learned, target), abs=1e-3)
