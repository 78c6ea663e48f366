"""What is asked for: one item an answer of a row, or of all rows that caption one sound."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from audioflamingo.errors import FlamingoError, OptionError
from audioflamingo.eval.judging import Metric, metric_of
from audioflamingo.train.data.corpus import check_bad_share
from audioflamingo.train.data.mixtures import Component
from audioflamingo.train.data.nvidia_json import read_rows
from audioflamingo.train.data.rows import BadRow, Row, TrainingDataError
from audioflamingo.train.data.sounds import duration_s
from audioflamingo.train.data.sources import Reading

_WORLD_ID = re.compile(r"([a-z_]+)-(?:train|test_known|test_unknown)-\d")
_CAPTION_TASK = "caption"


@dataclass(frozen=True)
class Item:
    """One answer that is asked for.

    Attributes:
        set_name: the file or other source that it comes from.
        row: with its conversation.
        turn: place of the answer among the row's turns.
        sound_s: seconds of all sounds of the row; 0 where they were not looked at.
        metric: by which the answer is judged.
        references: of a caption, all true answers: those that the row lists and its own, and those of other rows of the
            set that ask the same about the same sounds. () of any other item.
    """

    set_name: str
    row: Row
    turn: int
    sound_s: float
    metric: Metric
    references: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Unique within a run."""
        return f"{self.set_name}\n{self.row.id}\n{self.turn}"

    @property
    def group(self) -> str:
        """What it is counted with."""
        return group_of(self.set_name, self.row.id)

    @property
    def question(self) -> str:
        """The human turn before it."""
        return self.row.turns[self.turn - 1][1]

    @property
    def truth(self) -> str:
        """What the row answers."""
        return self.row.turns[self.turn][1]


@dataclass
class Items:
    """Of a whole data set.

    Attributes:
        items: in the order of the data.
        bad: rows that are left out.
        num_rows: those that the items come from.
    """

    items: list[Item] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    num_rows: int = 0


def group_of(set_name: str, row_id: str) -> str:
    """What an answer is counted with: its set, and the task that its id names if `flamingo world` made it."""
    task = _world_task(row_id)
    return f"{set_name}: {task}" if task else set_name


def items_of(
    components: Sequence[Component],
    max_windows: int,
    *,
    metric: Metric | None = None,
    max_rows: int | None = None,
    with_sounds: bool = True,
) -> Items:
    """Every answer of a data set that is asked for.

    Args:
        components: of the data; shares count, repeats do not.
        max_windows: of 30 s, longest sound of a row that a source makes.
        metric: by which all answers are judged; None looks at each row.
        max_rows: of each component, the first so many are asked about; None for all. Further rows of their sounds still
            give them references.
        with_sounds: whether the sounds are looked at; else they need not be there.

    Raises:
        FlamingoError: the data cannot be read, no row is left, or two items have one name.
    """
    found = Items()
    reading = Reading(max_windows)
    for component in components:
        path = component.path
        rows, bad = read_rows(path) if isinstance(path, Path) else path.read(reading)
        found.bad += bad
        rows = rows[: math.ceil(len(rows) * component.share)]
        captioned = _Captioned(rows, metric)
        for row in rows[:max_rows]:
            try:
                sound_s = sum(map(duration_s, row.sounds)) if with_sounds else 0.0
            except FlamingoError as error:
                found.bad.append(BadRow(row.origin, row.id[:100], str(error)))
                continue
            found.num_rows += 1
            for turn in _answers_of(row):
                how = metric or _metric_of(row, turn)
                references = captioned.once(row, turn) if how == "caption" else ()
                if references is not None:
                    found.items.append(Item(path.name, row, turn, sound_s, how, references))
    if not found.items:
        check_bad_share(found.bad, len(found.bad))
        raise TrainingDataError("no row is left to evaluate")
    keys = [item.key for item in found.items]
    if len(set(keys)) < len(keys):
        raise OptionError("two sets of the data have one name and ids in common; give each file a name of its own")
    return found


class _Captioned:
    """The captions of some rows, by sounds and conversation."""

    def __init__(self, rows: Sequence[Row], metric: Metric | None) -> None:
        self._references: dict[object, tuple[str, ...]] = {}
        for row in rows:
            for turn in _answers_of(row):
                if (metric or _metric_of(row, turn)) == "caption":
                    key = _scene(row, turn)
                    self._references[key] = self._references.get(key, ()) + _truths(row, turn)
        self._asked: set[object] = set()

    def once(self, row: Row, turn: int) -> tuple[str, ...] | None:
        """All references; None where another row asked the same before."""
        key = _scene(row, turn)
        if key in self._asked:
            return None
        self._asked.add(key)
        return self._references[key]


def _scene(row: Row, turn: int) -> object:
    """Equal for rows that ask the same about the same sounds; rows without any are each their own."""
    return (row.sounds, row.turns[:turn]) if row.sounds else (row.id, turn)


def _truths(row: Row, turn: int) -> tuple[str, ...]:
    own = row.turns[turn][1]
    return row.references if own in row.references else (own, *row.references)


def _answers_of(row: Row) -> Iterator[int]:
    return (turn for turn, (role, _) in enumerate(row.turns) if role == "assistant")


def _metric_of(row: Row, turn: int) -> Metric:
    """By what a row's answer is judged, where nobody says: several true answers, too, make a caption."""
    found = metric_of(row.turns[turn - 1][1], row.turns[turn][1])
    is_caption = found == "open" and (bool(row.references) or _world_task(row.id) == _CAPTION_TASK)
    return "caption" if is_caption else found


def _world_task(row_id: str) -> str:
    found = _WORLD_ID.match(row_id)
    return found[1] if found else ""
