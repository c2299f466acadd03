"""Where trained weights are: from what a sweep file says to the file. No torch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prunesweep.workers.errors import UserError, nearest, unknown
from prunesweep.workers.models.torchvision_names import TORCHVISION

TIMM = "timm:"

SAVED = "model.safetensors"
"""Where transformers saves weights in a folder."""


def name_of(given: Mapping[str, Any]) -> str:
    """What weights are called in tables: the file's name, the tag, or sweep and trial."""
    if "path" in given:
        return Path(given["path"]).name
    if "sweep" in given:
        return f"{given['sweep']}/{given['trial'][:6]}"
    if "torchvision" in given:
        return str(given["torchvision"])
    return f"timm {given['timm']}" if isinstance(given["timm"], str) else "timm"


def locate(given: Mapping[str, Any], model: str, data_folder: str) -> Path:
    """The file with the weights; raises `UserError` that says which file is wanted, and how to get it."""
    if "path" in given:
        return _own_file(Path(given["path"]).expanduser())
    return (
        _torchvision(given["torchvision"], model, data_folder)
        if "torchvision" in given
        else _timm(given["timm"], model, data_folder)
    )


def _own_file(path: Path) -> Path:
    """The file, or that of a folder of transformers."""
    if path.is_dir() and (path / SAVED).is_file():
        return path / SAVED
    if path.is_dir() and (path / f"{SAVED}.index.json").is_file():
        raise UserError(
            f"{path} has its weights in several files ({SAVED}.index.json); save them as one, with "
            "model.save_pretrained(FOLDER, max_shard_size='1TB')"
        )
    if path.exists():
        return path
    if not path.parent.is_dir():
        raise UserError(f"{path}: no such file; there is no folder {path.parent} either")
    closest = nearest(path.name, [other.name for other in path.parent.iterdir()])
    raise UserError(f"{path}: no such file, and a path is relative to the sweep file{closest}")


def normalisation(given: Mapping[str, Any], model: str) -> tuple[list[float], list[float]] | None:
    """Mean and deviation of images in [0, 1] by which those were normalised that weights were trained on.

    None where only their author knows. The weights are those of `locate`.
    """
    if "torchvision" in given:
        import torchvision

        images = torchvision.models.get_model_weights(model)[given["torchvision"]].transforms()
        return [*images.mean], [*images.std]
    if "timm" in given:
        config = _timm_config(given["timm"], model)
        return [*config.mean], [*config.std]
    return None


# --- torchvision's


def _torchvision(tag: str, model: str, data_folder: str) -> Path:
    if model not in TORCHVISION:
        raise UserError(
            f"torchvision has no weights for {model}, which is none of its models; give the file with them: "
            "{path: FILE}"
        )
    import torchvision

    weights = torchvision.models.get_model_weights(model)
    if tag not in weights.__members__:
        names = [*weights.__members__]
        raise UserError(unknown(f"weights of torchvision's {model}", tag, names))
    url = weights[tag].url
    name = url.rpartition("/")[2]
    places = [_torch_hub() / name, Path(data_folder) / name]
    return _present(places, name, url)


def _torch_hub() -> Path:
    """As `torch.hub.get_dir` has it, which would load torch."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return Path(os.environ.get("TORCH_HOME") or cache / "torch").expanduser() / "hub" / "checkpoints"


def _present(places: list[Path], name: str, address: str) -> Path:
    for place in places:
        if place.is_file():
            return place
    folder = places[0].parent
    raise UserError(
        f"{name} is neither in {folder} nor in {places[-1].parent}; fetch it from {address} into either of them, such "
        f"as with: curl --create-dirs -o {places[-1]} {address}"
    )


# --- timm's


def _timm(tag: str | bool, model: str, data_folder: str) -> Path:
    if not model.startswith(TIMM):
        raise UserError(f"timm has no weights for {model}; its models are called timm:NAME; or give {{path: FILE}}")
    try:
        import timm
    except ModuleNotFoundError as error:
        raise UserError("timm is not installed here: pip install 'prunesweep[timm]'") from error
    name = model.removeprefix(TIMM)
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
    if not tags:
        raise UserError(f"timm has no trained weights of {name}; give the file with yours: {{path: FILE}}")
    if isinstance(tag, str) and tag not in tags:
        raise UserError(unknown(f"weights of {model}", tag, tags))
    config = _timm_config(tag, model)
    return _timm_file(config, f"{name}.{config.tag}.safetensors", data_folder)


def _timm_config(tag: str | bool, model: str) -> Any:
    import timm

    name = model.removeprefix(TIMM)
    config = timm.models.get_pretrained_cfg(f"{name}.{tag}" if isinstance(tag, str) else name)
    assert config is not None, "it is one of those listed"
    return config


def _timm_file(config: Any, name: str, data_folder: str) -> Path:
    places = [*_timm_places(config), Path(data_folder) / name]
    for place in places:
        if place.is_file():
            return place
    if config.hf_hub_id:
        address = f"https://huggingface.co/{config.hf_hub_id}/resolve/main/model.safetensors"
    else:
        address = config.url
    raise UserError(
        f"{name} is neither in the cache of Hugging Face ({_hugging_face()}) nor in {data_folder}; fetch it, such as "
        f"with: curl -L --create-dirs -o {places[-1]} {address}"
    )


def _timm_places(config: Any) -> Iterator[Path]:
    if config.hf_hub_id:
        snapshots = _hugging_face() / f"models--{config.hf_hub_id.replace('/', '--')}" / "snapshots"
        named = [config.hf_hub_filename] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
        for file in named:
            yield from sorted(snapshots.glob(f"*/{file}"), key=lambda place: place.stat().st_mtime, reverse=True)
    if config.url:
        yield _torch_hub() / config.url.rpartition("/")[2]


def _hugging_face() -> Path:
    """As huggingface_hub has it."""
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
