"""A network that starts from trained weights, in the stage that does."""

from __future__ import annotations

from safetensors.torch import load as unpacked
from torch import nn

from prunesweep.workers import models
from prunesweep.workers.data.base import Dataset
from prunesweep.workers.errors import UserError
from prunesweep.workers.init.fitting import load, outline
from prunesweep.workers.seeding import preserved
from prunesweep.workers.spec import Choice, Init


def start_from(weights: bytes, init: Init, model: nn.Module, choice: Choice, dataset: Dataset) -> None:
    """Put the weights into the model that was made of `choice`, but for a new head, which stays as it was drawn."""
    with preserved():
        network = outline(lambda classes: models.build(choice, dataset.shape, classes), dataset.classes)
    try:
        with preserved():
            load(model, unpacked(weights), network, init.new_head)
    except UserError as error:
        raise UserError(f"{choice} cannot start from {init}: {error}") from error
