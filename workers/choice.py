"""A name out of a registry with its options: a trial's dataset, model, method and task. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prunesweep.workers.encoding import added

Value = str | int | float | bool | None | tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """A name out of a registry (dataset, model, method or task) with its options, every default spelled out.

    `fingerprint` stands for what the name leads to outside the registry: one's own source, one's own images
    (`workers.fingerprints`). What is in the registry has none.
    """

    name: str
    options: tuple[tuple[str, Value], ...] = field(default=(), metadata={"pairs": True})
    fingerprint: str | None = added(None)

    @classmethod
    def of(cls, name: str, options: Mapping[str, Value] | None = None, fingerprint: str | None = None) -> Choice:
        """The choice with its options in canonical order."""
        return cls(name, tuple(sorted((options or {}).items())), fingerprint)

    @property
    def settings(self) -> dict[str, Value]:
        """The options as a dict."""
        return dict(self.options)

    def __str__(self) -> str:
        return self.name


KINDS = ("dataset", "model", "method", "task")
"""The fields of a trial that are a `Choice`."""

CLASSIFICATION = Choice("classification")
