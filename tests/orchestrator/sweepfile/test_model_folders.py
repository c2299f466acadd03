"""Models of transformers in sweep files: a path is relative to the file, and a mistake is answered at its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prunesweep.orchestrator.labels import labels
from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.run.rows import settings_of
from prunesweep.orchestrator.sweepfile.read import read_sweep
from prunesweep.workers.errors import UserError
from prunesweep.workers.store import Store

pytest.importorskip("transformers")

SWEEP = """\
dataset: text
task: language_modelling
model: {name: transformers, path: gpt2}
train: {lr: 0.1}
trials: [{method: dense}]
"""

PYTHON = """\
from prunesweep import Choice, TrainSpec, TrialSpec


def trials():
    yield TrialSpec(
        dataset=Choice.of("text", {"path": "text.txt", "context": 128}),
        model=Choice.of("transformers", {"path": "gpt2"}),
        method=Choice.of("dense"),
        train=TrainSpec(lr=0.1),
        task=Choice.of("language_modelling"),
    )
"""


def write(folder: Path, name: str = "gpt2", **settings: object) -> None:
    (folder / name).mkdir()
    sizes = {"n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 300, "bos_token_id": 0, "eos_token_id": 0}
    said = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", **sizes, **settings}
    (folder / name / "config.json").write_text(json.dumps(said))


def swept(folder: Path, text: str, name: str = "x.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_folder_is_beside_the_sweep_file_and_in_no_key(tmp_path: Path):
    """Also of a file in Python, and for a folder of another name."""
    write(tmp_path)
    write(tmp_path, "copy")
    several = SWEEP.replace("path: gpt2", "path: copy").replace(
        "text\n", "{name: text, path: text.txt, context: 128}\n", 1
    )
    files = (swept(tmp_path, SWEEP), swept(tmp_path, several, "y.yaml"), swept(tmp_path, PYTHON, "z.py"))
    assert len({read_sweep(file).trials[0].key for file in files}) == 1


def test_two_models_of_one_architecture_are_told_apart_in_a_few_words(tmp_path: Path):
    write(tmp_path)
    write(tmp_path, "wide", n_embd=16)
    both = "[{name: transformers, path: gpt2}, {name: transformers, path: wide}]"
    (tmp_path / "text.txt").write_bytes(b"x" * 2000)
    sweep = read_sweep(swept(tmp_path, SWEEP.replace("{name: transformers, path: gpt2}", both)))
    plan = make_plan(sweep, Store(tmp_path / "store"))
    shown = [row["model_options"] for row in settings_of(plan)]
    assert [text.rpartition(" ")[0] for text in shown] == [
        "config: GPT2LMHeadModel 1x8",
        "config: GPT2LMHeadModel 1x16",
    ]
    assert all(len(label) < 120 for label in labels(plan.stages, plan.stages).values())


@pytest.mark.parametrize(
    ("said", "instead", "answer"),
    [
        ("path: gpt2", "path: gpt", r"x.yaml:3: model.path: there is no .*/gpt/config.json, which describes the model"),
        (
            "{name: transformers, path: gpt2}",
            "transformers",
            r"x.yaml:3: model: model transformers is described by",
        ),
        (
            "path: gpt2",
            "path: gpt2, n_layer: 3",
            r'x.yaml:3: model.n_layer: unknown option of model transformers "n_lay',
        ),
        (
            "train: {lr: 0.1}",
            "init: {path: gpt2}",
            r"x.yaml:1: dataset: text is read byte by byte, and the weights were trained with a vocabulary of 300 "
            r"tokens: name their tokenizer, \{name: text, tokenizer: FOLDER\}",
        ),
    ],
)
def test_mistakes_are_answered_at_their_line(said: str, instead: str, answer: str, tmp_path: Path):
    write(tmp_path)
    with pytest.raises(UserError, match=answer):
        read_sweep(swept(tmp_path, SWEEP.replace(said, instead)))
