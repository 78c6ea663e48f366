"""Mixtures of data sets: `A+B*2+C#50` is A once, B twice, and the first 50 percent of C.

A name is a file, or stands in a registry: a JSON object of names to files or to further mixtures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from audioflamingo.train.data.rows import TrainingDataError

MAX_REPEATS = 1_000
MAX_DEPTH = 16
MAX_REGISTRY_BYTES = 16 << 20
SUFFIXES = (".json", ".jsonl")
_TERM = re.compile(r"(?P<name>[^*#+]+?)(?P<marks>(?:\s*[*#]\s*[0-9.]+\s*)*)")
_MARK = re.compile(r"([*#])\s*([0-9.]+)")


@dataclass(frozen=True)
class Component:
    """One file of a mixture.

    Attributes:
        path: JSON or JSONL.
        repeats: how often each of its rows is heard an epoch.
        share: which part of it, from its beginning, is used.
    """

    path: Path
    repeats: int = 1
    share: float = 1.0


def read_registry(path: Path | None) -> dict[str, str]:
    """Names to files or mixtures; relative files are relative to the registry.

    Raises:
        TrainingDataError: it is not a JSON object of strings.
    """
    if path is None:
        return {}
    try:
        if path.stat().st_size > MAX_REGISTRY_BYTES:
            raise ValueError(f"more than {MAX_REGISTRY_BYTES:,} bytes")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TrainingDataError(f"the registry {path} cannot be read: {str(error)[:100]}") from error
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise TrainingDataError(f"the registry {path} must be a JSON object of names to files or mixtures")
    return {name: _anchored(value, path.parent) for name, value in values.items()}


def parse_mixture(text: str, registry: Mapping[str, str] | None = None) -> tuple[Component, ...]:
    """The files of a mixture.

    Raises:
        TrainingDataError: it cannot be read, or a name is neither a file nor registered.
    """
    return _expand(text, registry or {}, 1, 1.0, ())


def _expand(
    text: str, registry: Mapping[str, str], repeats: int, share: float, within: tuple[str, ...]
) -> tuple[Component, ...]:
    if Path(text).suffix in SUFFIXES and Path(text).is_file():  # a file's name may hold the marks
        return (Component(Path(text), repeats, share),)
    if len(within) > MAX_DEPTH:
        raise TrainingDataError(f"the mixture {within[0]!r} is nested more than {MAX_DEPTH} deep")
    found: list[Component] = []
    for term in text.split("+"):
        name, times, part = _term(term.strip(), text)
        if repeats * times > MAX_REPEATS:
            raise TrainingDataError(f"{term!r} repeats its rows {repeats * times} times; at most {MAX_REPEATS}")
        found += _resolve(name, registry, repeats * times, share * part, within)
    return tuple(found)


def _resolve(
    name: str, registry: Mapping[str, str], repeats: int, share: float, within: tuple[str, ...]
) -> tuple[Component, ...]:
    if name in within:
        raise TrainingDataError(f"the mixture {name!r} holds itself: {' > '.join((*within, name))}")
    if name in registry:
        return _expand(registry[name], registry, repeats, share, (*within, name))
    if not Path(name).is_file():
        known = ", ".join(sorted(registry)[:20]) or "none, for there is no registry"
        raise TrainingDataError(f"{name!r} is neither a file nor a registered name; registered: {known}")
    return (Component(Path(name), repeats, share),)


def _term(term: str, text: str) -> tuple[str, int, float]:
    """Name, repeats and share of `name*k#p`."""
    matched = _TERM.fullmatch(term)
    if not matched:
        raise TrainingDataError(f"{term!r} in {text!r} is not NAME, NAME*k or NAME#percent")
    repeats, share = 1, 1.0
    for mark, digits in _MARK.findall(matched["marks"]):
        if mark == "*":
            if not digits.isdecimal() or not 1 <= int(digits) <= MAX_REPEATS:
                raise TrainingDataError(f"{term!r} repeats {digits} times; allowed: 1 to {MAX_REPEATS}, whole")
            repeats *= int(digits)
        else:
            share *= _percent(digits, term) / 100
    return matched["name"].strip(), repeats, share


def _percent(digits: str, term: str) -> float:
    try:
        percent = float(digits)
    except ValueError:
        percent = 0.0
    if not 0 < percent <= 100:
        raise TrainingDataError(f"{term!r} keeps {digits} percent; allowed: above 0, at most 100")
    return percent


def _anchored(text: str, folder: Path) -> str:
    beside = folder / text
    return str(beside) if beside.suffix in SUFFIXES and beside.is_file() else text
