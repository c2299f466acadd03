"""From what a sweep file says of trained weights to the hash of their content, held against each network."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunesweep.workers import data, models
from prunesweep.workers.data.facts import facts_of
from prunesweep.workers.encoding import encode
from prunesweep.workers.errors import UserError
from prunesweep.workers.init import known, places
from prunesweep.workers.models.options import is_cifar
from prunesweep.workers.models.torchvision_names import RESNETS, VGGS
from prunesweep.workers.spec import Init, TrialSpec
from prunesweep.workers.store import NETWORK, Store

if TYPE_CHECKING:
    from torch import Tensor, nn

    from prunesweep.workers.data.base import Dataset

NEAR = 0.01
"""Of images in [0, 1]: means and deviations that differ by no more are the same."""

StageOf = Callable[[str, str], tuple[str, str]]
"""From a sweep's name and the beginning of a trial's key in the store to that key and its last stage's."""


@dataclass(frozen=True)
class Supply:
    """From where a run gets weights that the store lacks: a file of this machine, or a stage of a store."""

    path: Path | None = None
    key: str | None = None
    store: Store | None = None
    stage: str = ""

    @property
    def digest(self) -> str:
        """Of the bytes, so that what was found out about them is known again."""
        if self.store is None:
            assert self.path is not None
            return known.file_digest(self.path)
        result = self.store.result(self.stage)
        if result is None:
            raise UserError(f"stage {self.stage} of that trial has no result that is whole; run its sweep again")
        return str(result["files"][NETWORK])

    def read(self) -> dict[str, Tensor]:
        """The tensors by name; raises `UserError`."""
        from prunesweep.workers.checkpoint import opened, weights_of
        from prunesweep.workers.init.reading import read_weights, unprefixed

        if self.store is None:
            assert self.path is not None
            return read_weights(self.path, self.key)
        network = opened(self.store.read_published(self.stage, NETWORK), self.stage, NETWORK)
        return unprefixed(weights_of(network))


