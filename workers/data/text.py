"""A text file, byte by byte or as the tokens of a tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from prunesweep.workers.data.base import Batches, Dataset, SplitName, epoch_generator
from prunesweep.workers.data.own_files import root_of, tokenizer_of
from prunesweep.workers.errors import UserError

BYTES = 256
LEAST = 10
"""Windows that a text must have, so that each split has one."""


@dataclass(frozen=True, eq=False)
class Text(Dataset):
    """Windows of tokens int64 [N, T + 1] in three splits; inputs are the first T, targets the last T of a window."""

    name: str
    splits: dict[str, Tensor]
    classes: int = BYTES
    targets: str = "tokens"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(1, 1, T): what a network gets is [B, T]."""
        return 1, 1, self.splits["train"].shape[1] - 1

    def count(self, split: SplitName) -> int:
        """How many windows a split has."""
        return len(self.splits[split])

    def to(self, device: torch.device | str, processes: int = 0) -> Text:
        """The same on another device."""
        return replace(self, splits={name: windows.to(device) for name, windows in self.splits.items()})

    def train_batches(
        self, *, seed: int, epoch: int, batch_size: int, augment: bool, dtype: torch.dtype = torch.float32
    ) -> Batches:
        """One epoch in an order of its own; a text is not augmented, and tokens are whole numbers in any `dtype`."""
        windows = self.splits["train"]
        order = torch.randperm(len(windows), generator=epoch_generator(seed, epoch)).to(windows.device)
        for places in torch.split(order, batch_size):
            yield windows[places, :-1], windows[places, 1:]

    def evaluation_batches(self, split: SplitName, *, batch_size: int, dtype: torch.dtype = torch.float32) -> Batches:
        """A split in the order of the text."""
        for windows in torch.split(self.splits[split], batch_size):
            yield windows[:, :-1], windows[:, 1:]


def text(folder: str, *, path: str = "text.txt", context: int = 128, tokenizer: str = "") -> Text:
    """A file's bytes in windows of `context` that follow each other; the last tenth is the test set.

    The tenth before that is the validation set. With `tokenizer`, a `tokenizer.json` or its folder, these are tokens
    instead of bytes. Raises `UserError` for a file that is too short.
    """
    unit = "tokens" if tokenizer else "bytes"
    if context < 2:
        raise UserError(f"dataset text: context: {context} is not allowed: at least 2 {unit}")
    file = root_of("text", path, folder)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"dataset text: {file} cannot be read: {error.strerror}") from error
    tokens, vocabulary = np.frombuffer(content, dtype=np.uint8), BYTES
    if tokenizer:
        from prunesweep.workers.data.tokens import tokenized

        tokens, vocabulary = tokenized(content, file, tokenizer_of(tokenizer, folder))
    count = (len(tokens) - 1) // context
    if count < LEAST:
        raise UserError(
            f"dataset text: {file} has {len(tokens):,} {unit}, and {LEAST} windows of context {context} need "
            f"{LEAST * context + 1:,}: take a longer text, or a smaller context"
        )
    starts = np.arange(count)[:, None] * context + np.arange(context + 1)
    windows = torch.from_numpy(tokens[starts].astype(np.int64))
    tenth = count // LEAST
    cuts = {"train": slice(0, count - 2 * tenth), "validation": slice(count - 2 * tenth, count - tenth)}
    splits = {name: windows[cut] for name, cut in (cuts | {"test": slice(count - tenth, count)}).items()}
    return Text("text", splits, vocabulary)
