"""Rows for `flamingo eval` from published benchmarks, in the files that their authors give out. Nothing is fetched.

    python -m audioflamingo.eval.published clotho --table captions_evaluation.csv --sounds evaluation --out clotho.jsonl

A record that cannot be used (most often its sound is not there) is left out; how many, and the first of them, is told.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audioflamingo.errors import FlamingoError
from audioflamingo.facts.questions import SHORT_CAPTION_PROMPT
from audioflamingo.prompt import TRANSCRIBE_PROMPT
from audioflamingo.train.data.webdataset import SOUND_SUFFIXES

CHOOSE = "Choose the correct option from the following options:"
SOUND_NAMES = ("audio_id", "audio_path", "audio", "sound")
MAX_OPTIONS = 26
SHOWN_MISSING = 3
_UNUSUAL = re.compile(r"[^\w-]+")


@dataclass(frozen=True)
class Made:
    """What came of one record: a row, or why there is none; and what `--by` sorts it by."""

    row: dict[str, Any] | None
    reason: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Given:
    """What a user has of a benchmark.

    Attributes:
        table: its CSV or JSON; of LibriSpeech none.
        sounds: the folder that its sounds are in, at any depth.
        ask: the question of captions, or of transcripts; None takes the usual one.
        by: field of a record by whose values rows go to files of their own.
    """

    table: Path | None
    sounds: Path
    ask: str | None = None
    by: str | None = None

    def records(self) -> list[dict[str, Any]]:
        """Of a CSV with a header, a JSON list or JSON lines.

        Raises:
            FlamingoError: there is no table, or it cannot be read.
        """
        if self.table is None:
            raise FlamingoError("this benchmark has a table of its questions or captions; give it with --table")
        try:
            text = self.table.read_text(encoding="utf-8-sig")
            if self.table.suffix == ".csv":
                return list(csv.DictReader(io.StringIO(text, newline="")))
            read = json.loads(text) if text.lstrip().startswith("[") else [*map(json.loads, text.splitlines())]
        except (OSError, ValueError, csv.Error) as error:
            raise FlamingoError(
                f"{self.table} cannot be read: {str(error)[:100]}; give a .csv, .json or .jsonl"
            ) from error
        if not all(isinstance(record, dict) for record in read):
            raise FlamingoError(f"{self.table} must hold JSON objects, one a question")
        return read

    def found(self) -> dict[str, Path]:
        """All sounds by their names without suffix."""
        suffixes = {f".{suffix}" for suffix in SOUND_SUFFIXES}
        return {path.stem: path.resolve() for path in sorted(self.sounds.rglob("*")) if path.suffix.lower() in suffixes}


def librispeech(given: Given) -> Iterator[Made]:
    """Transcripts: `*.trans.txt`, each line an utterance's name and words; the sounds lie beside it."""
    sounds = given.found()
    for path in sorted(given.sounds.rglob("*.trans.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            name, _, words = line.partition(" ")
            if words.strip():
                yield _row(name, sounds.get(name), given.ask or TRANSCRIBE_PROMPT, words.strip())


def clotho(given: Given) -> Iterator[Made]:
    """Captions: file_name, caption_1 to caption_5."""
    sounds = given.found()
    for record in given.records():
        captions = [text for name, text in record.items() if str(name).startswith("caption") and text]
        yield _captions(_field(record, "file_name"), sounds, [_stem(_field(record, "file_name"))], captions, given)


def audiocaps(given: Given) -> Iterator[Made]:
    """Captions: audiocap_id, youtube_id, start_time, caption, a line each; sounds are named by any of the ids."""
    sounds = given.found()
    by_video: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for record in given.records():
        by_video[_field(record, "youtube_id")].append(record)
    for video, some in by_video.items():
        starts = [f"{video}_{record.get('start_time')}" for record in some]
        ids = [str(record.get("audiocap_id")) for record in some]
        captions = [_field(record, "caption") for record in some]
        yield _captions(video, sounds, [video, f"Y{video}", *starts, *ids], captions, given)


def clotho_aqa(given: Given) -> Iterator[Made]:
    """Answers of one word on which all three people agree: file_name, QuestionText, answer, a line each person."""
    sounds = given.found()
    answers: dict[tuple[str, str], list[str]] = defaultdict(list)
    for record in given.records():
        answers[_field(record, "file_name"), _field(record, "QuestionText")].append(_field(record, "answer").strip())
    for number, ((name, question), said) in enumerate(answers.items()):
        if len({answer.lower() for answer in said}) == 1:
            yield _row(f"{number}", sounds.get(_stem(name)), f"{question} Answer in one word.", said[0].lower())


def choices(given: Given) -> Iterator[Made]:
    """MMAU, MMAR and whatever else has question, choices, answer, and a sound's path in one of `SOUND_NAMES`."""
    sounds = given.found()
    for number, record in enumerate(given.records()):
        options = record.get("choices")
        if not isinstance(options, list) or not 2 <= len(options) <= MAX_OPTIONS:
            yield Made(None, f"record {number} has no list of 2 to {MAX_OPTIONS} choices")
            continue
        told = [str(option).strip() for option in options]
        spelt = [f"({chr(ord('A') + place)}) {option}" for place, option in enumerate(told)]
        answer = str(record.get("answer", "")).strip()
        if told.count(answer) != 1:
            yield Made(None, f"record {number}: its answer {answer[:40]!r} is not exactly one of its choices")
            continue
        name = next((str(record[field]) for field in SOUND_NAMES if record.get(field)), "")
        beside = given.sounds / name
        sound = beside.resolve() if name and beside.is_file() else sounds.get(_stem(name))
        question = "\n".join([f"{_field(record, 'question')} {CHOOSE}", *spelt])
        kind = str(record.get(given.by, "")) if given.by else ""
        yield _row(str(record.get("id", number)), sound, question, spelt[told.index(answer)], kind=kind)


BENCHMARKS: dict[str, Callable[[Given], Iterator[Made]]] = {
    "librispeech": librispeech,
    "clotho": clotho,
    "audiocaps": audiocaps,
    "clotho-aqa": clotho_aqa,
    "choices": choices,
}


def write_rows(made: Iterable[Made], out: Path) -> str:
    """Write the rows, one file for each kind; returns what was done, in a line.

    Raises:
        FlamingoError: there are none.
    """
    files: dict[str, list[dict[str, Any]]] = defaultdict(list)
    missing: list[str] = []
    for one in made:
        if one.row is None:
            missing.append(one.reason)
        else:
            files[one.kind].append(one.row)
    left_out = f"{len(missing)} records were left out: {'; '.join(missing[:SHOWN_MISSING])}" if missing else ""
    if not files:
        raise FlamingoError(f"no row could be made; {left_out or 'no record was found'}")
    told = []
    for kind, rows in files.items():
        path = out.with_stem(f"{out.stem}-{_UNUSUAL.sub('_', kind)}") if kind else out
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        told.append(f"{path}: {len(rows):,} rows")
    return "; ".join([*told, *([left_out] if left_out else [])])


def main() -> None:
    """Make the rows of one benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m audioflamingo.eval.published", description="Rows for flamingo eval from published benchmarks."
    )
    parser.add_argument("benchmark", choices=BENCHMARKS)
    parser.add_argument("--table", type=Path, help="its CSV or JSON; of LibriSpeech none")
    parser.add_argument("--sounds", type=Path, required=True, help="the folder that its sounds are in, at any depth")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines to write")
    parser.add_argument("--ask", help="the question of captions, or of transcripts")
    parser.add_argument("--by", metavar="FIELD", help="of choices: rows go to a file for each value of FIELD, say task")
    words = parser.parse_args()
    try:
        print(write_rows(BENCHMARKS[words.benchmark](Given(words.table, words.sounds, words.ask, words.by)), words.out))
    except (FlamingoError, OSError) as error:
        sys.exit(f"error: {error}")


def _captions(key: str, sounds: Mapping[str, Path], names: Iterable[str], captions: list[str], given: Given) -> Made:
    sound = next((sounds[name] for name in names if name in sounds), None)
    if not captions:
        return Made(None, f"{key} has no caption")
    made = _row(key, sound, given.ask or SHORT_CAPTION_PROMPT, captions[0])
    return made if made.row is None else Made({**made.row, "references": captions})


def _row(key: str, sound: Path | None, question: str, answer: str, *, kind: str = "") -> Made:
    if sound is None:
        return Made(None, f"the sound of {key} is not there")
    turns = [{"from": "human", "value": f"<sound>\n{question}"}, {"from": "gpt", "value": answer}]
    return Made({"id": key, "sound": str(sound), "conversations": turns}, kind=kind)


def _field(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not value.strip():
        known = ", ".join(map(str, record))[:200]
        raise FlamingoError(f"a record has no {name!r}; it has: {known}. Is this the benchmark's own table?")
    return value


def _stem(name: str) -> str:
    return Path(name).stem


if __name__ == "__main__":
    main()
