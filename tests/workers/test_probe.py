"""Networks of one's own: what is served, what is refused before it trains, and in which words."""

from __future__ import annotations

import io
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from prunesweep.workers import checkpoint, data, models
from prunesweep.workers.errors import UserError
from prunesweep.workers.examination import examine_stage, examine_stages
from prunesweep.workers.host import Where
from prunesweep.workers.methods.dense import Dense
from prunesweep.workers.run import StageFailed, run_stage
from prunesweep.workers.spec import PruneStage, RetrainSpec, Stage, TrainSpec, TrainStage
from prunesweep.workers.store import CURVE, NETWORK, Store
from tests.cases import last_stage, trial

IMAGES = {"shape": (1, 8, 8), "classes": 4, "images": 60, "test_images": 20}
TRAIN = TrainSpec(epochs=2, batch_size=18, lr=0.05)
BODY = """
import math, torch
from torch import nn

def body(channels, outputs, *last):
    pooled = [nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*pooled, nn.Linear(8, outputs), *last)

class Around(nn.Module):
    def __init__(self, net, give):
        super().__init__()
        self.net, self.give = net, give
    def forward(self, x):
        return self.give(self.net(x))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """A module with this code beside what all networks here are made of; returns its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(code: str) -> str:
        name = f"own_{abs(hash((request.node.name, code)))}"
        (tmp_path / f"{name}.py").write_text(f"{BODY}\n{code}\n")
        return name

    return write


def stage_of(model: str, train: TrainSpec = TRAIN, **options: Any) -> TrainStage:
    choice = models.choose(model, options)
    return TrainStage(data.choose("synthetic", IMAGES), choice, Dense().choice("dense"), 0, 0.0, train)


def run(stage: Stage, store: Store, **options: Any) -> None:
    list(run_stage(stage, store, Where(**options)))


def losses(stage: Stage, store: Store) -> Sequence[float]:
    table = pq.read_table(io.BytesIO(store.read_published(stage.key, CURVE)))
    return [loss for loss in table.column("train_loss").to_pylist() if loss is not None]


# --- signatures


@pytest.mark.parametrize(
    "signature",
    [
        "shape, classes",
        "anything, else_",
        "num_classes",
        "num_classes=10",
        "in_channels, num_classes",
        "num_classes, in_chans=3",
        "n_channels=3, n_classes=2",
        "img_size=224, in_chans=3, num_classes=1000, **more",
        "image, classes, *, channels=64",
        "shape, classes, /",
        "*, in_channels, num_classes",
        "act=nn.ReLU(), num_classes=10, factory=nn.Linear",
        "",
    ],
)
def test_the_usual_signatures_are_served(own, signature: str, store: Store):
    module = own(f"def net({signature}):\n    assert locals().get('channels', 64) == 64\n    return body(1, 4)")
    stage = stage_of(f"{module}:net")
    run(stage, store)
    assert store.result(stage.key)["metrics"]["parameters"] == 8 * 9 + 8 + 8 * 4 + 4


def test_what_a_signature_asks_for_is_what_it_gets(own):
    module = own(
        "def net(num_classes, in_chans=3, img_size=224, width=7):\n"
        "    return nn.Linear(in_chans * img_size, width * num_classes)"
    )
    choice = models.choose(f"{module}:net", {"width": 5})
    assert choice.settings == {"width": 5}
    assert models.build(choice, (2, 6, 6), 3).weight.shape == (15, 12)


def test_a_parameter_that_nothing_is_known_of_is_refused_with_the_signatures_that_are_served(own):
    module = own("def net(num_classes, blocks): pass")
    with pytest.raises(UserError, match=r"its parameter `blocks`; models are called with \(shape, classes\), \(num_cl"):
        models.choose(f"{module}:net", {})


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("net = body(1, 4)", "is a network that is made already.*give the class, or a function"),
        ("net = 3", "is a int, not a function or class"),
    ],
)
def test_what_makes_no_network_is_refused_when_the_sweep_is_read(own, code: str, words: str):
    module = own(code)
    with pytest.raises(UserError, match=words):
        models.choose(f"{module}:net", {})


# --- refusals

