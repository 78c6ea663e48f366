"""A model's answers to the rows of a data set, each judged, kept as they come; the same call goes on where one ended.

The data are what training takes (`train.data`): NVIDIA's JSON and JSONL, shards, tables, the world. Every answer of a
row is asked for with the true turns before it. What is left out is listed, what the model refuses counts as wrong.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from audioflamingo.api import AudioFlamingo
from audioflamingo.errors import FlamingoError, OptionError
from audioflamingo.eval.judging import Metric, Verdict, judged, metric_of, options_of, spelt_as
from audioflamingo.model.fingerprint import fingerprint
from audioflamingo.train.claim import claimed
from audioflamingo.train.data.corpus import check_bad_share, write_bad_rows
from audioflamingo.train.data.examples import as_conversation
from audioflamingo.train.data.mixtures import Component
from audioflamingo.train.data.nvidia_json import read_rows
from audioflamingo.train.data.rows import BadRow, Row, TrainingDataError
from audioflamingo.train.data.sounds import duration_s, load_sound
from audioflamingo.train.data.sources import Reading
from audioflamingo.types import Message, Reply, Usage

ANSWERS_AT_ONCE = 32
SECONDS_AT_ONCE = 1_200.0  # of sound
PREDICTIONS, RUN, BAD_ROWS = "predictions.jsonl", "run.json", "bad_rows.jsonl"

Told = Callable[[int, int], None]


@dataclass(frozen=True)
class Item:
    """One answer that is asked for.

    Attributes:
        set_name: the file or other source that it comes from.
        row: with its conversation.
        turn: place of the answer among the row's turns.
        sound_s: seconds of all sounds of the row.
    """

    set_name: str
    row: Row
    turn: int
    sound_s: float

    @property
    def key(self) -> str:
        """Unique within a run."""
        return f"{self.set_name}\n{self.row.id}\n{self.turn}"

    @property
    def question(self) -> str:
        """The human turn before it."""
        return self.row.turns[self.turn - 1][1]

    @property
    def truth(self) -> str:
        """What the row answers."""
        return self.row.turns[self.turn][1]


@dataclass(frozen=True)
class Judged:
    """An answer and what came of it, as a line of predictions.jsonl."""

    set_name: str
    id: str
    turn: int
    question: str
    truth: str
    answer: str
    thoughts: str
    verdict: Verdict
    error: str = ""

    @property
    def key(self) -> str:
        """See `Item.key`."""
        return f"{self.set_name}\n{self.id}\n{self.turn}"


@dataclass
class Evaluation:
    """All that was judged, and what was left out."""

    answers: list[Judged] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    num_kept: int = 0


def evaluate(
    model: AudioFlamingo,
    components: Sequence[Component],
    out: Path,
    *,
    metric: Metric | None = None,
    by_likelihood: bool = False,
    max_rows: int | None = None,
    told: Told | None = None,
    **options: Any,
) -> Evaluation:
    """Ask, judge and keep.

    Args:
        model: what answers.
        components: of the data; shares count, repeats do not.
        out: folder for predictions.jsonl and the like; what an earlier call of the same run left there is kept.
        metric: by which all answers are judged; None looks at each question and its true answer.
        by_likelihood: whether of a multiple-choice question the likeliest option is taken, instead of an answer.
        max_rows: of each component, the first so many; None for all.
        told: called with answers that are done and all.
        options: of every answer, see `Options`.

    Raises:
        FlamingoError: data or options cannot be used, too many rows are bad, or `out` holds another run.
    """
    with claimed(out):
        items, bad = _items(components, model, max_rows)
        (out / BAD_ROWS).unlink(missing_ok=True)
        if bad:
            write_bad_rows(bad, out / BAD_ROWS)
        check_bad_share(bad, len({(item.set_name, item.row.id) for item in items}) + len(bad), out / BAD_ROWS)
        metrics = {item.key: metric or metric_of(item.question, item.truth) for item in items}
        for item in items:
            _check(item, metrics[item.key])
        values = _run_values(model, items, metric, options)
        done = _kept(out, values | {"choices": "likelihood" if by_likelihood else "answer"})
        found = Evaluation([done[item.key] for item in items if item.key in done], bad, len(done))
        with (out / PREDICTIONS).open("a", encoding="utf-8") as file:
            for some in _batches([item for item in items if item.key not in done]):
                for one in _answered(model, some, metrics, options, by_likelihood=by_likelihood):
                    found.answers.append(one)
                    file.write(json.dumps(asdict(one), ensure_ascii=False) + "\n")
                file.flush()
                if told:
                    told(len(found.answers), len(items))
    return found


def _items(
    components: Sequence[Component], model: AudioFlamingo, max_rows: int | None
) -> tuple[list[Item], list[BadRow]]:
    items: list[Item] = []
    bad: list[BadRow] = []
    reading = Reading(model.defaults.max_windows)
    for component in components:
        path = component.path
        rows, left_out = read_rows(path) if isinstance(path, Path) else path.read(reading)
        bad += left_out
        for row in rows[: math.ceil(len(rows) * component.share)][:max_rows]:
            try:
                sound_s = sum(map(duration_s, row.sounds))
            except FlamingoError as error:
                bad.append(BadRow(row.origin, row.id[:100], str(error)))
            else:
                turns = [turn for turn, (role, _) in enumerate(row.turns) if role == "assistant"]
                items += [Item(path.name, row, turn, sound_s) for turn in turns]
    if not items:
        raise TrainingDataError("no row is left to evaluate")
    keys = [item.key for item in items]
    if len(set(keys)) < len(keys):
        raise OptionError("two sets of the data have one name and ids in common; give each file a name of its own")
    return items, bad


def _check(item: Item, metric: Metric) -> None:
    """Before anything is asked: a truth that is none would be found after hours else."""
    try:
        judged(metric, item.question, item.truth, "")
    except ValueError as error:
        raise OptionError(f"{item.row.origin or item.row.id}: {error}; choose another --metric, or none") from error


def _run_values(
    model: AudioFlamingo, items: Sequence[Item], metric: Metric | None, options: dict[str, Any]
) -> dict[str, Any]:
    digest = hashlib.sha256()
    for item in items:
        digest.update(repr((item.key, item.row.turns, [sound.name for sound in item.row.sounds])).encode())
    weights = hashlib.sha256(fingerprint(model.model).dumps().encode()).hexdigest()
    return {
        "model": model.name,
        "weights": weights,
        "data": digest.hexdigest(),
        "metric": metric or "auto",
        "options": {name: str(value) for name, value in sorted(options.items())},
    }


def _kept(out: Path, values: dict[str, Any]) -> dict[str, Judged]:
    """What an earlier call of this run has judged; its last line may have been cut."""
    path = out / RUN
    if path.is_file():
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            earlier = None
        if earlier != values:
            changed = [name for name in values if not isinstance(earlier, dict) or earlier.get(name) != values[name]]
            raise OptionError(
                f"{out} holds another run (other {', '.join(changed)}); choose another --out, or remove this one"
            )
    else:
        path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    done: dict[str, Judged] = {}
    predictions = out / PREDICTIONS
    if predictions.is_file():
        lines = predictions.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        if len(whole) < len(lines):
            predictions.write_text("".join(whole), encoding="utf-8")
        for number, line in enumerate(whole, 1):
            try:
                read = json.loads(line)
                one = Judged(**{**read, "verdict": Verdict(**read["verdict"])})
            except (ValueError, TypeError, KeyError) as error:
                raise OptionError(f"{predictions}, line {number}, is damaged; remove {out} and begin anew") from error
            done[one.key] = one
    return done


def _batches(items: Sequence[Item]) -> Iterator[list[Item]]:
    some: list[Item] = []
    seconds = 0.0
    for item in items:
        if some and (len(some) == ANSWERS_AT_ONCE or seconds + item.sound_s > SECONDS_AT_ONCE):
            yield some
            some, seconds = [], 0.0
        some.append(item)
        seconds += item.sound_s
    if some:
        yield some


def _answered(
    model: AudioFlamingo,
    items: Sequence[Item],
    metrics: dict[str, Metric],
    options: dict[str, Any],
    *,
    by_likelihood: bool,
) -> list[Judged]:
    asked: dict[int, tuple[Message, ...]] = {}
    failed: dict[int, FlamingoError] = {}
    for place, item in enumerate(items):
        try:
            asked[place] = as_conversation(item.row, [load_sound(sound) for sound in item.row.sounds])[: item.turn]
        except FlamingoError as error:
            failed[place] = error
    chosen = [place for place in asked if by_likelihood and metrics[items[place].key] == "choice"]
    given: dict[int, Reply | FlamingoError] = {
        place: _likeliest(model, items[place], asked.pop(place), options) for place in chosen
    }
    replies = model.generate(list(asked.values()), errors="return", **options) if asked else []
    given |= dict(zip(asked, replies, strict=True))
    found = []
    for place, item in enumerate(items):
        reply = failed.get(place) or given[place]
        is_error = isinstance(reply, FlamingoError)
        text, thoughts = ("", "") if isinstance(reply, FlamingoError) else (reply.text, reply.thoughts)
        verdict = judged(metrics[item.key], item.question, item.truth, text)
        found.append(
            Judged(
                item.set_name, item.row.id, item.turn, item.question, item.truth, text, thoughts, verdict,
                str(reply) if is_error else "",
            )
        )  # fmt: skip
    return found


def _likeliest(
    model: AudioFlamingo, item: Item, messages: tuple[Message, ...], options: dict[str, Any]
) -> Reply | FlamingoError:
    """The option that the model finds likeliest, spelt as the true answer is, as if it had been the answer."""
    try:
        scores = model.score(messages, spelt_as(item.truth, options_of(item.question)), **options)
    except FlamingoError as error:
        return error
    best = max(scores, key=lambda score: score.log_likelihood)
    return Reply(best.text, best.token_ids, "stop", Usage(0, 0, len(best.token_ids), 0.0))
