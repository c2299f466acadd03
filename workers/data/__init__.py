"""The datasets. Adding one is a file beside this one and a line here; this file stays free of torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from prunesweep.workers import registry
from prunesweep.workers.errors import UserError
from prunesweep.workers.registry import Entry
from prunesweep.workers.spec import Choice, Value

if TYPE_CHECKING:
    from prunesweep.workers.data.base import Dataset

VALIDATION: dict[str, Value] = {"validation_fraction": 0.1, "validation_seed": 0, "stratify": False}
"""How the validation set is drawn: `workers.data.splits`; `validation` of a sweep file sets these."""

DATASETS: dict[str, Entry] = {
    "digits": Entry("prunesweep.workers.data.digits:digits", later=VALIDATION),
    "mnist": Entry("prunesweep.workers.data.vision:mnist", later=VALIDATION),
    "fashion_mnist": Entry("prunesweep.workers.data.vision:fashion_mnist", later=VALIDATION),
    "cifar10": Entry("prunesweep.workers.data.vision:cifar10", later=VALIDATION),
    "cifar100": Entry("prunesweep.workers.data.vision:cifar100", later=VALIDATION),
    "svhn": Entry("prunesweep.workers.data.vision:svhn", later=VALIDATION),
    "stl10": Entry("prunesweep.workers.data.vision:stl10", later=VALIDATION),
    "image_folder": Entry(
        "prunesweep.workers.data.folder:image_folder",
        {"path": ".", "size": 224, "crop": "resized", "layout": "auto"},
        later=VALIDATION,
    ),
    "tiny_imagenet": Entry(
        "prunesweep.workers.data.folder:tiny_imagenet",
        {"path": "tiny-imagenet-200", "size": 64, "crop": "padded"},
        later=VALIDATION,
    ),
    "imagenet": Entry("prunesweep.workers.data.folder:imagenet", {"path": "imagenet", "size": 224}, later=VALIDATION),
    "mask_folder": Entry(
        "prunesweep.workers.data.masks:mask_folder",
        {"path": ".", "classes": 2, "size": 256, "images": "images", "masks": "masks"},
        targets="masks",
    ),
    "voc": Entry("prunesweep.workers.data.masks:voc", {"path": "VOCdevkit/VOC2012", "size": 256}, targets="masks"),
    "text": Entry(
        "prunesweep.workers.data.text:text",
        {"path": "text.txt", "context": 128},
        later={"tokenizer": ""},
        targets="tokens",
    ),
    "synthetic": Entry(
        "prunesweep.workers.data.synthetic:synthetic",
        {"shape": (3, 32, 32), "classes": 10, "images": 5000, "test_images": 1000},
        later=VALIDATION,
    ),
}


def choose(name: str, options: Mapping[str, Any]) -> Choice:
    """A dataset by name with its options complete; raises `UserError` on what it does not have."""
    return registry.choose("dataset", DATASETS, name, options)


def with_validation(choice: Choice, options: Mapping[str, Value]) -> Choice:
    """The dataset with other validation images, by options of `VALIDATION`; raises `UserError` where it has its own."""
    entry = registry.find("dataset", DATASETS, choice.name)
    lacks = [option for option in VALIDATION if option not in {**entry.options, **entry.later}]
    if lacks:
        raise UserError(
            f"dataset {choice.name} draws its validation images itself; leave out validation, or give its function the "
            f"keyword {lacks[0]}, as docs/data.md says"
        )
    return choose(choice.name, {**choice.settings, **options})


# A worker process runs many stages, nearly always of one dataset; two bounds the memory that old ones hold.
@lru_cache(maxsize=2)
def load(choice: Choice, folder: str) -> Dataset:
    """The dataset; files are looked for in `folder`. The result is shared: do not write to it.

    Raises `UserError` when the choice's fingerprint is of other files.
    """
    from prunesweep.workers.fingerprints import require_content

    require_content(choice, folder)
    from prunesweep.workers.data.base import Dataset

    dataset = registry.build("dataset", DATASETS, choice, folder)
    if not isinstance(dataset, Dataset):
        raise UserError(f"dataset {choice.name} made a {type(dataset).__name__}, not a prunesweep.Dataset")
    return dataset


def function(dataset: str, name: Literal["check", "files", "present", "fetch"]) -> Callable[[str, str], Any] | None:
    """A function of that name in the module where a dataset lives, called with the dataset's name and a folder.

    A module need not have it. All raise `UserError` with a remedy. `check` returns the dataset's files after it has
    read every one of them; `present` looks as closely as seconds allow; `fetch` downloads what is missing or damaged.
    """
    module = import_module(registry.find("dataset", DATASETS, dataset).target.partition(":")[0])
    optional: Callable[[str, str], Any] | None = getattr(module, name, None)
    return optional
