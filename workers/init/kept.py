"""The weights that stages start from, in the store by the hash of their content: `weights/<hash>.safetensors`.

A run puts them there, so that every node finds them. No torch until they are read.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from prunesweep.workers.errors import UserError
from prunesweep.workers.files import Files
from prunesweep.workers.spec import Init

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "weights"

HASH = re.compile(r"[0-9a-f]{20}")

AGAIN = "run the sweep's file again, where the file with the weights is"

log = logging.getLogger("prunesweep")


def file_name(weights: str) -> str:
    """In the store's folder; raises `UserError` for what is no hash, since it may be out of a record."""
    if not HASH.fullmatch(weights):
        raise UserError(f"{weights!a} is not the hash of weights; {AGAIN}")
    return f"{weights}.safetensors"


def has_weights(weights: str, store: Files) -> bool:
    """Whether the store has them; they are not read."""
    return store.are_files([(FOLDER, file_name(weights))])[0]


def put_weights(tensors: Mapping[str, Tensor], weights: str, store: Files) -> None:
    """Keep them in the store."""
    from prunesweep.workers.checkpoint import pack_tensors

    store.write(pack_tensors(tensors), FOLDER, file_name(weights))


def stored_weights(init: Init, store: Files) -> bytes:
    """The file with the weights, read and held against their hash; raises `UserError`, and sets a damaged one aside."""
    data = store.read(FOLDER, file_name(init.weights))
    if data is None:
        raise UserError(f"the store has no weights {init} to start from; {AGAIN}")
    if not is_whole(data, init.weights):
        aside = store.set_file_aside(FOLDER, file_name(init.weights))
        raise UserError(f"the weights {init} in the store are damaged, and set aside as {aside}; {AGAIN}")
    return data


def is_whole(data: bytes, weights: str) -> bool:
    """Whether the bytes of a file are those of weights with this hash."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    from prunesweep.workers.init.reading import content_hash

    try:
        return content_hash(load(data)) == weights
    except SafetensorError:
        return False
