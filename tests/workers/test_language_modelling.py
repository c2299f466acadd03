"""Language modelling: bits per byte by hand, windows of a text, and a small transformer that is measured and pruned."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from prunesweep.workers import data, models
from prunesweep.workers.errors import UserError
from prunesweep.workers.fingerprints import fingerprinted
from prunesweep.workers.methods.imp import IMP
from prunesweep.workers.prunable import prunable
from prunesweep.workers.recording import record
from prunesweep.workers.replicas import ALONE
from prunesweep.workers.scoring import Tally
from prunesweep.workers.store import Store
from prunesweep.workers.tasks.language_modelling import LanguageModelling
from tests import contract
from tests.workers.test_tasks import trial


def test_bits_by_hand():
    """Of four tokens three are expected with probability 1/2, and one with 1/8."""
    likely, unlikely = [0.5, 0.25, 0.25], [0.125, 0.4375, 0.4375]
    outputs = torch.tensor([[likely, likely], [likely, unlikely]], dtype=torch.float64).log()
    task, tally = LanguageModelling(), Tally(ALONE)
    targets = torch.zeros(2, 2, dtype=torch.long)
    tally.add(task.reduced(outputs, targets, "sum"), task.sums(outputs, targets), 2)
    score = tally.score(task)
    assert score.metrics["bits_per_token"] == pytest.approx((3 * 1 + 3) / 4)
    assert score.metrics["perplexity"] == pytest.approx(2**1.5)
    assert score.metrics["token_accuracy"] == 3 / 4
    assert score.loss == pytest.approx(1.5 * math.log(2))


def test_a_text_is_cut_into_windows(tmp_path: Path):
    (tmp_path / "text.txt").write_bytes(bytes(range(201)))
    dataset = data.load(data.choose("text", {"context": 10}), str(tmp_path))
    assert [dataset.count(split) for split in ("train", "validation", "test")] == [16, 2, 2]
    inputs, targets = next(iter(dataset.evaluation_batches("test", batch_size=2)))
    assert inputs[0].tolist() == list(range(180, 190))
    assert targets[1].tolist() == list(range(191, 201))
    drawn = torch.cat([x for x, _ in dataset.train_batches(seed=0, epoch=1, batch_size=5, augment=True)])
    assert sorted(drawn[:, 0].tolist()) == list(range(0, 160, 10))
    assert drawn[:, 0].tolist() != sorted(drawn[:, 0].tolist())


def test_mistakes_with_texts(tmp_path: Path):
    (tmp_path / "text.txt").write_bytes(b"too short")
    with pytest.raises(UserError, match="has 9 bytes, and 10 windows of context 128 need 1,281: take a longer text"):
        data.load(data.choose("text", {}), str(tmp_path))
    with pytest.raises(UserError, match=r"there is no .*none\.txt"):
        data.load(data.choose("text", {"path": "none.txt"}), str(tmp_path))
    with pytest.raises(UserError, match="width 10 is no multiple of 4 heads"):
        models.build(models.choose("transformer", {"width": 10}), (1, 1, 8), 256)


def test_the_text_is_in_the_key(tmp_path: Path):
    (tmp_path / "text.txt").write_bytes(b"a" * 2000)
    asked = replace(trial("language_modelling"), dataset=data.choose("text", {}))
    (before,) = fingerprinted([asked], str(tmp_path), {})
    (tmp_path / "text.txt").write_bytes(b"b" * 2000)
    (after,) = fingerprinted([asked], str(tmp_path), {})
    assert before.key != after.key


def test_matrices_of_products_are_prunable_and_embeddings_are_not():
    """An embedding is looked up, and multiplies nothing. Multiply-adds of a window of 8 tokens of width 16."""
    torch.manual_seed(0)
    model = models.build(models.choose("transformer", {"width": 16, "depth": 1, "heads": 2}), (1, 1, 8), 256)
    recording = record(model, torch.randint(256, (4, 8)))
    weights = prunable(model, recording)
    names = ("attention", "mixed", "wide", "narrow")
    assert {*weights} == {*(f"blocks.0.{name}.weight" for name in names), "head.weight"}
    products = 8 * 16 * (3 * 16 + 16 + 64 + 64 + 256)
    assert sum(use.multiply_adds for use in recording.uses) == recording.images * products


def test_a_transformer_learns_a_text_and_keeps_its_sparsity(tmp_path: Path):
    (tmp_path / "text.txt").write_bytes(b"abcdefgh" * 600)
    asked = trial("language_modelling")
    text = data.choose("text", {"path": str(tmp_path / "text.txt"), "context": 16})
    train = replace(asked.train, epochs=8, lr=0.1, batch_size=8)
    (asked,) = fingerprinted([replace(asked, dataset=text, train=train)], "", {})
    stage, store = IMP(retrain_epochs=2).stage(asked), Store(tmp_path / "store")
    contract.run(stage, store)
    result = store.result(stage.key)
    assert result is not None
    assert result["metrics"]["test_bits_per_token"] < 3, "less than the 8 bits of chance"
    assert result["metrics"]["reached_sparsity"] == pytest.approx(0.5, abs=1e-4)
    assert result["metrics"]["theoretical_speedup"] > 1
