"""Weights out of files: equal ones are the same whatever they are wrapped in, and others are refused in a sentence."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from prunesweep.workers import models
from prunesweep.workers.checkpoint import storable
from prunesweep.workers.errors import UserError
from prunesweep.workers.init.fitting import differences, load, outline, shapes_of
from prunesweep.workers.init.kept import has_weights, put_weights, stored_weights
from prunesweep.workers.init.places import locate
from prunesweep.workers.init.reading import content_hash, read_weights, unprefixed
from prunesweep.workers.spec import Choice, Init
from prunesweep.workers.store import Store

RESNET8 = models.choose("resnet8", {"width": 4})


def network(classes: int = 10, channels: int = 1, choice: Choice = RESNET8) -> nn.Module:
    torch.manual_seed(7)
    return models.build(choice, (channels, 8, 8), classes)


STATE = network().state_dict()
HASH = content_hash(STATE)


def prefixed(prefix: str) -> dict[str, Any]:
    return {f"{prefix}{name}": tensor for name, tensor in STATE.items()}


WRAPPED = {
    "alone": STATE,
    "under state_dict": {"state_dict": STATE, "epoch": 3, "optimizer": {"state": {}}},
    "under model": {"model": STATE, "args": {"lr": 0.1}},
    "under a key of one's own": {"weights_of_mine": STATE, "optimizer": {"lr": torch.tensor(0.1)}},
    "DataParallel": prefixed("module."),
    "torch.compile": prefixed("_orig_mod."),
    "compiled in DataParallel": {"model_state_dict": prefixed("module._orig_mod.")},
    "Lightning": {"state_dict": prefixed("model."), "pytorch-lightning_version": "2.0"},
    "AveragedModel": {"n_averaged": torch.tensor(5), **prefixed("module.")},
}


@pytest.mark.parametrize("content", WRAPPED.values(), ids=WRAPPED)
def test_the_same_weights_have_one_hash_whatever_they_are_wrapped_in(content: Any, tmp_path: Path):
    torch.save(content, tmp_path / "net.pt")
    assert content_hash(read_weights(tmp_path / "net.pt")) == HASH


def test_a_safetensors_file_is_the_same_weights_under_any_name(tmp_path: Path):
    save_file(STATE, tmp_path / "net.safetensors", {"format": "pt"})
    save_file(STATE, tmp_path / "net.bin")
    assert {content_hash(read_weights(tmp_path / name)) for name in ("net.safetensors", "net.bin")} == {HASH}


@pytest.mark.parametrize("change", ["value", "type", "name", "shape"])
def test_other_weights_have_another_hash(change: str):
    other = {name: tensor.clone() for name, tensor in STATE.items()}
    first = next(iter(other))
    match change:
        case "value":
            other[first].view(-1)[0] += 1e-6
        case "type":
            other[first] = other[first].double()
        case "name":
            other["x"] = other.pop(first)
        case "shape":
            other[first] = other[first].reshape(-1)
    assert content_hash(other) != HASH


def test_a_layout_in_memory_is_no_part_of_weights():
    other = {n: t.to(memory_format=torch.channels_last) if t.dim() == 4 else t for n, t in STATE.items()}
    assert content_hash(other) == HASH


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch harmed",)


def written(file: str, write: Callable[[Path], object]) -> tuple[str, Callable[[Path], object]]:
    return file, write


WRONG = {
    "a text": ("x.pth", lambda f: f.write_text("not weights\n"), "x.pth is a text file, not weights; weights are read"),
    "a page": ("x.pth", lambda f: f.write_text("<!DOCTYPE html><html>"), "x.pth is a web page, not weights"),
    "empty": ("x.pth", lambda f: f.write_bytes(b""), "x.pth is an empty file, not weights"),
    "a text as safetensors": ("x.safetensors", lambda f: f.write_text("no"), "is no whole safetensors file"),
    "code": ("x.pth", lambda f: torch.save({"state_dict": Evil()}, f), "holds Python objects"),
    "a whole model": ("x.pth", lambda f: torch.save(network(), f), "torch.save(model.state_dict(), FILE)"),
    "a tensor": ("x.pth", lambda f: torch.save(torch.ones(3), f), "holds a Tensor, not weights by name: save its"),
    "settings": ("x.pth", lambda f: torch.save({"epoch": 3, "lr": 0.1}, f), "holds no weights, but epoch, lr: save"),
    "two": (
        "x.pth",
        lambda f: torch.save({"model": STATE, "model_ema": STATE}, f),
        "holds several networks, model, model_ema: name one with key, as in key: model",
    ),
    "NaN": (
        "x.pth",
        lambda f: torch.save({"a": torch.tensor([1.0, float("nan")])}, f),
        "a has values that are not fin",
    ),
    "a folder": ("x.pth", lambda f: f.mkdir(), "x.pth is a folder; name the file with the weights"),
    "a pipe": ("x.pth", os.mkfifo, "x.pth is no file, but a pipe or a device"),
}


@pytest.mark.parametrize(("file", "write", "answer"), WRONG.values(), ids=WRONG)
def test_what_is_no_weights_is_refused_in_a_sentence(
    file: str, write: Callable[[Path], object], answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / file)
    with pytest.raises(UserError) as refused:
        read_weights(tmp_path / file)
    assert answer in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "harmed").exists(), "the pickle's code ran"


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path):
    for name, write in (("x.pth", torch.save), ("x.safetensors", save_file)):
        write(STATE, tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UserError, match="x\\."):
            read_weights(tmp_path / name)


def test_a_key_chooses_one_of_several_networks(tmp_path: Path):
    other = {name: tensor + 1 for name, tensor in STATE.items()}
    torch.save({"model": STATE, "model_ema": other}, tmp_path / "x.pth")
    assert content_hash(read_weights(tmp_path / "x.pth", "model_ema")) == content_hash(other)
    with pytest.raises(UserError, match='unknown key with weights "ema": allowed are model, model_ema'):
        read_weights(tmp_path / "x.pth", "ema")


# --- whether they fit


def test_differences_are_named_both_ways_with_shapes():
    own = outline(network, 10)
    tensors = {**STATE, "extra.bias": torch.zeros(3)}
    del tensors["bn.weight" if "bn.weight" in tensors else next(iter(tensors))]
    tensors["fc.weight" if "fc.weight" in tensors else list(tensors)[-2]] = torch.zeros(5, 16)
    said = str(differences(own, shapes_of(tensors), new_head=False))
    assert "1 tensor that the file lacks (" in said
    assert "1 tensor that the network lacks (extra.bias [3])" in said
    assert "[10, 16], in the file [5, 16]" in said


def test_the_head_is_what_depends_on_the_number_of_classes():
    assert {name.rpartition(".")[2] for name in outline(network, 10).head} == {"weight", "bias"}
    assert len(outline(network, 10).head) == 2


def test_a_new_head_keeps_its_random_weights_and_all_others_are_loaded():
    model, own = network(4), outline(network, 4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError, match="of another shape"):
        load(model, STATE, own, new_head=False)
    load(model, STATE, own, new_head=True)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name] if name in own.head else STATE[name])


def test_counters_of_batch_norm_may_be_absent():
    old = {name: tensor for name, tensor in STATE.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(STATE)
    assert not differences(outline(network, 10), shapes_of(old), new_head=False).names


class Wrapping(nn.Module):
    """All of its names begin with `model.`, as those of files that are wrapped do."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.model = nn.Linear(4, classes)


