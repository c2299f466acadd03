"""What the `config.json` of a model of the package transformers says, as a text that is part of a key. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunesweep.workers.errors import UserError
from prunesweep.workers.spec import Choice, Value

TRANSFORMERS = "transformers"
"""The name of these models in a sweep file."""

CONFIG = "config.json"

IGNORED = frozenset(
    (
        *("transformers_version", "dtype", "torch_dtype", "use_cache", "torchscript", "return_dict", "tokenizer_class"),
        *("id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params"),
        *("output_attentions", "output_hidden_states", "attn_implementation", "experts_implementation"),
    )
)
"""Settings that change no number here: versions, types and labels, which the sweep says, and how results are given."""

ELSEWHERE = {
    "auto_map": "names code of its own, which is never run: take a model that transformers has, or one of your own",
    "quantization_config": "describes quantized weights, which masks cannot prune: take the folder of the plain model",
    "backbone": "takes a part of its network from elsewhere, which is not fetched: take a model that has all of it",
}
"""Settings that lead out of the folder, and what to do instead."""

SIZES = (("num_hidden_layers", "n_layer", "num_layers"), ("hidden_size", "n_embd", "d_model"))


def configured(options: Mapping[str, Any]) -> dict[str, Any]:
    """A model's options with what `config.json` says in the place of `path`; raises `UserError`."""
    given = dict(options)
    if "config" in given:
        return {**given, "config": canonical(parsed(given["config"]))}
    if not isinstance(path := given.pop("path", None), str) or not path:
        raise UserError(
            f"model {TRANSFORMERS} is described by the {CONFIG} in a folder: {{name: {TRANSFORMERS}, path: FOLDER}}; "
            "the small network that needs none is called transformer"
        )
    return {**given, "config": read_config(Path(path).expanduser())}


def read_config(folder: Path) -> str:
    """What is in the folder's `config.json` that matters, as JSON in canonical order; raises `UserError`."""
    file = folder / CONFIG
    if not file.is_file():
        raise UserError(
            f"there is no {file}, which describes the model: save it there with model.save_pretrained, or fetch the "
            "model's folder; a path is relative to the sweep file"
        )
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is no JSON text: {error}") from error
    return canonical(parsed(text, str(file)), str(file))


def parsed(text: Any, source: str = CONFIG) -> Any:
    """The settings in a text; raises `UserError`."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{source} is no JSON text: {error}") from error


def canonical(said: Any, source: str = CONFIG) -> str:
    """The text of these settings, without those that change no number; `UserError` where they make no network here."""
    if not isinstance(said, dict) or not isinstance(said.get("model_type"), str):
        raise UserError(f"{source} describes no model of transformers: it has no model_type")
    for setting, why in ELSEWHERE.items():
        if said.get(setting):
            raise UserError(f"{source} has {setting}: it {why}")
    if architecture(said) is None:
        given = json.dumps(said.get("architectures"))
        raise UserError(
            f'{source}: architectures is {given}; name one, such as ["GPT2LMHeadModel"], as model.save_pretrained does'
        )
    return json.dumps(_kept(said), sort_keys=True)


def architecture(said: Mapping[str, Any]) -> str | None:
    """The one class that the settings name, or None."""
    given = said.get("architectures")
    return given[0] if isinstance(given, list) and len(given) == 1 and isinstance(given[0], str) else None


def described(config: str) -> str:
    """`GPT2LMHeadModel 2x64 1a2b3c`: the architecture, its layers by its width, and a hash of all settings."""
    said = parsed(config)
    sizes = [next((str(said[name]) for name in names if isinstance(said.get(name), int)), "") for names in SIZES]
    digest = hashlib.sha256(config.encode()).hexdigest()[:6]
    return " ".join(filter(None, (architecture(said), "x".join(filter(None, sizes)), digest)))


def shown(choice: Choice) -> Mapping[str, Value]:
    """The options of a dataset, model or task for people, where a `config.json` is a few words."""
    settings = choice.settings
    config = settings.get("config")
    if choice.name != TRANSFORMERS or not isinstance(config, str):
        return settings
    return {**settings, "config": described(config)}


def _kept(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _kept(held) for name, held in value.items() if name not in IGNORED and not name.startswith("_")}
    return [_kept(item) for item in value] if isinstance(value, list) else value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")
