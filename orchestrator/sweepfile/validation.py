"""Strict pydantic models of mappings in a sweep file, and their errors as sentences for whoever wrote the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from prunesweep.orchestrator.sweepfile.document import Loc, Problem, Rejected, shown
from prunesweep.orchestrator.sweepfile.hints import hint
from prunesweep.orchestrator.sweepfile.settings import AXIS, VALUE
from prunesweep.workers.errors import unknown

Settings = dict[str, tuple[Any, Any, str]]
"""Key -> type, default (`...` when it must be given) and help."""


def validate(model: type[BaseModel], value: Any, loc: Loc = ()) -> dict[str, Any]:
    """The mapping with its values checked, in the order of the file; raises `Rejected` with all its problems."""
    try:
        return _given(model.model_validate(value), value)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
        raise Rejected(*(_problem(model, loc, dict(detail)) for detail in details)) from error


def strict_model(
    name: str, keys: Settings, doc: str | None = None, extra: Mapping[str, Any] | None = None
) -> type[BaseModel]:
    """A strict model with these keys; attributes get another spelling, so that no key collides with pydantic's own."""
    config = ConfigDict(
        **{"extra": "forbid", "strict": True, "allow_inf_nan": False, "frozen": True},
        title=name,
        json_schema_extra=dict(extra or {}),
        defer_build=True,  # most verbs read no sweep file, and building all models takes a sixth of a second
    )
    declared: dict[str, Any] = {
        f"{key}_": (of, Field(default, alias=key, description=help)) for key, (of, default, help) in keys.items()
    }
    return create_model(name, __config__=config, __doc__=(doc or name).split("\n")[0], **declared)


def _given(model: BaseModel, value: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that the file has, in its order."""
    return {name: _plain(getattr(model, f"{name}_"), value[name]) for name in value}


def _plain(checked: Any, value: Any) -> Any:
    if isinstance(checked, BaseModel):
        return _given(checked, value)
    if isinstance(checked, list) and checked and isinstance(checked[0], BaseModel):
        return [_given(model, item) for model, item in zip(checked, value, strict=True)]
    return checked


# --- problems


def _problem(model: type[BaseModel], start: Loc, error: Mapping[str, Any]) -> Problem:
    loc: Loc = tuple(part for part in error["loc"] if part not in (AXIS, VALUE))
    return Problem((*start, *loc), _message(model, loc, error))


def _message(model: type[BaseModel], loc: Loc, error: Mapping[str, Any]) -> str:
    match error["type"]:
        case "not_allowed":
            return str(error["msg"])
        case "missing":
            return f"missing: {_help(model, loc)}"
        case "extra_forbidden":
            inner = _at(model, loc[:-1])
            keys = [field.alias or "" for field in inner.model_fields.values()]
            what, key = f"key of {inner.model_config['title']}", str(loc[-1])
            meant = hint(key, keys)
            return f'unknown {what} "{key}": {meant}' if meant else unknown(what, key, keys)
        case "too_short":
            return "an empty list is not allowed: give at least one value"
        case "list_type":
            return f"{shown(error['input'])} is not allowed: a list ({_help(model, loc)})"
        case _:
            return f"{shown(error['input'])} is not allowed: a mapping of settings"


def _at(model: type[BaseModel], loc: Loc) -> type[BaseModel]:
    for part in loc:
        if isinstance(part, str):
            inner: Any = model.model_fields[f"{part}_"].annotation
            model = get_args(inner)[0] if get_origin(inner) is list else inner
    return model


def _help(model: type[BaseModel], loc: Loc) -> str:
    return _at(model, loc[:-1]).model_fields[f"{loc[-1]}_"].description or ""