def test_a_network_of_ones_own_may_have_a_wrappers_prefix():
    given = Wrapping(3).state_dict()
    model = Wrapping(3)
    load(model, unprefixed(storable(given)), outline(Wrapping, 3), new_head=False)
    assert torch.equal(model.model.weight, given["model.weight"])


# --- in the store


def test_the_store_keeps_weights_by_their_hash_and_notices_others(tmp_path: Path):
    store, init = Store(tmp_path), Init(HASH, source="net.pt")
    with pytest.raises(UserError, match=r"the store has no weights net\.pt"):
        stored_weights(init, store)
    put_weights(STATE, HASH, store)
    assert has_weights(HASH, store)
    assert stored_weights(init, store)
    file = tmp_path / "weights" / f"{HASH}.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match="are damaged, and set aside as"):
        stored_weights(init, store)
    assert not has_weights(HASH, store)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", '{"path": "/etc/passwd"}', "", "A" * 20])
def test_what_a_record_says_of_weights_leads_to_no_other_path(name: str, tmp_path: Path):
    with pytest.raises(UserError, match="is not the hash of weights"):
        stored_weights(Init(name), Store(tmp_path))


# --- where hubs keep them


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    return tmp_path


def touched(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_torchvisions_weights_are_found_in_torch_hubs_cache_and_in_the_data_folder(caches: Path):
    given, data = {"torchvision": "IMAGENET1K_V1"}, caches / "data"
    with pytest.raises(UserError) as refused:
        locate(given, "resnet18", str(data))
    address = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    assert f"fetch it from {address}" in str(refused.value)
    assert f"curl --create-dirs -o {data}/resnet18-f37072fd.pth" in str(refused.value)
    fetched = touched(data / "resnet18-f37072fd.pth")
    assert locate(given, "resnet18", str(data)) == fetched
    cached = touched(caches / "torch/hub/checkpoints/resnet18-f37072fd.pth")
    assert locate(given, "resnet18", str(data)) == cached


def test_a_tag_that_there_is_not_and_a_model_without_weights(caches: Path):
    with pytest.raises(
        UserError, match='"IMAGENET1K_V2": allowed are DEFAULT, IMAGENET1K_V1; did you mean "IMAGENET1K_V1"'
    ):
        locate({"torchvision": "IMAGENET1K_V2"}, "resnet18", "data")
    with pytest.raises(UserError, match="torchvision has no weights for resnet8, which is none of its models"):
        locate({"torchvision": "IMAGENET1K_V1"}, "resnet8", "data")


def test_timms_weights_are_found_in_hugging_faces_cache_and_in_the_data_folder(caches: Path):
    pytest.importorskip("timm")
    data = caches / "data"
    with pytest.raises(UserError, match=r"resnet18\.a1_in1k\.safetensors is neither in the cache of Hugging Face"):
        locate({"timm": True}, "timm:resnet18", str(data))
    with pytest.raises(UserError, match='unknown weights of timm:resnet18 "tv": allowed are a1_in1k'):
        locate({"timm": "tv"}, "timm:resnet18", str(data))
    fetched = touched(data / "resnet18.tv_in1k.safetensors")
    assert locate({"timm": "tv_in1k"}, "timm:resnet18", str(data)) == fetched
    cached = touched(caches / "hf/models--timm--resnet18.a1_in1k/snapshots/1a2b/model.safetensors")
    assert locate({"timm": True}, "timm:resnet18", str(data)) == cached
    with pytest.raises(UserError, match="timm has no weights for resnet18; its models are called timm:NAME"):
        locate({"timm": True}, "resnet18", str(data))


def test_a_file_that_is_not_there_is_asked_about(tmp_path: Path):
    touched(tmp_path / "resnet18.pth")
    said = r'resnet18\.pt: no such file, and a path is relative to the sweep file; did you mean "resnet18\.pth"\?$'
    with pytest.raises(UserError, match=said):
        locate({"path": str(tmp_path / "resnet18.pt")}, "resnet18", "data")


# --- a tensor with two names


class Tied(nn.Module):
    """An embedding that is the last layer's matrix, too."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.embedding, self.last = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.last.weight = self.embedding.weight
        self.head = nn.Linear(3, classes)


@pytest.mark.parametrize("left_out", ["embedding.weight", "last.weight", None])
def test_a_tensor_of_two_names_needs_one_of_them(left_out: str | None):
    """As `safetensors.torch.save_model` leaves one out, and `torch.save` does not."""
    given, model = Tied(), Tied()
    tensors = {name: tensor for name, tensor in given.state_dict().items() if name != left_out}
    network = outline(Tied, 5)
    assert not differences(network, shapes_of(tensors), False).names
    load(model, tensors, network, False)
    assert torch.equal(model.embedding.weight, given.embedding.weight)
    assert model.last.weight is model.embedding.weight


def test_two_names_of_a_tensor_must_have_one_value():
    tensors = {name: tensor.clone() for name, tensor in Tied().state_dict().items()}
    tensors["last.weight"][0, 0] += 1
    with pytest.raises(
        UserError, match=r"embedding\.weight and last\.weight are one tensor in the network, and the file"
    ):
        load(Tied(), tensors, outline(Tied, 5), False)
    del tensors["last.weight"], tensors["embedding.weight"]
    said = str(differences(outline(Tied, 5), shapes_of(tensors), False))
    assert said == "2 tensors that the file lacks (embedding.weight [5, 3], last.weight [5, 3])"
