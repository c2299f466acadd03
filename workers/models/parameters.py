"""The names of a model's parameters, looked up before anything is trained, and remembered. No torch until then."""

from __future__ import annotations

import json
from pathlib import Path

from prunesweep.workers import data, models
from prunesweep.workers.choice import Choice
from prunesweep.workers.encoding import encode
from prunesweep.workers.errors import UserError
from prunesweep.workers.init import known


def remembered_names(model: Choice, dataset: Choice) -> list[str]:
    """Those of the last time, maybe of another version of the model's library; none where there was no such time."""
    return list((known.remembered(*_words(model, dataset)) or {}).get("names", []))


def parameter_names(model: Choice, dataset: Choice, data_folder: str) -> list[str]:
    """Those of the model for this dataset, which is built; none where its images are not here, or do not fit it."""
    from prunesweep.workers.seeding import preserved

    try:
        images = data.load(dataset, str(Path(data_folder).absolute()))
        with preserved():
            names = [name for name, _ in models.build(model, images.shape, images.classes).named_parameters()]
    except UserError:  # the plan tells of absent images, and the first stage of the rest
        return []
    known.remember({"names": names}, *_words(model, dataset))
    return names


def _words(model: Choice, dataset: Choice) -> tuple[str, ...]:
    return ("parameters", *(json.dumps(encode(choice), sort_keys=True) for choice in (model, dataset)))
