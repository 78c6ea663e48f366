"""Mixtures of data sets: `A+B*2+C#50` is A once, B twice, and the first 50 percent of C.

A name is one of:

* a .json or .jsonl file;
* `name.tar` or `name-{000..123}.tar`, WebDataset shards;
* `hf:FOLDER` or `hf:owner/name`, perhaps with `@split`, for the package `datasets`;
* `world:TASKS@HOURS@SEED`, our own world, live;
* or it stands in a registry: a JSON object of names to files, to further mixtures, or to objects that also say which
  columns hold what: {"datasets": ..., "split": ...} or {"shards": ...}, with `data.columns.Columns`' fields.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from audioflamingo.train.data.columns import Columns
from audioflamingo.train.data.hub import DEFAULT_SPLIT, HubDataset
from audioflamingo.train.data.live_world import PREFIX as WORLD_PREFIX
from audioflamingo.train.data.live_world import LiveWorld
from audioflamingo.train.data.rows import TrainingDataError
from audioflamingo.train.data.sources import Source
from audioflamingo.train.data.webdataset import WebDataset, shards_of

MAX_REPEATS = 1_000
MAX_DEPTH = 16
MAX_REGISTRY_BYTES = 16 << 20
SUFFIXES = (".json", ".jsonl")
HUB_PREFIX, TAR_SUFFIX = "hf:", ".tar"
_TERM = re.compile(r"(?P<name>[^*#+]+?)(?P<marks>(?:\s*[*#]\s*[0-9.]+\s*)*)")
_MARK = re.compile(r"([*#])\s*([0-9.]+)")


@dataclass(frozen=True)
class Component:
    """One file or other source of a mixture.

    Attributes:
        path: JSON or JSONL, or what reads something else.
        repeats: how often each of its rows is heard an epoch.
        share: which part of it, from its beginning, is used.
    """

    path: Path | Source
    repeats: int = 1
    share: float = 1.0


Entry = str | Mapping[str, Any]


def read_registry(path: Path | None) -> dict[str, Entry]:
    """Names to files, mixtures or descriptions; relative files are relative to the registry.

    Raises:
        TrainingDataError: it is not a JSON object of strings and objects.
    """
    if path is None:
        return {}
    try:
        if path.stat().st_size > MAX_REGISTRY_BYTES:
            raise ValueError(f"more than {MAX_REGISTRY_BYTES:,} bytes")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)[:100]
        raise TrainingDataError(f"the registry {path} cannot be read: {why}") from error
    if not isinstance(values, dict) or not all(isinstance(value, str | dict) for value in values.values()):
        raise TrainingDataError(f"the registry {path} must be a JSON object of names to files, mixtures or objects")
    return {name: _anchored(value, path.parent) for name, value in values.items()}


def parse_mixture(text: str, registry: Mapping[str, Entry] | None = None) -> tuple[Component, ...]:
    """The files of a mixture.

    Raises:
        TrainingDataError: it cannot be read, or a name is neither a file nor registered.
    """
    return _expand(text, registry or {}, 1, 1.0, ())


def _expand(
    text: str, registry: Mapping[str, Entry], repeats: int, share: float, within: tuple[str, ...]
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
    name: str, registry: Mapping[str, Entry], repeats: int, share: float, within: tuple[str, ...]
) -> tuple[Component, ...]:
    if name in within:
        raise TrainingDataError(f"the mixture {name!r} holds itself: {' > '.join((*within, name))}")
    entry = registry.get(name)
    if isinstance(entry, str):
        return _expand(entry, registry, repeats, share, (*within, name))
    source = _source(name) if entry is None else _described(entry, name)
    if source is None and Path(name).is_dir():
        rows = Path(name) / "rows.json"
        raise TrainingDataError(
            f"{name!r} is a folder; name its file of rows, such as {rows}, or write {HUB_PREFIX}{name} for a folder of "
            "sounds or tables that datasets reads"
        )
    if source is None and not Path(name).is_file():
        known = ", ".join(sorted(registry)[:20]) or "none, for there is no registry"
        raise TrainingDataError(f"{name!r} is neither a file nor a registered name; registered: {known}")
    return (Component(source or Path(name), repeats, share),)


def _source(name: str) -> Source | None:
    """What a name alone says of data that are no file of rows."""
    if name.startswith(WORLD_PREFIX):
        return LiveWorld.parse(name)
    if name.startswith(HUB_PREFIX):
        where, _, split = name.removeprefix(HUB_PREFIX).partition("@")
        return HubDataset(where, split or DEFAULT_SPLIT)
    return WebDataset(shards_of(name)) if name.endswith(TAR_SUFFIX) else None


def _described(entry: Mapping[str, Any], name: str) -> Source:
    """A source from an object of the registry."""
    columns = Columns.from_registry(entry, name)
    unknown = set(entry) - {"datasets", "shards", "split"} - {field.name for field in fields(Columns)}
    where = [entry[kind] for kind in ("datasets", "shards") if isinstance(entry.get(kind), str)]
    split = entry.get("split", DEFAULT_SPLIT)
    if unknown or len(where) != 1 or not isinstance(split, str):
        extra = f"; it does not know {', '.join(sorted(map(str, unknown)))}" if unknown else ""
        raise TrainingDataError(f"{name!r} in the registry needs either 'datasets' or 'shards', a string{extra}")
    return HubDataset(where[0], split, columns) if "datasets" in entry else WebDataset(shards_of(where[0]), columns)


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


def _anchored(entry: Entry, folder: Path) -> Entry:
    """Files and folders that lie beside the registry, by their whole paths."""
    if isinstance(entry, str):
        beside = folder / entry
        is_file = beside.suffix in SUFFIXES and beside.is_file()
        return str(beside) if is_file or (entry.endswith(TAR_SUFFIX) and "+" not in entry) else entry
    found = dict(entry)
    for kind in ("datasets", "shards"):
        where = found.get(kind)
        if isinstance(where, str) and (kind == "shards" or (folder / where).is_dir()):
            found[kind] = str(folder / where)
    return found
