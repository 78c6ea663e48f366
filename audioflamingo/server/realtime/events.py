"""The forms of events: what a client sent, checked field by field; errors; and names, which OpenAI has changed once.

Clients of the first version ("beta") and of the second ("ga") differ in the names of some events and in the shape of
the session. A session speaks as the first until its client asks for `"type": "realtime"`, as the second's clients do.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Dialect = Literal["beta", "ga"]
Event = dict[str, Any]

GA_NAMES = {
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
}
MAX_SHOWN_CHARS = 80


class EventError(Exception):
    """An event that cannot be followed; told to the client, and the session goes on.

    Args:
        message: one line with the remedy.
        code: OpenAI's word for this kind of error.
        param: the field that is wrong.
    """

    def __init__(self, message: str, code: str = "invalid_value", param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.param = code, param


def new_id(kind: str) -> str:
    """A fresh name such as "item_4f..."."""
    return f"{kind}_{secrets.token_hex(10)}"


def named(event: Event, dialect: Dialect) -> Event:
    """The event as a dialect calls it, with an id of its own."""
    name = event["type"]
    return {**event, "type": GA_NAMES.get(name, name) if dialect == "ga" else name, "event_id": new_id("event")}


def error_event(
    message: str, *, code: str, param: str | None = None, about: Any = None, kind: str = "invalid_request_error"
) -> Event:
    """OpenAI's error event.

    Args:
        message: what is wrong and what helps.
        code: machine-readable.
        param: the field that is wrong.
        about: `event_id` of the client's event, if it gave one.
        kind: "invalid_request_error" for the client's mistakes, "server_error" for ours.
    """
    about = about if isinstance(about, str) else None
    error = {"type": kind, "code": code, "message": message, "param": param, "event_id": about}
    return {"type": "error", "error": error}


def shown(value: Any) -> str:
    """A client's value for an error, cut where it is long."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + "..."


class Fields:
    """Typed look into an object that a client sent; what is missing or wrong raises `EventError` with its place.

    Args:
        values: the object.
        place: where it stands in the event, such as "item.content[0]".
    """

    def __init__(self, values: Any, place: str = "") -> None:
        if not isinstance(values, Mapping):
            raise EventError(f"{place or 'the event'} is {shown(values)}; allowed: an object", "invalid_type", place)
        self.values, self.place = values, place

    def name(self, key: str) -> str:
        """Where a field stands."""
        return f"{self.place}.{key}" if self.place else key

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def text(self, key: str, default: str | None = None, *, most: int | None = None) -> str:
        """A string field of up to `most` characters."""
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, "a string", "invalid_type")
        if most is not None and len(value) > most:
            raise EventError(
                f"{self.name(key)} has {len(value):,} characters; allowed: {most:,}", "string_too_long", self.name(key)
            )
        return value

    def one_of(self, key: str, allowed: Sequence[str], default: str | None = None) -> str:
        """A string field with one of some values."""
        value = self.text(key, default)
        if value not in allowed:
            raise self._wrong(key, "one of " + ", ".join(map(repr, allowed)))
        return value

    def flag(self, key: str, default: bool) -> bool:
        """A boolean field."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", "invalid_type")
        return value

    def number(self, key: str, default: float | None = None, *, low: float, high: float) -> float:
        """A number within [low, high]."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, "a number", "invalid_type")
        if not low <= value <= high:
            raise self._wrong(key, f"{low:g} to {high:g}")
        return value

    def inner(self, key: str) -> Fields:
        """A field that is an object itself."""
        return Fields(self._value(key, None), self.name(key))

    def items(self, key: str) -> list[Fields]:
        """A field that is a list of objects."""
        values = self._value(key, None)
        if not isinstance(values, list):
            raise self._wrong(key, "a list", "invalid_type")
        return [Fields(value, f"{self.name(key)}[{number}]") for number, value in enumerate(values)]

    def only(self, known: Sequence[str]) -> None:
        """Refuse fields that nobody would look at, unless they are null."""
        for key, value in self.values.items():
            if key not in known and value is not None:
                raise EventError(
                    f"{self.name(str(key))} is not known here; allowed: {', '.join(known)}",
                    "unknown_parameter",
                    self.name(str(key)),
                )

    def _value(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        if value is None:
            value = default
        if value is None:
            raise EventError(f"{self.name(key)} is missing", "missing_required_parameter", self.name(key))
        return value

    def _wrong(self, key: str, allowed: str, code: str = "invalid_value") -> EventError:
        return EventError(
            f"{self.name(key)} is {shown(self.values.get(key))}; allowed: {allowed}", code, self.name(key)
        )
