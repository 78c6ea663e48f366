"""All rows of a mixture, each checked before anything is trained, and those that are left out with their reasons."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from audioflamingo.errors import FlamingoError
from audioflamingo.train.data.examples import ExampleMaker, Size
from audioflamingo.train.data.mixtures import Component
from audioflamingo.train.data.nvidia_json import read_rows
from audioflamingo.train.data.rows import BadRow, Row, TrainingDataError
from audioflamingo.train.data.sounds import duration_s
from audioflamingo.train.data.sources import Reading, Source

MAX_BAD_SHARE = 0.01
NUM_THREADS = 8  # headers are waited for, not computed
SHOWN_BAD_ROWS = 3


@dataclass(frozen=True)
class Sample:
    """A row that can be trained on, and its size."""

    row: Row
    size: Size


@dataclass(frozen=True)
class Corpus:
    """The rows of an epoch, repeated as the mixture says, in the mixture's order.

    Attributes:
        samples: what is heard in one epoch.
        bad: what is left out.
        num_rows: rows that were read, without repeats.
    """

    samples: tuple[Sample, ...]
    bad: tuple[BadRow, ...]
    num_rows: int

    @property
    def fingerprint(self) -> str:
        """Hex digest of rows and sizes: a run resumes only on the data that it began with."""
        digest = hashlib.sha256()
        for sample in self.samples:
            row = sample.row
            digest.update(repr((row.id, row.turns, [p.name for p in row.sounds], sample.size)).encode())
        return digest.hexdigest()


def load_corpus(
    components: Sequence[Component], maker: ExampleMaker, bad_file: Path | None = None, cache: Path | None = None
) -> Corpus:
    """Read and check the rows of all files and other sources.

    Args:
        components: of the mixture.
        maker: what the rows must fit.
        bad_file: where to list, as JSON lines, the rows that are left out; written only where there are any.
        cache: a folder for what a source finds out at some cost.

    Raises:
        TrainingDataError: a file cannot be read, no row is left, or more than `MAX_BAD_SHARE` of the rows are bad.
    """
    by_file: dict[Path | Source, tuple[list[Sample], list[BadRow]]] = {}
    reading = Reading(maker.max_windows, cache)
    samples: list[Sample] = []
    for component in components:
        if component.path not in by_file:
            by_file[component.path] = _checked(component.path, maker, reading)
        good = by_file[component.path][0]
        samples += good[: math.ceil(len(good) * component.share)] * component.repeats
    bad = tuple(row for _, rows in by_file.values() for row in rows)
    num_rows = sum(len(good) for good, _ in by_file.values()) + len(bad)
    if bad and bad_file is not None:
        write_bad_rows(bad, bad_file)
    check_bad_share(bad, num_rows, bad_file)
    if not samples:
        raise TrainingDataError("no row is left to train on")
    return Corpus(tuple(samples), bad, num_rows)


def check_bad_share(
    bad: Sequence[BadRow], num_rows: int, bad_file: Path | None = None, *, num_elsewhere: int = 0
) -> None:
    """Stop where too many rows are bad.

    Args:
        bad: the rows that are known here.
        num_rows: of all files.
        bad_file: where they are listed.
        num_elsewhere: bad rows that other processes found.

    Raises:
        TrainingDataError: more than `MAX_BAD_SHARE` of the rows are.
    """
    num_bad = len(bad) + num_elsewhere
    if num_bad <= MAX_BAD_SHARE * num_rows:
        return
    first = (
        "; ".join(f"{row.origin}: {row.reason.rstrip('.')}" for row in bad[:SHOWN_BAD_ROWS])
        or "found by other processes"
    )
    where = f"; all are listed in {bad_file}" if bad_file else ""
    raise TrainingDataError(
        f"{num_bad} of {num_rows} rows cannot be used, more than {MAX_BAD_SHARE:.0%}: {first}{where}. "
        "Mend or remove them."
    )


def write_bad_rows(bad: Sequence[BadRow], path: Path) -> None:
    """List rows that are left out, one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in bad), encoding="utf-8")


def _checked(path: Path | Source, maker: ExampleMaker, reading: Reading) -> tuple[list[Sample], list[BadRow]]:
    rows, bad = read_rows(path) if isinstance(path, Path) else path.read(reading)
    samples: list[Sample] = []
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        for row, durations in zip(rows, threads.map(_durations_s, rows), strict=True):
            try:
                if isinstance(durations, FlamingoError):
                    raise durations
                samples.append(Sample(row, maker.measure(row, durations)))
            except FlamingoError as error:
                bad.append(BadRow(row.origin, row.id[:100], str(error)))
    return samples, bad


def _durations_s(row: Row) -> list[float] | FlamingoError:
    try:
        return [duration_s(path) for path in row.sounds]
    except FlamingoError as error:
        return error
