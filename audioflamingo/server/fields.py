"""Fields of a JSON object, read one by one; what nobody asked for is refused by name. No framework here."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from audioflamingo.server.errors import ApiError, refused

SHOWN_CHARS = 60


def parse_object(body: bytes) -> dict[str, Any]:
    """A request's JSON object.

    Raises:
        ApiError: it is none.
    """
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:100]
        raise refused(f"the body is no JSON: {reason}; send one JSON object in UTF-8", code="invalid_json") from error
    if not isinstance(value, dict):
        raise refused(f"the body is {kind_of(value)}; send one JSON object", code="invalid_json")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def kind_of(value: Any) -> str:
    """What a JSON value is called."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def shown(value: Any) -> str:
    """A value in an error: its beginning, on one line."""
    text = json.dumps(value, ensure_ascii=True, default=str)[: 2 * SHOWN_CHARS]
    return text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS - 3]}..."


class Fields:
    """An object's fields; a null counts as none."""

    def __init__(self, values: Mapping[str, Any], path: str = "") -> None:
        self._values = {name: value for name, value in values.items() if value is not None}
        self._path = path
        self._seen: set[str] = set()

    @property
    def names(self) -> frozenset[str]:
        """Those that came."""
        return frozenset(self._values)

    def path(self, name: str) -> str:
        """How an error names a field."""
        return f"{self._path}.{name}" if self._path else name

    def has(self, name: str) -> bool:
        """Whether it came."""
        return name in self._values

    def take(self, name: str) -> Any:
        """Its value, whatever that is; None where it did not come."""
        self._seen.add(name)
        return self._values.get(name)

    def needed(self, name: str, hint: str) -> Any:
        """Its value.

        Raises:
            ApiError: it did not come; `hint` says what to send.
        """
        value = self.take(name)
        if value is None:
            raise refused(f"{self.path(name)} is missing; {hint}", self.path(name), "missing_field")
        return value

    def text(self, name: str, default: str | None = None, *, allowed: Iterable[str] = ()) -> str | None:
        """A string, one of those allowed where any are listed."""
        value = self.take(name)
        if value is None:
            return default
        choices = tuple(allowed)
        if not isinstance(value, str) or (choices and value not in choices):
            self.wrong(name, value, f"one of {', '.join(map(repr, choices))}" if choices else "a string")
        return str(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self.take(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.wrong(name, value, "true or false")
        return bool(value)

    def whole(self, name: str, minimum: int, maximum: int = 2**63 - 1) -> int | None:
        """A whole number."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
            most = "or more" if maximum == 2**63 - 1 else f"to {maximum}"
            self.wrong(name, value, f"a whole number, {minimum} {most}")
        return int(value)

    def number(self, name: str, minimum: float, maximum: float) -> float | None:
        """A number."""
        value = self.take(name)
        if value is None:
            return None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not minimum <= value <= maximum or not math.isfinite(value):
            self.wrong(name, value, f"a number, {minimum:g} to {maximum:g}")
        return float(value)

    def object(self, name: str) -> Fields | None:
        """An object's own fields."""
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.wrong(name, value, "an object")
        return Fields(value, self.path(name))

    def wrong(self, name: str, value: Any, allowed: str) -> None:
        """Refuse a value.

        Raises:
            ApiError: always.
        """
        raise refused(f"{self.path(name)} is {shown(value)}, allowed: {allowed}", self.path(name), "invalid_value")

    def only(self, name: str, is_fine: Callable[[Any], bool], why: str) -> None:
        """A field that does nothing here: the value that asks for nothing is taken, all others are refused."""
        value = self.take(name)
        if value is not None and not is_fine(value):
            raise refused(f"{self.path(name)} is {shown(value)}: {why}", self.path(name), "unsupported_value")

    def ignore(self, names: Iterable[str]) -> None:
        """Fields that tell about the client and change no answer."""
        self._seen.update(names)

    def finish(self) -> None:
        """Refuse what was not asked for.

        Raises:
            ApiError: with the names that came and those that are known.
        """
        unknown = sorted(self._values.keys() - self._seen)
        if unknown:
            path = self.path(unknown[0])
            raise ApiError(
                f"{', '.join(map(self.path, unknown))[:200]} is not supported; known here: "
                f"{', '.join(sorted(self._seen))}. Leave it out.",
                param=path[:200],
                code="unknown_field",
            )
