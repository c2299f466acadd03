"""What a stage starts from, and what must be done before it. Light to import: no torch."""

from __future__ import annotations

from dataclasses import replace

from prunesweep.workers.spec import PartStage, PruneStage, Scope, Stage, TrainStage, path


def rewound(stage: Stage) -> PartStage | None:
    """The part of the root's training whose network the stage takes up again; None where it is the random one."""
    whole = stage.whole if isinstance(stage, PartStage) else stage
    if not isinstance(whole, PruneStage) or not whole.rewind_epoch:
        return None
    return PartStage(whole.root, whole.rewind_epoch)


def data_epoch(stage: Stage) -> int:
    """The epoch of the data order with which a stage begins; after a rewind it is that of the root's training."""
    if isinstance(stage, PruneStage) and stage.rewind_epoch is not None:
        return stage.rewind_epoch
    return stage.start_epoch


def needed(stage: Stage) -> list[Stage]:
    """The stages that must have their results before this one begins."""
    return [before for before in (rewound(stage), stage.parent) if before is not None]


def work(stage: Stage) -> list[Stage]:
    """This stage and all that must be done before it, in an order in which it can be."""
    stages = path(stage)
    parts = [part for step in stages if (part := rewound(step)) is not None]
    return [*{part.key: part for part in parts}.values(), *stages]


def scoped(stage: TrainStage | PruneStage, scope: Scope) -> TrainStage | PruneStage:
    """The stage and those before it with that scope; dense training, which prunes nothing, serves all scopes."""
    if isinstance(stage, PruneStage):
        return replace(stage, parent=scoped(stage.parent, scope), prune=scope)
    return stage if stage.method.name == "dense" else replace(stage, prune=scope)
