"""What would stop every stage of a run, found before Ray starts and said in a sentence. Imports no Ray."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.text import size
from prunesweep.workers.data.presence import absent
from prunesweep.workers.encoding import encode
from prunesweep.workers.errors import UserError
from prunesweep.workers.fingerprints import is_own_folder, module_of
from prunesweep.workers.models.folder_config import TRANSFORMERS
from prunesweep.workers.models.torchvision_names import TORCHVISION
from prunesweep.workers.parts import whole_of
from prunesweep.workers.spec import ALL, Stage, TrainStage, TrialSpec

SOCKET_PATH = 107
"""Bytes of a socket's path, at most; a property of the kernel."""

RAY_SPACE = 10 * 10**6
"""Bytes that the logs and sockets of a small run take."""

REFUSED = 3
"""With what `workers.examination` ends then; importing it would load torch."""

PATIENCE = 120
"""Seconds for all networks together."""

RAY_PATH = len("/ray/session_2026-11-28_11-08-37_655361_4194304/sockets/plasma_store")
"""What Ray appends to the folder for temporary files."""


def require_ready(plan: Plan, data_folder: str, device: str) -> None:
    """Raise `UserError` for what would stop the stages that a plan runs on this machine."""
    if plan.runnable:
        trials = [trial for key in plan.runnable for trial in plan.trials_of.get(key, ())]
        for problem in (*absent_data(trials, data_folder), *unusable_device(device), *unusable_places()):
            raise UserError(problem)


def require_trainable(plan: Plan, data_folder: str, device: str) -> None:
    """Raise `UserError` for a network that cannot be trained, or whose sparsity would not be what tables say.

    A process of its own asks those that are not of the registry, a few images each, and no more than once for all
    trials of a network. What it cannot answer in time, or at all, each stage asks itself.
    """
    stages = unexamined(plan)
    if not stages:
        return
    asked = {"stages": [encode(stage) for stage in stages], "data_folder": data_folder, "device": device}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "prunesweep.workers.examination"]
    with suppress(subprocess.TimeoutExpired):
        answer = subprocess.run(
            command, input=json.dumps(asked), capture_output=True, text=True, timeout=PATIENCE, env=environment
        )
        if answer.returncode == REFUSED:
            raise UserError(json.loads(answer.stdout.splitlines()[-1]))


def unexamined(plan: Plan) -> list[Stage]:
    """Of the stages that a plan runs one for each network, method, batch size and scope of pruning.

    Of those only where the network or the images are not ours, or where settings have patterns of its parameters.
    """
    stages: dict[tuple[Any, ...], Stage] = {}
    for part in plan.runnable.values():
        stage, root = whole_of(part), part.root
        if stage.prune != ALL or (stage is root and _is_foreign(root)):
            train = root.train
            patterns = (train.freeze, train.lr_scale, stage.prune)
            chosen = (root.dataset, root.model, root.task, root.method.name)
            key = (*chosen, train.batch_size, train.precision, patterns)
            stages.setdefault(key, stage)
    return list(stages.values())


def _is_foreign(stage: TrainStage) -> bool:
    model, dataset = stage.model.name, stage.dataset
    if stage.train.freeze or stage.train.lr_scale:
        return True
    if model.startswith("timm:") or model in (*TORCHVISION, TRANSFORMERS) or is_own_folder(dataset):
        return True
    return any(module_of(kind, getattr(stage, kind).name) for kind in ("model", "dataset", "task"))


def absent_data(trials: Iterable[TrialSpec], folder: str) -> Iterator[str]:
    """A sentence for each dataset of the trials that is not in the data folder."""
    for dataset in dict.fromkeys(trial.dataset for trial in trials):
        problem = absent(dataset, folder)
        if problem:
            yield problem


def unusable_device(device: str) -> Iterator[str]:
    """A sentence when a GPU is asked for that torch does not find; loads torch only where one is asked for."""
    if not device.startswith("cuda"):
        return
    import torch

    count = torch.cuda.device_count()
    if not count:
        yield f"--device {device}: torch finds no GPU on this machine: leave it out, or see `prunesweep doctor`"
    elif int(device.partition(":")[2] or 0) >= count:
        yield f"--device {device}: torch finds {count} GPU{'s' * (count > 1)} here, numbered from 0"


def ray_folder() -> str | None:
    """Where the embedded Ray keeps its sockets and logs; None is its own choice, `ray` in the temporary folder.

    Another user of the machine may have made that one.
    """
    _, folder = _temporary_folder()
    usual = Path(folder) / "ray"
    return f"{usual}-{os.getuid()}" if usual.exists() and not os.access(usual, os.W_OK | os.X_OK) else None


def _temporary_folder() -> tuple[str, str]:
    """The variable that says where, and what it says, as Ray reads them."""
    name = "RAY_TMPDIR" if os.environ.get("RAY_TMPDIR") else "TMPDIR"
    return name, (os.environ.get(name) or "/tmp").rstrip("/")


def unusable_places() -> Iterator[str]:
    """A sentence for each place of this machine that Ray needs and cannot use."""
    name, folder = _temporary_folder()
    most = SOCKET_PATH - RAY_PATH - (len(f"-{os.getuid()}") if ray_folder() else 0)
    if len(os.fsencode(folder)) > most:
        yield f"{name} is {folder}, too long for the sockets that Ray puts there: set it to at most {most} characters"
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield f"{name} is {folder}, where Ray cannot write: set RAY_TMPDIR to a folder of your own"
    elif (free := shutil.disk_usage(folder).free) < RAY_SPACE:
        yield (
            f"{name} is {folder}, where {size(free)} are free and Ray wants {size(RAY_SPACE)}: "
            "make room, or set RAY_TMPDIR to another folder"
        )
    home = Path.home()
    if os.environ.get("RAY_AUTH_MODE") == "disabled" or (home / ".ray" / "auth_token").is_file():
        return
    try:
        (home / ".ray").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home / ".ray"):
            pass
        with suppress(OSError):  # Ray makes it again; whoever only looks leaves nothing behind
            (home / ".ray").rmdir()
    except OSError as error:
        yield f"HOME is {home}, where Ray cannot write its token ({error.strerror}): set HOME to a folder of your own"