REFUSED = {
    "forgets to return": (
        "def net(shape, classes):\n    body(1, classes)",
        "made nothing, not a torch.nn.Module; does its fun",
    ),
    "too few logits": ("def net(shape, classes):\n    return body(1, 3)", r"gives 3 logits for 4 classes"),
    "a single output": (
        "def net(shape, classes):\n    return body(1, 1, nn.Sigmoid())",
        "gives 1 logits for 4 classes.*only two",
    ),
    "a map": (
        "def net(shape, classes):\n    return nn.Conv2d(1, classes, 3)",
        r"gives outputs \[18, 4, 6, 6\].*average the map",
    ),
    "a text": ("def net(shape, classes):\n    return Around(body(1, 4), str)", "its forward pass gives a str"),
    "no finite loss": (
        "def net(shape, classes):\n    return Around(body(1, 4), lambda y: y * math.nan)",
        "loss on the first batch is nan",
    ),
    "all is frozen": (
        "def net(shape, classes):\n    return body(1, 4).requires_grad_(False)",
        "all its parameters are frozen",
    ),
    "detached": (
        "def net(shape, classes):\n    return Around(body(1, 4), torch.Tensor.detach)",
        "depend on no parameter; is there a detach",
    ),
    "does not fit": (
        "def net(shape, classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(63, 4))",
        r"its forward pass fails in 1 \(Linear\) on images 2x1x8x8: .*mat1 and mat2 shapes",
    ),
    "complex weights": (
        "class net(nn.Linear):\n    def __init__(self, num_classes):\n"
        "        super().__init__(64, num_classes, dtype=torch.cfloat)\n"
        "    def forward(self, x):\n        return super().forward(x.flatten(1).cfloat()).abs()",
        "its weight weight is complex, and methods rank and mask real numbers",
    ),
    "sparse gradients": (
        "class net(nn.Module):\n    def __init__(self, num_classes):\n        super().__init__()\n"
        "        self.table, self.last = nn.Embedding(9, 4, sparse=True), nn.Linear(256, num_classes)\n"
        "    def forward(self, x):\n        return self.last(self.table(x.sigmoid().mul(9).long()).flatten(1))",
        "the gradient of table.weight is sparse.*without sparse=True",
    ),
    "weights of another type": (
        "class net(nn.Linear):\n    def __init__(self, num_classes):\n        super().__init__(64, num_classes)\n"
        "    def forward(self, x):\n        return super().forward(x.flatten(1).double())",
        "all weights are float32 here, as train.precision says",
    ),
    "cannot be stored": (
        "class net(nn.Linear):\n    def __init__(self, num_classes):\n        super().__init__(64, num_classes)\n"
        "    def forward(self, x):\n        return super().forward(x.flatten(1))\n"
        "    def get_extra_state(self):\n        return {1j}\n    def set_extra_state(self, state):\n        pass",
        "_extra_state is a set.*tensors and JSON can be stored",
    ),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_what_cannot_train_is_refused_in_a_sentence_before_its_first_epoch(own, wrong: str, store: Store):
    code, words = REFUSED[wrong]
    stage = stage_of(f"{own(code)}:net")
    with pytest.raises(StageFailed, match=f"(?s)^model own_.*{words}") as failed:
        run(stage, store)
    assert failed.value.cause == "bad request"
    with pytest.raises(UserError, match=f"(?s){words}"):
        examine_stage(stage, Where())


def test_a_last_batch_of_one_image_is_refused_where_batch_norm_cannot_take_it(own, store: Store):
    """Of 60 images 54 train: 3 batches of 18, or 53 and one."""
    norm = own("def net(shape, classes):\n    return nn.Sequential(body(1, 4), nn.BatchNorm1d(4))")
    assert data.load(data.choose("synthetic", IMAGES), "data").count("train") == 54
    with pytest.raises(StageFailed, match=r"a single image of the 54: batch norm in 1 \(BatchNorm1d\).*such as 54"):
        run(stage_of(f"{norm}:net", replace(TRAIN, batch_size=53)), store)
    run(stage_of(f"{norm}:net"), store)
    run(stage_of(f"{own('def net(shape, classes): return body(1, 4)')}:net", replace(TRAIN, batch_size=53)), store)


@pytest.mark.parametrize("method", ["str", "dst", "cs", "gsm"])
def test_methods_that_learn_what_to_prune_are_refused_where_all_of_it_is_frozen(own, method: str, store: Store):
    frozen = own("def net(shape, classes): return nn.Sequential(body(1, 4).requires_grad_(False), nn.BatchNorm1d(4))")
    plain = last_stage(trial(method)).root
    stage = replace(plain, dataset=data.choose("synthetic", IMAGES), model=models.choose(f"{frozen}:net", {}))
    others = [replace(stage, method=last_stage(trial(name)).root.method) for name in ("dense", "gmp")]
    examine_stages(others, Where())
    with pytest.raises(UserError, match=rf"{method.upper()} has nothing to learn: all 2 prunable weights are frozen"):
        examine_stages([*others, stage], Where())
    with pytest.raises(StageFailed, match="has nothing to learn"):
        run(stage, store)


def test_examining_leaves_the_generators_and_the_network_as_they_were(own, store: Store):
    stage = stage_of(f"{own('def net(shape, classes): return nn.Sequential(nn.Dropout(), body(1, 4))')}:net")
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    examine_stage(stage, Where())
    assert torch.equal(torch.rand(2), expected)


# --- what is served

SERVED = {
    "a dict of logits": "lambda y: {'logits': y, 'features': y + 1}",
    "a dict of out": "lambda y: {'out': y}",
    "a tuple": "lambda y: (y, y[:, :2])",
    "a map of one pixel": "lambda y: y[:, :, None, None]",
    "an object": "lambda y: __import__('types').SimpleNamespace(logits=y)",
}


@pytest.mark.parametrize("form", SERVED)
def test_every_form_of_outputs_trains_as_plain_logits_do(own, form: str, store: Store):
    plain = stage_of(f"{own('def net(shape, classes): return Around(body(1, 4), lambda y: y)')}:net")
    wrapped = stage_of(f"{own(f'def net(shape, classes): return Around(body(1, 4), {SERVED[form]})')}:net")
    for stage in (plain, wrapped):
        run(stage, store)
    assert losses(wrapped, store) == losses(plain, store)


@pytest.mark.parametrize(("name", "weight"), [("GoogLeNetOutputs", 0.3), ("InceptionOutputs", 0.4)])
def test_auxiliary_losses_weigh_what_their_authors_give_them(own, name: str, weight: float, store: Store):
    """The auxiliary logits are the logits: with k of them every gradient is 1 + k w times as large, as with that lr."""
    count = 2 if name == "GoogLeNetOutputs" else 1
    code = (
        f"from collections import namedtuple\n{name} = namedtuple('{name}', {['logits', 'aux', 'aux2'][: count + 1]})\n"
        f"def net(shape, classes): return Around(body(1, 4), lambda y: {name}(*[y] * {count + 1}))"
    )
    sgd = replace(TRAIN, momentum=0.0, weight_decay=0.0, schedule="constant", precision="float64")
    plain = own("def net(shape, classes): return body(1, 4)")
    expected = stage_of(f"{plain}:net", replace(sgd, lr=0.05 * (1 + count * weight)))
    stage = stage_of(f"{own(code)}:net", sgd)
    for trained in (stage, expected):
        run(trained, store)
    assert losses(stage, store) == pytest.approx(losses(expected, store), rel=1e-12)


def test_lazy_modules_take_their_shapes_from_the_first_images(own, store: Store):
    module = own(
        "def net(shape, classes):\n"
        "    return nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(classes))"
    )
    root = stage_of(f"{module}:net")
    pruned = PruneStage(root, 0.5, RetrainSpec(1))
    run(root, store)
    run(pruned, store)
    assert store.result(pruned.key)["metrics"]["parameters"] == 4 * 9 + 4 + 4 * 36 * 4 + 4


@pytest.mark.parametrize("first", ["nn.Conv3d(1, 4, (1, 3, 3))", "nn.Conv2d(1, 4, 3)"])
def test_a_network_that_cannot_compute_in_channels_last_layout_gets_contiguous_images(own, first: str, store: Store):
    """A convolution of volumes has no such layout; a view of neighbouring pixels needs them to be neighbours."""
    depth = "x.unsqueeze(2)" if "3d" in first else "torch.cat([x, x], 1)[:, :1].expand(-1, 1, -1, -1)"
    code = f"""
class net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.conv, self.fc = {first}, nn.Linear(4 * 36, classes)
    def forward(self, x):
        return self.fc(self.conv({depth}).view(len(x), -1))
"""
    stage = stage_of(f"{own(code)}:net")
    run(stage, store)
    assert all(map(math.isfinite, losses(stage, store)))


STATES = {
    "extra state": "    def get_extra_state(self): return {'steps': self.steps}\n"
    "    def set_extra_state(self, state): self.steps = state['steps']\n",
    "a buffer that grows": "",
}


@pytest.mark.parametrize("kind", STATES)
def test_state_that_is_more_than_plain_tensors_survives_kills_and_reaches_the_children(own, kind: str, store: Store):
    code = f"""
class net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.net, self.steps = body(1, classes), 0
        self.register_buffer("bank", torch.zeros(0, classes))
    def forward(self, x):
        y = self.net(x)
        self.steps += self.training
        if self.training:
            self.bank = torch.cat([self.bank, y.detach()])
        return y
{STATES[kind]}"""
    root = stage_of(f"{own(code)}:net", replace(TRAIN, epochs=3))
    for _ in range(2):
        next(run_stage(root, store, Where(checkpoint_share=math.inf)))
    run(root, store, checkpoint_share=math.inf)
    tensors = checkpoint.unpack_tensors(store.read_published(root.key, NETWORK))
    assert tensors["bank"].shape == (3 * 54, 4)
    if kind == "extra state":
        assert bytes(tensors["_extra_state:json"].tolist()) == b'{"steps": 9}'
    run(PruneStage(root, 0.5, RetrainSpec(1)), store)


def test_numbers_that_a_network_counts_survive_kills_and_reach_the_children(own, tmp_path: Path):
    """No `state_dict` has them: here the steps of a temperature, and whether a scale was taken from the first batch."""
    code = """
class net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.net, self.steps, self.ready = body(1, classes), 0, False
        self.scale = nn.Parameter(torch.ones(()))
    def forward(self, x):
        if self.training and not self.ready:
            self.scale.data.copy_(1 / x.std())
            self.ready = True
        self.steps += self.training
        return self.net(x) * self.scale / (1 + 0.9**self.steps)
"""
    root = stage_of(f"{own(code)}:net", replace(TRAIN, epochs=3))
    child = PruneStage(root, 0.5, RetrainSpec(2))
    unbroken, broken = Store(tmp_path / "unbroken"), Store(tmp_path / "broken")
    for stage in (root, child):
        run(stage, unbroken)
        for _ in range(1, stage.epochs):
            next(run_stage(stage, broken, Where(checkpoint_share=math.inf)))
        run(stage, broken)
        assert broken.read_published(stage.key, NETWORK) == unbroken.read_published(stage.key, NETWORK)
    kept = checkpoint.unpack_tensors(unbroken.read_published(child.key, NETWORK))
    assert json.loads(bytes(kept.pop("plain_numbers:json").tolist())) == {".steps": 3 * 3 + 2 * 3, ".ready": True}
    assert kept.keys() == models.build(root.model, (1, 8, 8), 4).state_dict().keys()


@pytest.mark.parametrize(
    "said",
    [
        b"[",
        b"[1]",
        b'{".weight": 1}',
        b'{".forward": 1}',
        b'{".bias": 1}',
        b'{".stride": "x"}',
        b'{".in_features": null}',
    ],
)
def test_a_stored_network_gives_nothing_but_numbers_to_what_is_a_number(said: bytes):
    layer = nn.Linear(2, 2)
    state = checkpoint.network(layer)
    forged = {**state, "weight": state["weight"] + 1, "plain_numbers:json": torch.tensor(list(said), dtype=torch.uint8)}
    with pytest.raises(ValueError, match=r"plain_numbers|is no number"):
        checkpoint.load_network(layer, forged)
    assert layer.weight.equal(state["weight"])
    layer.scale = None  # until the first batch
    honest = torch.tensor(list(b'{".seen": 3, ".in_features": 5, ".scale": 0.5}'), dtype=torch.uint8)
    checkpoint.load_network(layer, {**state, "plain_numbers:json": honest})
    assert (layer.seen, layer.in_features, layer.scale) == (3, 5, 0.5)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_complex_buffer_keeps_its_imaginary_part_in_training_and_in_the_store(own, precision: str, store: Store):
    """Rotary embeddings are often kept so; as real numbers they would turn nothing."""
    code = """
class net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.register_buffer("turn", torch.polar(torch.ones(32), torch.arange(32.0)))
        self.last = nn.Linear(64, classes)
    def forward(self, x):
        turned = torch.view_as_complex(x.reshape(-1, 32, 2)) * self.turn
        return self.last(torch.view_as_real(turned).flatten(1))
"""
    root = stage_of(f"{own(code)}:net", replace(TRAIN, precision=precision))
    next(run_stage(root, store, Where(checkpoint_share=math.inf)))
    run(root, store, checkpoint_share=math.inf)
    kept = checkpoint.unpack_tensors(store.read_published(root.key, NETWORK))["turn"]
    assert kept.equal(torch.polar(torch.ones(32), torch.arange(32.0)))
    run(PruneStage(root, 0.5, RetrainSpec(1)), store)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_layer_whose_first_gradient_comes_late_trains_as_with_plain_sgd(own, momentum: float, store: Store):
    """It joins in the third step; what no gradient has reached is decayed by none of torch's optimizers."""
    code = """
class net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.a, self.late, self.never, self.calls = nn.Linear(64, classes), nn.Linear(64, classes), nn.Linear(2, 2), 0
    def forward(self, x):
        self.calls += self.training
        return self.a(x.flatten(1)) + (self.late(x.flatten(1)) if self.calls > 2 else 0)
"""
    train = replace(
        TRAIN, epochs=1, momentum=momentum, nesterov=False, schedule="constant", precision="float64", augment=False
    )
    stage = stage_of(f"{own(code)}:net", train)
    run(stage, store)
    torch.manual_seed(0)
    model: nn.Module = models.build(stage.model, (1, 8, 8), 4).double()
    model.load_state_dict(initial(stage))
    optimizer = torch.optim.SGD(
        model.parameters(), 0.05, momentum, weight_decay=train.weight_decay, fused=False, foreach=False
    )
    dataset = data.load(stage.dataset, "data")
    for images, targets in dataset.train_batches(seed=0, epoch=0, batch_size=18, augment=False, dtype=torch.float64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), targets).backward()
        optimizer.step()
    trained = checkpoint.unpack_tensors(store.read_published(stage.key, NETWORK))
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(trained[name], tensor, rtol=1e-12, atol=1e-14)


