"""Networks of random layers, weights shared, wrapped and reparametrised: each is measured right, or refused by name.

Every layer maps [B, 8, w] to [B, 8, v]. It says by construction which of its weights are prunable, and what it costs.
"""

from __future__ import annotations

import random
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.flop_counter import FlopCounterMode

from prunesweep.workers.errors import Ineffective, UserError
from prunesweep.workers.measure import layer_costs, summary
from prunesweep.workers.prunable import prunable, require_effective
from prunesweep.workers.recording import record
from prunesweep.workers.selection import apply_masks, magnitude_masks
from tests.workers.zoo import Call

PLACES = 8
WIDTHS = (4, 6, 8, 12)
IMAGES = 3
CLASSES = 5
SPARSITY = 0.9

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Part:
    """A layer with its prunable weights, and its multiply-adds for one image; `width` is what it gives.

    `is_hidden` says that a kernel receives other values than the weight holds, `is_counted` that torch's counter sees
    all of the layer.
    """

    layer: nn.Module
    weights: Shapes
    multiply_adds: int
    width: int
    is_hidden: bool = False
    is_counted: bool = True


class Network(nn.Module):
    """The parts in a row, some of them with a residual connection, and a linear layer at the end."""

    def __init__(self, parts: list[Part], draw: random.Random) -> None:
        super().__init__()
        self.parts, self.residual = parts, [draw.random() < 0.5 for _ in parts]
        self.blocks = nn.ModuleList(part.layer for part in parts)
        self.head = nn.Linear(parts[-1].width, CLASSES)
        nn.init.normal_(self.head.weight, std=0.01)  # So small that some of it is pruned in every network.

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1, 2)
        for block, is_residual in zip(self.blocks, self.residual, strict=True):
            y = block(x)
            x = x + y if is_residual and x.shape == y.shape else y
        return self.head(x.mean(1))


# --- the kinds of layers: from the width that comes in, one that may go out, and the linear layers so far


Maker = Callable[[int, int, list[nn.Linear]], Part]


def linear(w: int, v: int, before: list[nn.Linear]) -> Part:
    before.append(nn.Linear(w, v))
    return Part(before[-1], {"weight": (v, w)}, PLACES * w * v, v)


def conv1d(w: int, v: int, before: list[nn.Linear]) -> Part:
    layer = Call(lambda s, x: s.c(x.transpose(1, 2)).transpose(1, 2), c=nn.Conv1d(w, v, 3, padding=1))
    return Part(layer, {"c.weight": (v, w, 3)}, PLACES * w * v * 3, v)


def conv2d(w: int, v: int, before: list[nn.Linear]) -> Part:
    layer = Call(lambda s, x: s.c(x[:, None]).mean(1), c=nn.Conv2d(1, 4, 3, padding=1))
    return Part(layer, {"c.weight": (4, 1, 3, 3)}, PLACES * w * 4 * 9, w)


def conv3d(w: int, v: int, before: list[nn.Linear]) -> Part:
    volume = nn.Conv3d(1, 2, 3, padding=1)
    layer = Call(lambda s, x: s.c(x.reshape(-1, 1, 2, 4, w)).mean(1).flatten(1, 2), c=volume)
    return Part(layer, {"c.weight": (2, 1, 3, 3, 3)}, PLACES * w * 2 * 27, w)


def transposed(w: int, v: int, before: list[nn.Linear]) -> Part:
    layer = Call(lambda s, x: s.c(x.transpose(1, 2)).transpose(1, 2), c=nn.ConvTranspose1d(w, v, 3, padding=1))
    return Part(layer, {"c.weight": (w, v, 3)}, PLACES * w * v * 3, v)


