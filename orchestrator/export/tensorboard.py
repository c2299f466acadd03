"""A finished trial as a run of TensorBoard: one event file, byte for byte the same each time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2
from tensorboard.summary.writer.record_writer import RecordWriter

from prunesweep.orchestrator.export.trials import FinishedTrial
from prunesweep.workers.appearing import appearing

FILE = "events.out.tfevents.0.prunesweep"
"""TensorBoard looks for `tfevents` in the name, and reads a folder's files in the order of their names."""


def write(trial: FinishedTrial, folder: Path) -> None:
    """Write a trial into a folder of its own, over what was exported there before."""
    place = folder / trial.name
    place.mkdir(parents=True, exist_ok=True)
    with appearing(place / FILE) as temporary, temporary.open("wb") as file:
        writer = RecordWriter(file)
        for event in _events(trial):
            writer.write(event.SerializeToString())


def _events(trial: FinishedTrial) -> Iterator[Event]:
    """All events, at the time when the trial finished: the tables do not have the times of epochs."""
    time, last = trial.finished_at.timestamp(), max((epoch for epoch, _ in trial.curve), default=0)
    yield Event(wall_time=time, file_version="brain.Event:2")
    yield Event(wall_time=time, summary=_settings(trial, time))
    for epoch, values in trial.curve:
        yield _scalars(time, epoch, {f"curve/{name}": value for name, value in values.items()})
    yield _scalars(time, last, {f"final/{name}": value for name, value in trial.results.items()})
    yield Event(wall_time=time, summary=_end(time))


def _scalars(time: float, epoch: int, values: dict[str, float]) -> Event:
    scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
    return Event(wall_time=time, step=epoch, summary=Summary(value=scalars))


def _settings(trial: FinishedTrial, time: float) -> Summary:
    """The settings in a fixed order, which maps in a protobuf message do not have by themselves."""
    said = summary_v2.hparams_pb(trial.settings, trial_id=trial.key, start_time_secs=time)
    for value in said.value:
        about = plugin_data_pb2.HParamsPluginData.FromString(value.metadata.plugin_data.content)
        value.metadata.plugin_data.content = about.SerializeToString(deterministic=True)
    return said


def _end(time: float) -> Summary:
    """The end of the run; TensorBoard's own library makes this event only where TensorFlow is installed."""
    ended = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time)
    about = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=ended))
    return Summary(
        value=[Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=about, tensor=metadata.NULL_TENSOR)]
    )
