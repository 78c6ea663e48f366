"""JSON schemas in convenient forms, brought to text. No torch in here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from audioflamingo.errors import OptionError

MAX_SCHEMA_CHARS = 100_000
_JSON_KINDS = {list: "list", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}


def as_schema(given: Any) -> str | None:
    """The text of a JSON schema.

    Args:
        given: a dict, its text, a pydantic class, or None for no schema. Of a class, only its own fields may come.

    Raises:
        OptionError: it is none of these, or too large.
    """
    if given is None:
        return None
    value = given
    if hasattr(given, "model_json_schema"):
        value = _closed(given.model_json_schema())
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise OptionError(f"schema is no JSON: {str(error)[:100]}; give a JSON schema") from error
    if not isinstance(value, Mapping):
        kind = f"JSON {_JSON_KINDS[type(value)]}" if isinstance(given, str) else type(given).__name__
        raise OptionError(
            f"schema is a {kind}, allowed: a JSON schema, which is an object, as a dict or text, or a pydantic class"
        )
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise OptionError(f"schema cannot be written as JSON: {str(error)[:100]}") from error
    if len(text) > MAX_SCHEMA_CHARS:
        raise OptionError(f"schema has {len(text):,} characters; at most {MAX_SCHEMA_CHARS:,} are allowed")
    return text


def _closed(schema: Any) -> Any:
    """The same schema, every object of which that lists its properties allows no others where it does not say so."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {name: _closed(value) for name, value in schema.items()}
    if isinstance(found.get("properties"), Mapping) and found.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found
