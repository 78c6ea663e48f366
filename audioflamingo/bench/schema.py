"""The form of a report, and its check: what makes tables of reports refuses a malformed one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

from audioflamingo.bench.row import OURS, PEER, UNITS

SCHEMA = 1
TOP = {
    "schema": int, "date": str, "card": dict, "model": dict, "scale": str, "rows": list, "errors": dict,
    "seconds": dict,
}  # fmt: skip
CARD_NUMBERS = ("memory_gb", "num_threads", "matmul_tflops", "copy_gb_s", "read_gb_s", "host_to_device_gb_s")
ROW_TEXTS = ("key", "section", "work", "unit")
ROW_NUMBERS = ("amount", "floor", "goal", "flops", "bytes", "mfu", "mbu", "ratio", "of_floor")
SPREAD = {"median", "min", "max", "n", "warmups"}


def complaints(report: Any) -> list[str]:
    """Everything that is wrong with a report; empty where nothing is."""
    if not isinstance(report, Mapping):
        return ["it is no JSON object"]
    found = [f"{name} is missing or no {kind.__name__}" for name, kind in TOP.items() if not _is(report, name, kind)]
    if found:
        return found
    if report["schema"] != SCHEMA:
        found.append(f"schema is {report['schema']}, expected {SCHEMA}")
    found += [
        f"card.{name} is no positive number" for name in CARD_NUMBERS if not _is_positive(report["card"].get(name))
    ]
    for number, row in enumerate(report["rows"]):
        found += [f"rows[{number}]: {text}" for text in _row_complaints(row, report["errors"])]
    return found


def _row_complaints(row: Any, errors: Mapping[str, str]) -> Iterator[str]:
    if not isinstance(row, Mapping):
        yield "no object"
        return
    yield from (f"{name} is no text" for name in ROW_TEXTS if not isinstance(row.get(name), str))
    if row.get("unit") not in UNITS:
        yield f"unit is {row.get('unit')!r}, expected one of {', '.join(UNITS)}"
    for name in ROW_NUMBERS:
        if name not in row or not (row[name] is None or _is_positive(row[name])):
            yield f"{name} is neither null nor a positive number"
    for who in (OURS, PEER):
        yield from _spread_complaints(who, row.get(who))
    if row.get(OURS) is None and f"{row.get('key')}, {OURS}" not in errors:
        yield "it has no figure and no error says why"
    if row.get("ratio") is not None and (row.get(OURS) is None or row.get(PEER) is None):
        yield "it has a ratio without two figures"


def _spread_complaints(who: str, spread: Any) -> Iterator[str]:
    if spread is None:
        return
    if not isinstance(spread, Mapping) or set(spread) != SPREAD:
        yield f"{who} has not exactly {', '.join(sorted(SPREAD))}"
    elif not all(_is_positive(spread[name]) for name in ("median", "min", "max", "n")):
        yield f"{who} holds what is no positive number"
    elif not spread["min"] <= spread["median"] <= spread["max"]:
        yield f"{who} has a median beyond its extremes"


def _is(report: Mapping[str, Any], name: str, kind: type) -> bool:
    return isinstance(report.get(name), kind)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) and value > 0
