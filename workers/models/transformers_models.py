"""Models of the package transformers, from a folder: {name: transformers, path: FOLDER}, where that is installed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from prunesweep.workers.errors import UserError, nearest
from prunesweep.workers.models.folder_config import TRANSFORMERS, canonical, described, parsed

ERRORS = (RuntimeError, ValueError, TypeError, LookupError, AssertionError, AttributeError)
"""What transformers raises where settings do not fit together; its own kind comes on top."""

INSTALL = f"{TRANSFORMERS} is not installed here: pip install 'prunesweep[{TRANSFORMERS}]'"


def build(shape: tuple[int, int, int], classes: int, *, config: str = "") -> nn.Module:
    """The network that a `config.json` describes, with random weights; nothing is downloaded, and no code but
    that of transformers runs.

    A causal language model takes tokens int64 [B, T] and gives logits [B, T, vocabulary]; a classifier of images takes
    them in the `shape` and with the `classes` of the dataset. Its tensors are called as transformers calls them. Raises
    `UserError` for an architecture that is neither, and for settings that do not fit together.
    """
    said, name, kind = _read(config)
    if kind == "images":
        said |= _of_images(said, shape, classes)
    with _quiet():
        network: nn.Module = _made(_network(name, kind, classes), said, config)
        return network


@cache
def require_makeable(config: str) -> None:
    """Raise `UserError` unless transformers can make the network; on the meta device, where it takes no memory."""
    said, name, _ = _read(config)
    with _quiet(), torch.device("meta"):
        _made(getattr(_transformers(), name), said, config)


def _read(config: str) -> tuple[dict[str, Any], str, str]:
    """The settings, the architecture that they name, and what it takes; they may be out of anybody's record."""
    said = json.loads(canonical(parsed(config)))
    name = said["architectures"][0]
    return said, name, _kind(name)


def _made(cls: Any, said: Mapping[str, Any], config: str) -> Any:
    from huggingface_hub.errors import StrictDataclassError

    settings = {name: value for name, value in said.items() if name not in ("model_type", "architectures")}
    try:
        made = _transformers().AutoConfig.for_model(said["model_type"], **settings, use_cache=False)
        return cls._from_config(made, dtype=torch.float32)
    except (*ERRORS, ArithmeticError, ImportError, StrictDataclassError) as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"model {described(config)}: its config.json makes no network: {what[:300]}") from error


def _kind(name: str) -> str:
    """What the architecture takes, `tokens` or `images`; raises `UserError` for one that transformers does not have."""
    _transformers()
    from transformers.models.auto import modeling_auto as known

    names: dict[str, str] = {}
    for kind, mapping in (
        ("tokens", known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
        ("images", known.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES),
    ):
        for classes in mapping.values():
            names |= dict.fromkeys([classes] if isinstance(classes, str) else classes, kind)
    if name not in names:
        raise UserError(
            f"unknown architecture {name}: of transformers {_transformers().__version__} causal language models "
            f"(...ForCausalLM, ...LMHeadModel) and classifiers of images (...ForImageClassification) are taken"
            f"{nearest(name, names)}"
        )
    return names[name]


def _network(name: str, kind: str, classes: int) -> Any:
    """The architecture as a network from tokens or images to logits, which knows the names that its files have."""
    base: Any = getattr(_transformers(), name)

    class Network(base):  # type: ignore[misc]
        def forward(self, inputs: Tensor) -> Tensor:
            if kind == "tokens":
                _require_tokens(self, name, classes, inputs)
                tokens: Tensor = super().forward(input_ids=inputs).logits
                return tokens
            if not inputs.is_floating_point():
                raise UserError(f"model {name} takes images, and gets tokens: take a dataset of images")
            logits: Tensor = super().forward(pixel_values=inputs).logits
            return logits

        def translated(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return _translated(base, self.config, tensors)

    Network.__name__ = Network.__qualname__ = name
    return Network


def _translated(base: Any, config: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As transformers itself loads them: with names of earlier versions, without the prefix of the whole network, and
    with tensors that it holds as one. Tied tensors have all their names.
    """
    with _quiet():
        loaded, about = base.from_pretrained(
            None,
            config=config,
            state_dict=dict(tensors),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            local_files_only=True,
            dtype=torch.float32,
        )
    other_shapes = {name: torch.empty(shape, device="meta") for name, shape, _ in about["mismatched_keys"]}
    unknown = {name: tensors.get(name, torch.empty(0)) for name in about["unexpected_keys"]}
    own = {name: tensor for name, tensor in loaded.state_dict().items() if name not in about["missing_keys"]}
    return {**own, **other_shapes, **unknown}


def _require_tokens(model: Any, name: str, classes: int, tokens: Tensor) -> None:
    if tokens.is_floating_point():
        raise UserError(f"model {name} takes tokens, and gets images: take the dataset text, or one of your own")
    vocabulary = model.config.vocab_size
    if classes > vocabulary:
        raise UserError(
            f"model {name} has a vocabulary of {vocabulary:,} tokens, and the dataset {classes:,}: take the tokenizer "
            "that the model was made for, or set vocab_size in its config.json"
        )
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and tokens.shape[1] > longest:
        raise UserError(
            f"model {name} takes sequences of up to {longest:,} tokens, and the dataset's have {tokens.shape[1]:,}: "
            "give it a smaller context"
        )


def _of_images(said: Mapping[str, Any], shape: tuple[int, int, int], classes: int) -> dict[str, Any]:
    """The settings that the dataset answers; a network that does not know one does without."""
    size = shape[1] if shape[1] == shape[2] else list(shape[1:])
    answers = {"image_size": size, "num_channels": shape[0]}
    return {**{name: value for name, value in answers.items() if name in said}, "num_labels": classes}


def _transformers() -> ModuleType:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise UserError(INSTALL) from error
    module: ModuleType = transformers
    return module


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what transformers prints of settings that it does not use, and of its progress."""
    logging = _transformers().logging
    before, shows_progress = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if shows_progress:
            logging.enable_progress_bar()