@dataclass
class Weights:
    """The weights that trials start from, looked up once for each file and network.

    `supplies` are by hash. `starts` say in a line each what starts from what.
    """

    data_folder: str
    store: Store
    stage_of: StageOf
    supplies: dict[str, Supply] = field(default_factory=dict)
    starts: dict[str, None] = field(default_factory=dict)
    contents: dict[tuple[str, str], tuple[Init, Mapping[str, Any]]] = field(default_factory=dict)
    fitting: set[Any] = field(default_factory=set)

    def resolved(self, trial: TrialSpec) -> TrialSpec:
        """The trial with the hash of its weights; raises `UserError` where they are not there or do not fit."""
        if trial.init is None or trial.init.given is None:
            return trial
        asked = (trial.init.weights, trial.model.name)
        if asked not in self.contents:
            self.contents[asked] = self._looked_up(trial.init, trial.model.name)
        hashed, content = self.contents[asked]
        init = replace(hashed, new_head=trial.init.new_head, fine_tunes=trial.init.fine_tunes)
        resolved = replace(trial, init=init)
        network = (init.weights, init.new_head, trial.model, trial.dataset)
        if network not in self.fitting:
            self._require_fit(resolved, content["shapes"])
            self._compare_normalisation(trial.init.given, resolved)
            self.fitting.add(network)
        return resolved

    def _looked_up(self, init: Init, model: str) -> tuple[Init, Mapping[str, Any]]:
        given = init.given
        assert given is not None
        supply = self._supply(given, model)
        key = supply.key or ""
        content = known.remembered("content", supply.digest, key)
        if content is None:
            content = _content(supply.read())
            known.remember(content, "content", supply.digest, key)
        self.supplies[content["weights"]] = supply
        return replace(init, weights=content["weights"], source=places.name_of(given)), content

    def _supply(self, given: dict[str, Any], model: str) -> Supply:
        if "sweep" in given:
            given["trial"], stage = self.stage_of(given["sweep"], given["trial"])
            return Supply(store=self.store, stage=stage)
        return Supply(places.locate(given, model, self.data_folder), given.get("key"))

    def _require_fit(self, trial: TrialSpec, shapes: Mapping[str, Any]) -> None:
        assert trial.init is not None
        choices = [json.dumps(encode(choice), sort_keys=True) for choice in (trial.model, trial.dataset)]
        of = ("fitting", trial.init.weights, str(trial.init.new_head), *choices)
        fit = known.remembered(*of)
        if fit is None:
            fit = self._fit(trial, shapes)
            if fit:
                known.remember(fit, *of)
        if fit.get("head"):
            self.starts[f"{trial.init}: {trial.model} starts with random {', '.join(fit['head'])}"] = None
        else:
            self.starts[f"{trial.init}"] = None

    def _compare_normalisation(self, given: Mapping[str, Any], trial: TrialSpec) -> None:
        """Say where the network sees other values than it was trained on."""
        init = trial.init
        assert init is not None
        theirs, facts = places.normalisation(given, trial.model.name), facts_of(trial.dataset, self.data_folder)
        if theirs is None or facts is None or facts.mean is None or facts.deviation is None:
            return
        ours = facts.mean, facts.deviation
        if any(
            abs(a - b) > NEAR
            for mine, other in zip(ours, theirs, strict=True)
            for a, b in zip(mine, other, strict=False)
        ):
            there, here = (" and deviation ".join(map(_numbers, values)) for values in (theirs, ours))
            self.starts[
                f"{init.source} knows images normalised by mean {there}; {trial.dataset} has mean {here}: the network "
                "must train to adapt to that"
            ] = None

    def _fit(self, trial: TrialSpec, shapes: Mapping[str, Any]) -> dict[str, Any]:
        """The tensors of a new head; nothing where the images are not here, whose classes count."""
        from prunesweep.workers.init.fitting import differences, outline, shapes_in
        from prunesweep.workers.seeding import preserved

        try:
            dataset = data.load(trial.dataset, str(Path(self.data_folder).absolute()))
        except UserError:  # the plan tells of absent images; the stage that loads the weights compares them, too
            return {}
        assert trial.init is not None

        def build(classes: int) -> nn.Module:
            return models.build(trial.model, dataset.shape, classes)

        with preserved():
            network = outline(build, dataset.classes)
            shapes = shapes_in(build(dataset.classes), shapes)
        if trial.init.new_head and not network.head:
            raise UserError(f"head: new is for a classifier that depends on the classes, and {trial.model} has none")
        differing = differences(network, shapes, trial.init.new_head)
        if not differing.names:
            return {"head": sorted(network.head) if trial.init.new_head else []}
        if not trial.init.new_head and differing.names <= network.head:
            classes = next((other[0] for _, other in differing.shapes.values()), "other")
            raise UserError(
                f"{trial.init.source} has a classifier for {classes} classes, and {trial.dataset} has "
                f"{dataset.classes}: add head: new, with which {', '.join(sorted(network.head))} start at random"
            )
        raise UserError(f"{trial.init.source} does not fit {trial.model}: {differing}; {_advice(trial, dataset)}")


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def _content(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    from prunesweep.workers.init.fitting import shapes_of
    from prunesweep.workers.init.reading import content_hash

    return {"weights": content_hash(tensors), "shapes": shapes_of(tensors)}


def _advice(trial: TrialSpec, dataset: Dataset) -> str:
    """What most often is the reason."""
    name, settings = trial.model.name, trial.model.settings
    for option, family in (("stem", RESNETS), ("head", VGGS)):
        form = settings.get(option)
        if name in family and isinstance(form, str) and is_cifar(form, dataset.shape):
            size = "x".join(map(str, dataset.shape[1:]))
            return (
                f"for images of {size} pixels {name} has the form of CIFAR: for ImageNet's write "
                f"model: {{name: {name}, {option}: imagenet}}"
            )
    return "give as model the network that they were trained in, with its options"
