"""The tokens of a text by a `tokenizer.json`, as the package tokenizers reads it: no code of anybody's runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunesweep.workers.errors import UserError


def tokenized(content: bytes, file: Path, tokenizer: Path) -> tuple[NDArray[Any], int]:
    """The tokens of a text, without those that mark its begin and end, and the size of the vocabulary.

    Raises `UserError` for what is no text, and no tokenizer.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"dataset text: {file} is no text in UTF-8, as a tokenizer needs it: {error}") from error
    made = _read(tokenizer)
    made.no_truncation()
    made.no_padding()
    ids = made.encode(text, add_special_tokens=False).ids
    return np.array(ids, dtype=np.int64), max(made.get_vocab(with_added_tokens=True).values(), default=0) + 1


def _read(file: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise UserError("tokenizers is not installed here: pip install 'prunesweep[transformers]'") from error
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # it has no class of its own
        raise UserError(f"dataset text: {file} is no tokenizer: {error}") from error
