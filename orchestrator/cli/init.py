"""The verb `init`: a commented sweep file to begin with, for a folder of images or a module of one's own."""

from __future__ import annotations

import inspect
from collections import Counter
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from prunesweep.orchestrator.lookup import load_sweep
from prunesweep.orchestrator.text import counted
from prunesweep.workers.data.layout import Layout, read_layout
from prunesweep.workers.errors import UserError
from prunesweep.workers.methods.base import Method
from prunesweep.workers.models import choose
from prunesweep.workers.source import look_here

TEMPLATE = """\
# {question}
# All keys: docs/sweeps.md. Methods with their settings: prunesweep list methods
dataset: {dataset}
{validation}model: {model}
seeds: 3                        # 0, 1 and 2; five and more tell differences from chance
train:
  epochs: 20
  batch_size: {batch_size}
  lr: {lr}                       # the peak; training is with SGD and momentum
  schedule: linear              # prunesweep list schedules
  warmup_epochs: 1
trials:                         # a list is an axis, and axes multiply
  - method: dense               # the control
  - method: imp                 # prune by magnitude, then retrain
    sparsity: [0.8, 0.9, 0.95]
    retrain_epochs: 5
    retrain_schedule: [FT, ALLR]
  - method: {method}                 # {method_note}
    sparsity: [0.8, 0.9, 0.95]
resources: {{cpus: 1}}            # for each trial; on a GPU, for instance {{gpus: 0.25}}: four trials share one
"""


FEW = 30
"""Of fewer images of a class a tenth is one or two."""


@dataclass(frozen=True)
class Answers:
    """What the template is filled with."""

    question: str = "Which method keeps most accuracy, at which sparsity?"
    dataset: str = "digits"
    validation: str = ""
    model: str = "resnet8"
    method: str = "gmp"
    method_note: str = "a rival that prunes while it trains"
    batch_size: int = 64
    lr: float = 0.1


def init(
    about: Annotated[
        str | None,
        typer.Argument(
            metavar="[FOLDER | MODULE:NAME]",
            help="A folder with a folder of images for each class, or a model or method of your own.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path, typer.Option(metavar="FILE", help="Where the sweep file is written.")] = Path("sweep.yaml"),
) -> None:
    """Write a commented sweep file to start from."""
    if output.exists():
        raise UserError(f"{output} is there already; name another file with --output")
    if not output.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}")
    output.write_text(TEMPLATE.format(**_answers(about).__dict__))
    trials = counted(len(load_sweep(output).trials), "trial")
    print(f"wrote {output}, {trials}; look at it, and then: prunesweep plan {output}")


def _answers(about: str | None) -> Answers:
    if about is None:
        return Answers()
    if Path(about).is_dir():
        return _for_images(Path(about))
    return _for_code(about)


def _for_images(folder: Path) -> Answers:
    """Small pictures, whatever their size is: a first look takes minutes, and `size` is there to be raised."""
    layout = read_layout("image_folder", folder)
    images = sum(len(part.names) for part in layout.given)
    path = folder.absolute()
    return Answers(
        question=f"{images:,} images of {len(layout.classes)} classes in {path}: which method keeps most accuracy?",
        dataset=f"{{name: image_folder, path: {_quoted(str(path))}, size: 64, crop: padded}}",
        validation="" if layout.validation else _validation(layout),
        model="resnet20",
        batch_size=32 if images < 10_000 else 128,
        lr=0.05,
    )


def _validation(layout: Layout) -> str:
    """A share of each class of which the smallest class gives a few images."""
    smallest = min(Counter(layout.train.targets).values())
    share = 0.1 if smallest >= FEW else 0.2
    return f"validation: {{fraction: {share}}}     # of the training images of each class, the same in all trials\n"


def _for_code(target: str) -> Answers:
    module, _, name = target.partition(":")
    module = module.removesuffix(".py").removeprefix("./").replace("/", ".")
    named = f"{module}:{name or _only_one(module)}"
    loaded = getattr(_imported(module), named.partition(":")[2], None)
    if isinstance(loaded, type) and issubclass(loaded, Method):
        return Answers(method=_quoted(named), method_note="yours; its other settings: prunesweep list methods")
    return Answers(model=_quoted(str(choose(named, {}))))


def _imported(module: str) -> Any:
    look_here()
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(f'"{module}" is neither a folder nor a module that can be imported: {error}') from error


def _only_one(module: str) -> str:
    """The one class or function that a module defines; raises `UserError` when there are several, or none."""
    import torch

    members: dict[str, Any] = vars(_imported(module))
    own = {name: value for name, value in members.items() if getattr(value, "__module__", None) == module}
    classes = [n for n, v in own.items() if isinstance(v, type) and issubclass(v, torch.nn.Module | Method)]
    names = classes or [name for name, value in own.items() if inspect.isfunction(value) and not name.startswith("_")]
    if len(names) != 1:
        there = f"which of {', '.join(names)}? Give" if names else "it defines no model and no method; give"
        raise UserError(f"{module}: {there} MODULE:NAME")
    return names[0]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
