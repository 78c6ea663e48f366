"""What every source of rows has in common, and rows from records that are no JSON files of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from audioflamingo.errors import FlamingoError
from audioflamingo.train.data.rows import BadRow, Row, TrainingDataError


@dataclass(frozen=True)
class Reading:
    """What a source may need to know of the run.

    Attributes:
        max_windows: of 30 s, longest sound.
        cache: a folder for what is costly to find out again, or None.
    """

    max_windows: int
    cache: Path | None = None


class Source(Protocol):
    """A set of rows; equal sources are read once. Its name is the same in every run."""

    @property
    def name(self) -> str:
        """What reports call it."""

    def read(self, reading: Reading) -> tuple[list[Row], list[BadRow]]:
        """All rows, and those that are left out.

        Raises:
            FlamingoError: it cannot be read as a whole, or holds no row.
        """


def gathered(records: Iterable[tuple[str, str, Callable[[], Row]]], name: str) -> tuple[list[Row], list[BadRow]]:
    """Rows of records, each given by its origin, its id for reports, and a call that makes and checks it.

    Raises:
        TrainingDataError: there are none at all.
    """
    rows: list[Row] = []
    bad: list[BadRow] = []
    seen: set[str] = set()
    for origin, key, made in records:
        try:
            row = made()
            if row.id in seen:
                raise TrainingDataError("its id was used before in this data set")
        except FlamingoError as error:
            bad.append(BadRow(origin, key[:100], str(error)))
            continue
        seen.add(row.id)
        rows.append(row)
    if not rows and not bad:
        raise TrainingDataError(f"{name} holds no rows")
    return rows, bad
