"""What a plan must know of a dataset, remembered from when it was last loaded. No torch until it is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from prunesweep.workers import data
from prunesweep.workers.choice import Choice
from prunesweep.workers.encoding import encode
from prunesweep.workers.errors import UserError
from prunesweep.workers.init import known


@dataclass(frozen=True)
class Facts:
    """How many images are trained on, and what they are normalised by, as of images in [0, 1]; None if not known."""

    images: int
    mean: list[float] | None
    deviation: list[float] | None


def facts_of(dataset: Choice, data_folder: str) -> Facts | None:
    """Those of a dataset; None where its images are not here."""
    folder = str(Path(data_folder).absolute())
    words = ("facts", json.dumps(encode(dataset), sort_keys=True), folder)
    remembered = known.remembered(*words)
    if remembered is not None:
        return Facts(**remembered)
    try:
        images = data.load(dataset, folder)
    except UserError:
        return None
    facts = Facts(images.count("train"), *(_listed(images, name) for name in ("mean", "std")))
    known.remember(asdict(facts), *words)
    return facts


def _listed(images: object, name: str) -> list[float] | None:
    """In units of the brightest value; datasets in memory and folders of images have it."""
    values = getattr(images, name, None)
    if values is None:
        return None
    return [float(value) / getattr(images, "brightest", 255) for value in values]
