"""One row of training data, checked as far as its own text goes: `parse_row` knows no tokenizer and opens no sound.

The form is NVIDIA's: `id`, `sound` (a path, a list of paths, or none), `duration` in seconds, and `conversations`,
whose turns have `from` ("human" and "gpt" in turn, perhaps a "system" first) and `value`. A row with one answer may
have `references`: a list of all its true answers, where there are several, as of captions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audioflamingo.errors import FlamingoError
from audioflamingo.types import Role

if TYPE_CHECKING:
    from audioflamingo.train.data.sounds import SoundSource

ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
MAX_SOUNDS = 64  # of one conversation; the longest published ones have eight
MAX_REFERENCES = 1_000
MAX_DURATION_S = 24 * 3600.0


class TrainingDataError(FlamingoError):
    """Rows of training data are broken, or there are too few good ones."""


@dataclass(frozen=True)
class Row:
    """One conversation about sounds, none of them opened yet.

    Attributes:
        id: unique within its file.
        sounds: their files, or where else they are.
        turns: role and text of every turn; texts of users may hold `<sound>` and `<sound-k>`.
        duration_s: what the row says about its sound's length, or None.
        origin: file and place, for reports.
        references: all true answers of a row with one, where it lists them; training learns the turn alone.
    """

    id: str
    sounds: tuple[SoundSource, ...]
    turns: tuple[tuple[Role, str], ...]
    duration_s: float | None = None
    origin: str = ""
    references: tuple[str, ...] = ()


@dataclass(frozen=True)
class BadRow:
    """A row that is left out, and why."""

    origin: str
    id: str
    reason: str


def parse_row(values: Any, folder: Path, origin: str) -> Row:
    """A row from decoded JSON.

    Args:
        values: the object.
        folder: what relative paths of sounds are relative to.
        origin: file and place, for reports.

    Raises:
        TrainingDataError: it is not of the form above.
    """
    if not isinstance(values, Mapping):
        raise TrainingDataError(f"it is a JSON {type(values).__name__}, expected an object")
    return make_row(values, tuple(folder / sound for sound in _sounds(values.get("sound"))), origin)


def make_row(values: Mapping[str, Any], sounds: tuple[SoundSource, ...], origin: str) -> Row:
    """A row whose sounds were found already; see `parse_row`.

    Raises:
        TrainingDataError: it is not of the form above.
    """
    if len(sounds) > MAX_SOUNDS:
        raise TrainingDataError(f"it has {len(sounds)} sounds, at most {MAX_SOUNDS} are allowed")
    turns = _turns(values.get("conversations"))
    return Row(
        id=_id(values.get("id"), origin),
        sounds=sounds,
        turns=turns,
        duration_s=_duration_s(values.get("duration")),
        origin=origin,
        references=_references(values.get("references"), sum(role == "assistant" for role, _ in turns)),
    )


def _id(value: Any, origin: str) -> str:
    if value is None:
        return origin
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise TrainingDataError(f"its id is {_shown(value)}, expected a string or a number")
    return str(value)


def _sounds(value: Any) -> list[str]:
    sounds = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(sounds, list) or not all(isinstance(one, str) and one for one in sounds):
        raise TrainingDataError(f"its sound is {_shown(value)}, expected a path, a list of paths, or null")
    if any("\0" in sound for sound in sounds):
        raise TrainingDataError("its sound has a NUL in its path")
    return sounds


def _duration_s(value: Any) -> float | None:
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 < value <= MAX_DURATION_S:
        raise TrainingDataError(f"its duration is {_shown(value)}, expected seconds between 0 and {MAX_DURATION_S:g}")
    return float(value)


def _turns(value: Any) -> tuple[tuple[Role, str], ...]:
    if not isinstance(value, list) or not value:
        raise TrainingDataError(f"its conversations are {_shown(value)}, expected a list of turns")
    turns = tuple(_turn(turn, number) for number, turn in enumerate(value, 1))
    spoken = turns[1:] if turns[0][0] == "system" else turns
    expected: tuple[Role, Role] = ("user", "assistant")
    if len(spoken) < 2 or any(role != expected[number % 2] for number, (role, _) in enumerate(spoken)):
        raise TrainingDataError(
            f"its conversation goes {', '.join(role for role, _ in turns)[:80]}; it must alternate human, gpt, ..."
        )
    if len(spoken) % 2:
        raise TrainingDataError("its conversation ends with a human's turn; it must end with an answer")
    return turns


def _turn(turn: Any, number: int) -> tuple[Role, str]:
    role, text = (turn.get("from"), turn.get("value")) if isinstance(turn, Mapping) else (None, None)
    if not isinstance(role, str) or role not in ROLES or not isinstance(text, str):
        raise TrainingDataError(f"its turn {number} is {_shown(turn)}, expected from (human, gpt, system) and value")
    if not text.strip():
        raise TrainingDataError(f"its turn {number} is empty")
    return ROLES[role], text


def _references(value: Any, num_answers: int) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not value or not all(isinstance(one, str) and one.strip() for one in value):
        raise TrainingDataError(f"its references are {_shown(value)}, expected a list of texts, one or more")
    if len(value) > MAX_REFERENCES:
        raise TrainingDataError(f"it has {len(value):,} references, at most {MAX_REFERENCES:,} are allowed")
    if num_answers != 1:
        raise TrainingDataError(f"its references belong to one answer, and its conversation has {num_answers}")
    return tuple(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
