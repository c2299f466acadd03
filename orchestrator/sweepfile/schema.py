"""JSON Schema of sweep files, for editors; made of the models that check the files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from prunesweep.orchestrator.sweepfile.grammar import SWEEP, block_model
from prunesweep.orchestrator.sweepfile.starting import JSON_SCHEMA
from prunesweep.workers.data import DATASETS
from prunesweep.workers.methods import METHODS
from prunesweep.workers.models import MODELS
from prunesweep.workers.models.folder_config import TRANSFORMERS
from prunesweep.workers.registry import Entry
from prunesweep.workers.tasks import TASKS

FOREIGN = {"type": "string", "pattern": r"^[\w.]+:\w+$"}
"""`module:name`, a third party's."""

MODEL = {"type": "string", "pattern": r"^([\w.]+:\w+|wrn\d+x\d+)$"}
"""A model that no registry lists: one of these, or a WideResNet of any size."""

FROM_FOLDER = {
    "type": "object",
    "required": ["name", "path"],
    "properties": {"name": {"const": TRANSFORMERS}, "path": {"type": "string"}},
    "additionalProperties": False,
}
"""A model that a folder describes."""


class _Generator(GenerateJsonSchema):
    """Without titles that repeat the key and defaults that say nothing; a value or an axis is `anyOf`."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        return {"anyOf": super().tagged_union_schema(schema)["oneOf"]}

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        inner = schema["schema"] if schema.get("default") is None else schema
        return self.generate_inner(inner) if inner is not schema else super().default_schema(schema)


def sweep_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of sweep files, for editors; what needs the sums of a cell is checked on reading."""
    blocks = {name: block_model(name) for name in sorted(METHODS)}
    refs, made = models_json_schema(
        [(model, "validation") for model in (SWEEP, *blocks.values())], schema_generator=_Generator
    )
    definitions = made["$defs"]
    names = {model: refs[model, "validation"]["$ref"].rpartition("/")[2] for model in (SWEEP, *blocks.values())}
    for block in blocks.values():
        _let_search_give(definitions[names[block]])
    top = definitions.pop(names[SWEEP])
    top["properties"]["trials"]["items"] = {
        "type": "object",
        "required": ["method"],
        "properties": {"method": definitions[names[blocks["dense"]]]["properties"]["method"]},
        "allOf": [_if_method(method, names[model]) for method, model in blocks.items()],
    }
    choices = {
        "dataset": _choices(DATASETS, FOREIGN),
        "model": _choices(MODELS, MODEL, FROM_FOLDER),
        "method": {"anyOf": [{"enum": sorted(METHODS)}, FOREIGN]},
        "task": _choices(TASKS, FOREIGN),
        "init": JSON_SCHEMA,
    }
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **top, "$defs": {**definitions, **choices}}
    linked: dict[str, Any] = _linked(whole)
    return linked


def _let_search_give(block: dict[str, Any]) -> None:
    """A setting that a method cannot do without may be in the space of a search instead."""
    settings = [key for key in block["required"] if key != "method"]
    if settings:
        block["required"] = ["method"]
        block["anyOf"] = [{"required": ["search"]}, {"required": settings}]


def _if_method(method: str, definition: str) -> dict[str, Any]:
    named = {"anyOf": [{"const": method}, {"type": "array", "contains": {"const": method}}]}
    return {
        "if": {"required": ["method"], "properties": {"method": named}},
        "then": {"$ref": f"#/$defs/{definition}"},
    }


def _choices(registry: Mapping[str, Entry], unlisted: Mapping[str, Any], *more: Mapping[str, Any]) -> dict[str, Any]:
    """A name, or a mapping with a name and that entry's options; of an `unlisted` one the options are not known."""
    others = {"type": "object", "required": ["name"], "properties": {"name": unlisted}}
    mappings = [
        {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"enum": names}, **{option: _json_type(v) for option, v in options}},
            "additionalProperties": False,
        }
        for options, names in _by_options(registry).items()
    ]
    return {"anyOf": [{"enum": sorted(registry)}, unlisted, *mappings, *more, others]}


def _by_options(registry: Mapping[str, Entry]) -> dict[tuple[tuple[str, Any], ...], list[str]]:
    """Names that have the same options with the same types, so that ninety models are not ninety schemas."""
    names: dict[tuple[tuple[str, Any], ...], list[str]] = {}
    for name, entry in sorted(registry.items()):
        options = {**entry.options, **entry.later}
        names.setdefault(tuple(sorted((o, _kind(v)) for o, v in options.items())), []).append(name)
    return names


def _kind(default: Any) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", tuple: "array"}
    return kinds.get(type(default), "")


def _json_type(kind: str) -> dict[str, Any]:
    return {"type": kind} if kind else {}


def _linked(schema: Any) -> Any:
    """The schema with references where a dataset, model or method is named."""
    if isinstance(schema, list):
        return [_linked(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "x-choice" in schema:
        return {"$ref": f"#/$defs/{schema['x-choice']}"}
    return {key: _linked(value) for key, value in schema.items()}
