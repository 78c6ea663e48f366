"""Limits for what a JSON schema leaves without an end: whole numbers, strings, and lists. No torch in here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MAX_DIGITS = 15
MAX_CHARS = 200
MAX_ITEMS = 32
MAX_INTEGER = 10**MAX_DIGITS - 1
_OF_ONE = ("items", "additionalProperties", "contains")
_OF_MANY = ("anyOf", "oneOf", "prefixItems")
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions")
_FIXED = ("enum", "const")
_SHAPED = ("pattern", "format")  # their length is theirs, and beside maxLength not every one can be met


def limited(schema: str) -> str:
    """The text of the same schema, with limits where it states none; what it does state stays as it is.

    Whole numbers get at most 15 digits, strings 200 characters and lists 32 items. Parts of an `allOf` are left alone,
    because each has to agree with the others.
    """
    return json.dumps(_limited(json.loads(schema)))


def _limited(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    found = dict(schema)
    for key in _OF_ONE:
        if key in found:
            found[key] = _limited(found[key])
    for key in _OF_MANY:
        if isinstance(found.get(key), list):
            found[key] = [_limited(one) for one in found[key]]
    for key in _BY_NAME:
        if isinstance(found.get(key), Mapping):
            found[key] = {name: _limited(one) for name, one in found[key].items()}
    if "allOf" not in found and "$ref" not in found and not any(key in found for key in _FIXED):
        _limit(found)
    return found


def _limit(schema: dict[str, Any]) -> None:
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "integer" in kinds and "number" not in kinds:
        if not any(key in schema for key in ("maximum", "exclusiveMaximum")):
            schema["maximum"] = max(MAX_INTEGER, _number(schema, "minimum"), _number(schema, "exclusiveMinimum") + 1)
        if not any(key in schema for key in ("minimum", "exclusiveMinimum")):
            schema["minimum"] = min(-MAX_INTEGER, _number(schema, "maximum"), _number(schema, "exclusiveMaximum") - 1)
    if "string" in kinds and "maxLength" not in schema and not any(key in schema for key in _SHAPED):
        schema["maxLength"] = max(MAX_CHARS, _number(schema, "minLength"))
    if "array" in kinds and "maxItems" not in schema:
        prefix = schema.get("prefixItems")
        num_first = len(prefix) if isinstance(prefix, list) else 0
        schema["maxItems"] = max(MAX_ITEMS, num_first, _number(schema, "minItems"))


def _number(schema: Mapping[str, Any], key: str) -> Any:
    """A number that a schema states, whole where it can be; 0 for anything else, of which the grammar complains."""
    value = schema.get(key, 0)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if is_number and abs(value) < float("inf") else 0
