"""A finished export on the disk, checked: sounds, rows, and that every answer follows from its timeline (`check`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from audioflamingo.errors import OptionError
from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world.check import check_turn

ROWS, TRUTH = "rows.json", "truth.jsonl"
SLACK_S = 0.001  # truth is told to the millisecond


def check_export(folder: Path) -> tuple[int, list[str]]:
    """How many turns there are, and what is wrong with sounds, rows and answers, a line each.

    Raises:
        OptionError: the folder holds no finished export, or its files are damaged.
    """
    rows = {row["id"]: row for row in _read_rows(folder / ROWS)}
    num_turns, problems = 0, []
    for number, scene in enumerate(_scenes(folder / TRUTH), start=1):
        try:
            turns = [turn for dialogue in scene["dialogues"] for turn in dialogue]
            problems += [f"{scene['id']}: {one}" for turn in turns for one in check_turn(scene["clips"], turn)]
            problems += [f"{scene['id']}: {one}" for one in (*_wrong_sounds(folder, scene), *_wrong_rows(rows, scene))]
        except (KeyError, TypeError, IndexError, StopIteration) as error:
            raise OptionError(f"{folder / TRUTH} is damaged in line {number} ({error!r}); export it again.") from error
        num_turns += len(turns)
    return num_turns, problems + [f"{name}: no scene has this row" for name in rows]


def _wrong_sounds(folder: Path, scene: Mapping[str, Any]) -> Iterator[str]:
    import soundfile

    for clip in scene["clips"]:
        path = folder / clip["sound"]
        try:
            found = soundfile.info(path)
        except soundfile.SoundFileError:
            yield f"{path} is missing or broken"
            continue
        if found.samplerate != SAMPLE_RATE_HZ or abs(found.duration - clip["duration_s"]) > SLACK_S:
            yield f"{path} is {found.duration:.3f} s at {found.samplerate} Hz, the truth says {clip['duration_s']} s"


def _wrong_rows(rows: dict[str, Any], scene: Mapping[str, Any]) -> Iterator[str]:
    """What a scene's rows say otherwise than its turns; the rows are taken out."""
    for number, turns in enumerate(scene["dialogues"]):
        name = f"{scene['id']}-{number}"
        row = rows.pop(name, None)
        if row is None:
            yield f"{ROWS} has no row {name}"
            continue
        said = [turn["value"] for turn in row["conversations"]]
        if said[1::2] != [turn["answer"] for turn in turns]:
            yield f"the answers of row {name} are not the turns'"
        if not all(turn["question"] in asked for asked, turn in zip(said[::2], turns, strict=True)):
            yield f"the questions of row {name} are not the turns'"


def _read_rows(path: Path) -> list[Any]:
    text = _text(path)
    try:
        rows = json.loads(text)
        if not isinstance(rows, list) or not all(isinstance(row, dict) and "id" in row for row in rows):
            raise ValueError("no list of rows")
    except ValueError as error:
        raise _damaged(path, error) from error
    return rows


def _scenes(path: Path) -> Iterator[Any]:
    for number, line in enumerate(_text(path).split("\n")[:-1], start=1):  # texts may hold other line ends
        try:
            yield json.loads(line)
        except ValueError as error:
            raise _damaged(path, error, f" in line {number}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise OptionError(f"{path} is missing; give the folder of a finished export.") from error
    except OSError as error:
        raise OptionError(f"{path} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception, where: str = "") -> OptionError:
    return OptionError(f"{path} is damaged{where} ({str(error)[:80]}); export it again.")
