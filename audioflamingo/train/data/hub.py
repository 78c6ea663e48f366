"""Hugging Face `datasets`: a folder that `datasets` saved, a folder of sounds or tables, or a name on the hub.

Sounds are taken as the bytes that the table holds and decoded by our own readers. Data sets that need code of their own
are refused: that package has not run any since its version 4, which is the least that is taken here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from audioflamingo.audio import load
from audioflamingo.errors import AudioError
from audioflamingo.train.data.columns import Columns
from audioflamingo.train.data.rows import BadRow, Row, TrainingDataError, make_row
from audioflamingo.train.data.sounds import duration_of_bytes, duration_s, load_sound, missing_package
from audioflamingo.train.data.sources import Reading, gathered
from audioflamingo.types import Audio

LEAST_MAJOR = 4
SAVED_FILES = ("dataset_info.json", "dataset_dict.json")
DEFAULT_SPLIT = "train"


@dataclass(frozen=True)
class HubDataset:
    """A data set that the package `datasets` reads.

    Attributes:
        where: a folder, or a name on the hub.
        split: of it.
        columns: of its records.
    """

    where: str
    split: str = DEFAULT_SPLIT
    columns: Columns = field(default_factory=Columns)

    @property
    def name(self) -> str:
        """Name and split."""
        return f"hf:{self.where}@{self.split}"

    def read(self, reading: Reading) -> tuple[list[Row], list[BadRow]]:
        """See `Source`."""
        table = _opened(self.where, self.split)
        columns = self.columns.found(table.column_names, self.name)
        told = (columns.question, columns.answer, columns.conversations, columns.id, columns.references)
        texts = [name for name in told if name]
        plain = table.select_columns(texts)
        sounds = None if columns.sound is None else _undecoded(table, columns.sound, self.name)
        return gathered(self._records(plain, sounds, columns), self.name)

    def _records(self, plain: Any, sounds: Any, columns: Columns) -> Iterator[tuple[str, str, Callable[[], Row]]]:
        short = Path(self.where).name
        for number, record in enumerate(plain):
            origin = f"{short}[{number}]"
            cells = () if sounds is None else (Cell(sounds, number, f"{short}-{self.split}-{number}"),)
            key = str(record.get(columns.id, number)) if columns.id else str(number)
            yield origin, key, partial(_row, columns, record, number, cells, origin)


def _row(columns: Columns, record: Any, number: int, cells: tuple[Cell, ...], origin: str) -> Row:
    return make_row(columns.row(record, number), cells, origin)


@dataclass(frozen=True)
class Cell:
    """A sound in a table.

    Attributes:
        table: of one column, not decoded.
        number: its row.
        name: for reports.
    """

    table: Any = field(compare=False, repr=False)
    number: int = 0
    name: str = ""

    def _content(self) -> bytes | Path:
        (value,) = self.table[self.number].values()
        content = value.get("bytes") if isinstance(value, dict) else None
        if isinstance(content, bytes):
            return content
        path = value.get("path") if isinstance(value, dict) else value
        if not isinstance(path, str) or not path:
            raise AudioError(f"{self.name} holds neither bytes nor a path of a sound")
        return Path(path)

    def load(self) -> Audio:
        """See `StoredSound`."""
        content = self._content()
        return load_sound(content) if isinstance(content, Path) else load(content, name=self.name)

    def duration_s(self) -> float:
        """See `StoredSound`."""
        content = self._content()
        return duration_s(content) if isinstance(content, Path) else duration_of_bytes(content, self.name)


def _undecoded(table: Any, column: str, name: str) -> Any:
    from datasets import Audio as AudioFeature
    from datasets import Value

    alone = table.select_columns([column])
    feature = alone.features[column]
    if isinstance(feature, AudioFeature):
        return alone.cast_column(column, AudioFeature(decode=False))
    is_path = isinstance(feature, Value) and feature.dtype in ("string", "large_string")
    if not is_path and not (isinstance(feature, dict) and "bytes" in feature):
        raise TrainingDataError(f"the column {column!r} of {name} holds {feature}, expected audio, or paths of sounds")
    return alone


def _opened(where: str, split: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise missing_package("datasets", "datasets") from error
    if int(datasets.__version__.split(".")[0]) < LEAST_MAJOR:
        raise TrainingDataError(
            f"datasets {datasets.__version__} may run code of a data set; version {LEAST_MAJOR} does not: upgrade it"
        )
    try:
        if any((Path(where) / name).is_file() for name in SAVED_FILES):
            found = datasets.load_from_disk(where)
            if isinstance(found, datasets.DatasetDict):
                if split not in found:
                    raise TrainingDataError(f"hf:{where} has no split {split!r}; it has: {', '.join(found)}")
                return found[split]
            return found
        return datasets.load_dataset(where, split=split)
    except TrainingDataError:
        raise
    # That package raises errors of a dozen others; for a user all mean the same.
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise TrainingDataError(
            f"hf:{where}@{split} cannot be read ({type(error).__name__}: {reason}); give a folder that datasets saved, "
            "a folder of sounds or tables, or a name on the hub"
        ) from error