def grouped(w: int, v: int, before: list[nn.Linear]) -> Part:
    layer = Call(lambda s, x: s.c(x.transpose(1, 2)).transpose(1, 2), c=nn.Conv1d(w, v, 3, padding=1, groups=2))
    return Part(layer, {"c.weight": (v, w // 2, 3)}, PLACES * w // 2 * v * 3, v)


def attention(w: int, v: int, before: list[nn.Linear]) -> Part:
    layer = Call(lambda s, x: s.a(x, x, x)[0], a=nn.MultiheadAttention(w, 2, batch_first=True))
    weights = {"a.in_proj_weight": (3 * w, w), "a.out_proj.weight": (w, w)}
    return Part(layer, weights, PLACES * 4 * w * w + 2 * PLACES * PLACES * w, w)


def lstm(w: int, v: int, before: list[nn.Linear]) -> Part:
    layer = Call(lambda s, x: s.r(x)[0], r=nn.LSTM(w, v, batch_first=True))
    weights = {"r.weight_ih_l0": (4 * v, w), "r.weight_hh_l0": (4 * v, v)}
    return Part(layer, weights, PLACES * 4 * v * (w + v), v, is_counted=False)


def gru(w: int, v: int, before: list[nn.Linear]) -> Part:
    half = v // 2
    layer = Call(lambda s, x: s.r(x)[0], r=nn.GRU(w, half, batch_first=True, bidirectional=True))
    one_way = {"r.weight_ih_l0": (3 * half, w), "r.weight_hh_l0": (3 * half, half)}
    other_way = {f"{name}_reverse": shape for name, shape in one_way.items()}
    return Part(layer, one_way | other_way, PLACES * 2 * 3 * half * (w + half), v, is_counted=False)


def bilinear(w: int, v: int, before: list[nn.Linear]) -> Part:
    layer = Call(lambda s, x: s.b(x, x), b=nn.Bilinear(w, w, v))
    return Part(layer, {"b.weight": (v, w, w)}, PLACES * v * w * w, v, is_counted=False)


def by_function(w: int, v: int, before: list[nn.Linear]) -> Part:
    layer = Call(lambda s, x: F.linear(x, s.own), own=torch.randn(v, w))
    return Part(layer, {"own": (v, w)}, PLACES * w * v, v)


def einsum(w: int, v: int, before: list[nn.Linear]) -> Part:
    layer = Call(lambda s, x: torch.einsum("btw,twv->btv", x, s.own), own=torch.randn(PLACES, w, v))
    return Part(layer, {"own": (PLACES, w, v)}, PLACES * w * v, v)


def embedding(w: int, v: int, before: list[nn.Linear]) -> Part:
    layer = Call(lambda s, x: x + s.table((x.mean(-1) > 0).long()), table=nn.Embedding(2, w))
    return Part(layer, {}, 0, w)


def position(w: int, v: int, before: list[nn.Linear]) -> Part:
    return Part(Call(lambda s, x: x + s.table, table=torch.randn(1, PLACES, w)), {}, 0, w)


def batch_norm(w: int, v: int, before: list[nn.Linear]) -> Part:
    return Part(nn.BatchNorm1d(PLACES), {}, 0, w)


def layer_norm(w: int, v: int, before: list[nn.Linear]) -> Part:
    return Part(nn.LayerNorm(w), {}, 0, w)


def tied(w: int, v: int, before: list[nn.Linear]) -> Part:
    layer = nn.Sequential(nn.Linear(w, w), nn.ReLU(), nn.Linear(w, w))
    layer[2].weight = layer[0].weight
    return Part(layer, {"0.weight": (w, w)}, 2 * PLACES * w * w, w)


def autoencoder(w: int, v: int, before: list[nn.Linear]) -> Part:
    """The weight is used a second time, transposed."""
    layer = Call(lambda s, x: F.linear(s.code(x).relu(), s.code.weight.t()), code=nn.Linear(w, v))
    return Part(layer, {"code.weight": (v, w)}, 2 * PLACES * w * v, w)


def again(w: int, v: int, before: list[nn.Linear]) -> Part:
    """The weight of a linear layer before this one, transposed where that is what fits; else a layer of its own."""
    for earlier in before:
        out, into = earlier.weight.shape
        if w in (out, into):
            layer = Call(lambda s, x, is_same=w == into: F.linear(x, s.w if is_same else s.w.t()))
            layer.w = earlier.weight
            return Part(layer, {}, PLACES * out * into, out if w == into else into)
    return linear(w, v, before)


def unused(w: int, v: int, before: list[nn.Linear]) -> Part:
    return Part(Call(lambda s, x: s.norm(x), norm=nn.LayerNorm(w), spare=nn.Linear(31, 37)), {}, 0, w)


class Copied(nn.Module):
    """Keeps a copy of its weight in a buffer, as running averages do, for nobody's use; or evaluates with it."""

    def __init__(self, w: int, v: int, evaluates: bool) -> None:
        super().__init__()
        self.weight, self.evaluates = nn.Parameter(torch.randn(v, w)), evaluates
        self.register_buffer("average", self.weight.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.average if self.evaluates else self.weight)


def copied(w: int, v: int, before: list[nn.Linear]) -> Part:
    return Part(Copied(w, v, evaluates=False), {"weight": (v, w)}, PLACES * w * v, v)


def hidden(layer: nn.Module, v: int) -> Part:
    return Part(layer, {}, 0, v, is_hidden=True)


def averaged(w: int, v: int, before: list[nn.Linear]) -> Part:
    return hidden(Copied(w, v, evaluates=True), v)


def weight_norm(w: int, v: int, before: list[nn.Linear]) -> Part:
    return hidden(parametrizations.weight_norm(nn.Linear(w, v)), v)


def spectral_norm(w: int, v: int, before: list[nn.Linear]) -> Part:
    return hidden(parametrizations.spectral_norm(nn.Linear(w, v)), v)


def standardised(w: int, v: int, before: list[nn.Linear]) -> Part:
    def run(self: Call, x: Tensor) -> Tensor:
        mean, std = self.own.mean(1, keepdim=True), self.own.std(1, keepdim=True)
        return F.linear(x, (self.own - mean) / (std + 1e-5))

    return hidden(Call(run, own=torch.randn(v, w)), v)


def scaled(w: int, v: int, before: list[nn.Linear]) -> Part:
    layer = Call(lambda s, x: F.linear(x, s.own * s.gain), own=torch.randn(v, w), gain=torch.ones(v, 1))
    return hidden(layer, v)


PLAIN: tuple[Maker, ...] = (
    *(linear, conv1d, conv2d, conv3d, transposed, grouped, attention, lstm, gru, bilinear, by_function, einsum),
    *(embedding, position, batch_norm, layer_norm, tied, autoencoder, again, again, unused, copied),
)

HIDING: tuple[Maker, ...] = (averaged, weight_norm, spectral_norm, standardised, scaled)


def network(seed: int) -> Network:
    """Three to eight parts; one network of three has besides a part that hides its weight, or two."""
    draw = random.Random(seed)
    before: list[nn.Linear] = []
    torch.manual_seed(seed)
    makers = draw.choices(PLAIN, k=draw.randint(3, 8))
    for _ in range(draw.choice((0, 0, 0, 0, 1, 2))):
        makers.insert(draw.randint(0, len(makers)), draw.choice(HIDING))
    parts, width = [], PLACES
    for maker in makers:
        parts.append(maker(width, draw.choice(WIDTHS), before))
        width = parts[-1].width
    return Network(parts, draw)


# --- the checks


REPEATED = (245, 270)
"""A buffer in place of a weight, behind a recurrent layer: `linear` then repeats it for every image."""


def seeds() -> Iterator[object]:
    yield from (*range(15), *REPEATED)
    yield from (pytest.param(seed, marks=pytest.mark.slow) for seed in range(15, 315) if seed not in REPEATED)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("seed", list(seeds()))
def test_a_random_network_is_measured_right_or_refused_by_name(seed: int) -> None:
    model, images = network(seed), torch.randn(IMAGES, 1, PLACES, PLACES)
    hiding = {f"blocks.{i}" for i, part in enumerate(model.parts) if part.is_hidden}
    if hiding:
        require_refused(model, images, hiding)
    else:
        require_measured(model, images)
        require_pruned(model, images)


def require_refused(model: Network, images: Tensor, hiding: set[str]) -> None:
    """The error names one or more of these layers, and no other."""
    with pytest.raises(UserError) as error:
        prunable(model, record(model, images))
    named = set(re.findall(r"blocks\.\d+", str(error.value)))
    assert named, error.value
    assert named <= hiding, error.value


def require_measured(model: Network, images: Tensor) -> None:
    recording = record(model, images)
    weights = prunable(model, recording)
    expected = {f"blocks.{i}.{n}": shape for i, part in enumerate(model.parts) for n, shape in part.weights.items()}
    width = model.parts[-1].width
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    assert shapes == {**expected, "head.weight": (CLASSES, width)}
    total = sum(layer.multiply_adds for layer in layer_costs(weights, recording))
    assert total == sum(part.multiply_adds for part in model.parts) + CLASSES * width
    if all(part.is_counted for part in model.parts):
        assert total == counted_by_torch(model, images)


def counted_by_torch(model: nn.Module, images: Tensor) -> float:
    """Without attention's fast path, of which torch's counter knows nothing."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    model.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(images)
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
        model.train()
    return counter.get_total_flops() / 2 / IMAGES


def require_pruned(model: Network, images: Tensor) -> None:
    """Zeros in the kernels are those of the masks; a value that is not zero in the kernel alone fails the stage."""
    before = record(model, images)
    weights = prunable(model, before)
    masks = magnitude_masks(list(weights.values()), SPARSITY).views
    apply_masks(list(weights.values()), masks)
    after = record(model, images)
    require_effective(model, weights, before, after)
    kept = {name: int(mask.sum()) for name, mask in zip(weights, masks, strict=True)}
    assert {use.name for use in after.uses} >= set(weights)
    assert all((use.values, use.nonzero) == (weights[use.name].numel(), kept[use.name]) for use in after.uses)
    n = sum(weight.numel() for weight in weights.values())
    assert summary(model, layer_costs(weights, after))["reached_sparsity"] == round(SPARSITY * n) / n
    unmask_in_the_kernel(model.head)
    received = rf"head\.weight has {kept['head.weight']} values .* received {kept['head.weight'] + 1}"
    with pytest.raises(Ineffective, match=received):
        require_effective(model, weights, before, record(model, images))


def unmask_in_the_kernel(layer: nn.Linear) -> None:
    """Its kernel receives a copy of the weight where a zero was overwritten by NumPy, which torch does not notice."""
    place = (layer.weight == 0).nonzero()[0].tolist()

    def forward(x: Tensor) -> Tensor:
        weight = layer.weight.detach().clone()
        weight.numpy()[tuple(place)] = 1.0
        return F.linear(x, weight, layer.bias)

    layer.forward = forward
