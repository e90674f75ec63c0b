"""The JSON schema of the files below conf/, by which editors complete and check them: from the types that commands check them by.

Command line::

    python -m ppdl.config.schema --write     write conf/schema.json
    python -m ppdl.config.schema --check     exit 1 when conf/schema.json is out of step
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

import yaml
from hydra.utils import get_object

from ppdl.config.check import Sizes, sections
from ppdl.config.compose import keep_in_step
from ppdl.config.place import CONF
from ppdl.config.reference import conf_files, prefix, read_fields

FILE = CONF / "schema.json"
ANY = {"$ref": "#/definitions/component"}


def schema() -> dict[str, Any]:
    """Return the schema: what a section may hold follows from its `_target_`, else from its name at the top."""
    meanings = {field.name: field.meaning for field in read_fields() if field.meaning}
    places: dict[str, str] = {}
    for file in conf_files():
        text = (CONF / file).read_text(encoding="utf-8")
        for target, place in _components(yaml.safe_load(text), prefix(file, text)):
            places.setdefault(target, place)
    targets = sorted(places)
    named = {name: _of(cls, f"{name}.", meanings) for name, cls in sections().items()}
    parts = {place.rstrip(".").rpartition(".")[2]: ANY for place in places.values() if not place.startswith("attacks.")}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "conf/ of ppdl: written by `python -m ppdl.config.schema --write`",
        **ANY,
        "definitions": {
            "component": {
                "type": ["object", "null"],  # a section may be left out
                "properties": {"_target_": {"enum": targets}, **parts},
                "allOf": [
                    {
                        "if": {"type": "object", "not": {"required": ["_target_"]}},  # else its class says what its fields are
                        "then": {"properties": _of(Sizes, "", meanings)["properties"] | named},
                    },
                    *(
                        {
                            "if": {"type": "object", "required": ["_target_"], "properties": {"_target_": {"const": target}}},
                            "then": _of(get_object(target), places[target], meanings, {"_target_": {"const": target}}),
                        }
                        for target in targets
                    ),
                ],
            }
        },
    }


def _components(node: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield each `_target_` in a file, with where in the configuration its arguments are."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield node["_target_"], place
        for key, inner in node.items():
            yield from () if key == "hydra" else _components(inner, f"{place}{key}.")


def _of(cls: type, place: str, meanings: Mapping[str, str], more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the schema of what a class takes, with what is said of each argument below conf/."""
    hints = get_type_hints(cls, include_extras=True) or get_type_hints(cls.__init__, include_extras=True)  # type: ignore[misc]
    fields = {name: _type(hints.get(name, Any)) for name in inspect.signature(cls).parameters}
    said = {name: {"description": meanings[f"{place}{name}"]} for name in fields if f"{place}{name}" in meanings}
    return {
        "type": "object",
        "properties": {**(more or {}), **{n: fields[n] | said.get(n, {}) for n in fields}},
        "additionalProperties": False,
    }


def _type(hint: Any) -> dict[str, Any]:
    """Return the schema of a type; a class of ours is a section with a `_target_` of its own, an interpolation stands for any value."""
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError

    try:
        found = TypeAdapter(hint).json_schema()
    except (PydanticInvalidForJsonSchema, PydanticSchemaGenerationError):
        return {}
    if "$defs" in found or found.get("type") == "object":
        return {}
    return {"anyOf": [found, {"type": "string", "pattern": r"^\$\{"}]}


def main(argv: list[str] | None = None) -> int:
    """Write or check conf/schema.json."""
    return keep_in_step("ppdl.config.schema", "conf/schema.json", FILE, lambda: (json.dumps(schema(), indent=1) + "\n").encode(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
