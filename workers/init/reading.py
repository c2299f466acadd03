"""Weights out of files that may be anybody's: safetensors, or PyTorch's with `weights_only`. No code in them runs."""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from prunesweep.workers.checkpoint import storable
from prunesweep.workers.errors import UserError, unknown
from prunesweep.workers.json_tensors import JSON

WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "network", "model_ema", "state_dict_ema", "ema")
"""Keys under which training scripts keep a network's weights in their checkpoints."""

PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
"""Begin the names of all weights of a network that was wrapped: by DataParallel, `torch.compile`, Lightning, ..."""

AVERAGED = "n_averaged"
"""What `torch.optim.swa_utils.AveragedModel` counts beside the weights, which are under `module.`."""

SAVE = "save its weights alone, with torch.save(model.state_dict(), FILE)"

HOW = "weights are read from .safetensors and from PyTorch files (.pt, .pth)"


def read_weights(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """The tensors of a network by name, without the prefixes of wrappers; raises `UserError`.

    `key` says under which of its keys a checkpoint keeps them, where there are several.
    """
    loaded = _loaded(path)
    tensors = storable(_network(path, loaded, key))
    if not tensors:
        raise UserError(f"{path} holds no weights: {SAVE}")
    _require_finite(path, tensors)
    return unprefixed(tensors)


def unprefixed(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The same with names that lack the prefix of a wrapper, where all have it."""
    names = [name for name in tensors if name != AVERAGED]
    for prefix in PREFIXES:
        if names and all(name.startswith(prefix) for name in names):
            return unprefixed({name.removeprefix(prefix): tensors[name] for name in names})
    return dict(tensors)


def content_hash(tensors: Mapping[str, Tensor]) -> str:
    """Twenty hexadecimal digits that name these weights, whatever file they are in: of names, types, shapes, bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:20]


# --- files


def _loaded(path: Path) -> Any:
    if path.is_dir():
        raise UserError(f"{path} is a folder; name the file with the weights: {HOW}")
    if not path.is_file():
        raise UserError(f"{path} is no file, but a pipe or a device; {HOW}")
    try:
        start = path.open("rb").read(16)
        if path.suffix == ".safetensors" or _is_safetensors(start):
            return load_file(path)
        if not (zipfile.is_zipfile(path) or start[:1] == b"\x80"):
            raise UserError(f"{path} is {_kind(start)}, not weights; {HOW}: was it fetched whole?")
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except safetensors.SafetensorError as error:
        raise UserError(f"{path} is no whole safetensors file ({error}); fetch or save it again") from error
    except pickle.UnpicklingError as error:
        raise UserError(_refused(path, str(error))) from error
    except (RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        said = str(error).strip().partition("\n")[0]
        raise UserError(f"{path} cannot be read as weights ({said[:120]}); {SAVE}, or fetch it again") from error


def _is_safetensors(start: bytes) -> bool:
    """They begin with the length of a JSON text, which no pickle and no zip file does."""
    return len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**32


def _kind(start: bytes) -> str:
    if not start:
        return "an empty file"
    try:
        text = start.decode().strip()
    except UnicodeDecodeError:
        return "a file of another kind"
    return "a web page" if text.startswith("<") else "a text file"


def _refused(path: Path, said: str) -> str:
    """A pickle may run any code, so that of these only tensors and plain values are read."""
    named = re.search(r"GLOBAL ([\w.]+)", said)
    what = f" ({named[1]})" if named else ""
    return f"{path} holds Python objects{what}, and loading them could run any code, so it is not loaded: {SAVE}"


# --- what is in them


def _network(path: Path, loaded: Any, key: str | None) -> Mapping[str, Any]:
    if not isinstance(loaded, Mapping):
        raise UserError(f"{path} holds a {type(loaded).__name__}, not weights by name: {SAVE}")
    if key is not None:
        inner = loaded.get(key)
        if not isinstance(inner, Mapping) or not _holds_tensors(inner):
            raise UserError(f"{path}: {unknown('key with weights', key, [str(k) for k in _networks(loaded)])}")
        return {str(name): value for name, value in inner.items()}
    if any(isinstance(value, Tensor) for value in loaded.values()):
        return loaded
    networks = _networks(loaded)
    if len(networks) > 1:
        several = ", ".join(networks)
        raise UserError(f"{path} holds several networks, {several}: name one with key, as in key: {networks[0]}")
    if networks:
        return _network(path, loaded[networks[0]], None)
    keys = ", ".join(str(name) for name in list(loaded)[:5])
    raise UserError(f"{path} holds no weights, but {keys or 'nothing'}: {SAVE}")


def _networks(loaded: Mapping[Any, Any]) -> list[str]:
    named = [name for name in WRAPPERS if _holds_tensors(loaded.get(name))]
    others = [name for name, value in loaded.items() if name not in WRAPPERS and name != "optimizer"]
    return named or [name for name in others if _holds_tensors(loaded[name])]


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(inner, Tensor) for inner in value.values())


def _require_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if name.endswith(JSON):
            continue
        if tensor.layout is not torch.strided or tensor.is_quantized:
            raise UserError(f"{path}: {name} is sparse or quantized; save it as a dense tensor of numbers")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError(f"{path}: {name} has values that are not finite (NaN or infinity); its training diverged")
