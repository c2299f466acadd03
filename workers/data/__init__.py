"""The datasets. Adding one is a file beside this one and a line here; this file stays free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from workers import registry
from workers.registry import Entry
from workers.spec import Choice

if TYPE_CHECKING:
    from workers.data.base import Dataset

DATASETS: dict[str, Entry] = {
    "digits": Entry("workers.data.digits:digits"),
    "cifar10": Entry("workers.data.cifar:cifar10"),
    "cifar100": Entry("workers.data.cifar:cifar100"),
    "synthetic": Entry(
        "workers.data.synthetic:synthetic",
        {"shape": (3, 32, 32), "classes": 10, "images": 5000, "test_images": 1000},
    ),
}


def choose(name: str, options: Mapping[str, Any]) -> Choice:
    """A dataset by name with its options complete; raises `UserError` on what it does not have."""
    return registry.choose("dataset", DATASETS, name, options)


# A worker process runs many stages, nearly always of one dataset; two bounds the memory that old ones hold.
@lru_cache(maxsize=2)
def load(choice: Choice, folder: str) -> Dataset:
    """The dataset, in memory; files are looked for in `folder`. The result is shared: do not write to it."""
    dataset: Dataset = registry.build("dataset", DATASETS, choice, folder)
    return dataset