def initial(stage: TrainStage) -> dict[str, Tensor]:
    """A stage's weights before it trains."""
    from prunesweep.workers.seeding import seed_all

    seed_all(stage.seed, "weights")
    return models.build(stage.model, (1, 8, 8), 4).double().state_dict()


def test_the_checkpoint_of_an_edited_network_is_set_aside_and_the_stage_begins_again(own, tmp_path: Path, store: Store):
    module = own("def net(shape, classes): return body(1, 4)")
    stage = stage_of(f"{module}:net")
    next(run_stage(stage, store, Where(checkpoint_share=math.inf)))
    import sys

    sys.modules[module].net = lambda shape, classes: nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    run(stage, store)
    assert store.result(stage.key)["metrics"]["parameters"] == 64 * 4 + 4


def test_a_parent_of_other_code_is_said_to_be_one(own, store: Store):
    module = own("def net(shape, classes): return body(1, 4)")
    root = stage_of(f"{module}:net")
    run(root, store)
    import sys

    sys.modules[module].net = lambda shape, classes: nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    with pytest.raises(StageFailed, match=r"is of other code than own_.* is now: .*give the changed"):
        run(PruneStage(root, 0.5, RetrainSpec(1)), store)


@pytest.mark.parametrize("draw", ["random.random()", "np.random.rand()", "float(torch.rand(()))"])
def test_randomness_is_the_seed_s_whatever_it_is_drawn_with(own, draw: str, tmp_path: Path):
    """In building the model and in every epoch; whoever trains in their own process draws on as if nothing had been."""
    code = f"""
import random
import numpy as np
class net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.net, self.scale = body(1, classes), {draw}
    def forward(self, x):
        return self.net(x) * (self.scale + ({draw} if self.training else 0))
"""
    stage = stage_of(f"{own(code)}:net")
    stores = [Store(tmp_path / name) for name in ("once", "again")]
    for store in stores:
        random.seed()
        np.random.seed()
        torch.seed()
        expected = [random.getstate()[1], np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]
        run(stage, store)
        assert [random.getstate()[1], np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()] == expected
    assert losses(stage, stores[0]) == losses(stage, stores[1])
