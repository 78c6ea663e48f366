"""A model's answers to the rows of a data set, each judged, kept as they come; the same call goes on where one ended.

The data are what training takes (`train.data`): NVIDIA's JSON and JSONL, shards, tables, the world. Every answer of a
row is asked for with the true turns before it. What is left out is listed, what the model refuses counts as wrong.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from audioflamingo.api import AudioFlamingo
from audioflamingo.errors import FlamingoError, OptionError
from audioflamingo.eval.captions import MAX_TEXT_CHARS, CaptionScore
from audioflamingo.eval.items import Item, group_of, items_of
from audioflamingo.eval.judge import Judge
from audioflamingo.eval.judging import Metric, Verdict, options_of, spelt_as
from audioflamingo.eval.normalize import PLAIN, Normalization, normalizer
from audioflamingo.model.fingerprint import fingerprint
from audioflamingo.train.claim import claimed
from audioflamingo.train.data.corpus import check_bad_share, write_bad_rows
from audioflamingo.train.data.examples import as_conversation
from audioflamingo.train.data.mixtures import Component
from audioflamingo.train.data.rows import BadRow
from audioflamingo.train.data.sounds import load_sound
from audioflamingo.train.explained import explained_files
from audioflamingo.types import Message, Reply, Usage

ANSWERS_AT_ONCE = 32
SECONDS_AT_ONCE = 1_200.0  # of sound
GOES_ON = "answers that are there are not asked for again"
PREDICTIONS, RUN, BAD_ROWS = "predictions.jsonl", "run.json", "bad_rows.jsonl"

Told = Callable[[int, int], None]


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
    references: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """See `Item.key`."""
        return f"{self.set_name}\n{self.id}\n{self.turn}"

    @property
    def group(self) -> str:
        """See `Item.group`."""
        return group_of(self.set_name, self.id)

    def line(self) -> str:
        """As JSON, without what only captions have where it is none."""
        values = asdict(self)
        if not self.references:
            del values["references"], values["verdict"]["caption"]
        return json.dumps(values, ensure_ascii=False)

    @classmethod
    def of_line(cls, line: str) -> Judged:
        """From JSON.

        Raises:
            ValueError, TypeError, KeyError: it is none of `line`'s.
        """
        values = json.loads(line)
        verdict = dict(values["verdict"])
        score = verdict.get("caption")
        if score is not None:
            verdict["caption"] = CaptionScore(**{**score, "matches": tuple(score["matches"])})
        references = tuple(values.get("references", ()))
        return cls(**{**values, "verdict": Verdict(**verdict), "references": references})


@dataclass
class Evaluation:
    """All that was judged, what was left out, and what whoever reads the figures should know."""

    answers: list[Judged] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    num_kept: int = 0
    notes: list[str] = field(default_factory=list)


def evaluate(  # noqa: PLR0913  (each is an option of the verb)
    model: AudioFlamingo,
    components: Sequence[Component],
    out: Path,
    *,
    metric: Metric | None = None,
    references: Sequence[Component] = (),
    normalize: Normalization = "plain",
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
        references: data whose true captions say how rare an n-gram is, for all sets; sounds are not opened. Without
            them those of the answers that are asked for say it, of each set for itself.
        normalize: how the words of transcripts, true ones and answers, are evened out before they are compared: plain
            puts them in lower case without punctuation, english does what Whisper's normalizer does.
        by_likelihood: whether of a multiple-choice question the likeliest option is taken, instead of an answer.
        max_rows: of each component, the first so many; None for all.
        told: called with answers that are done and all.
        options: of every answer, see `Options`.

    Raises:
        FlamingoError: data or options cannot be used, too many rows are bad, or `out` holds another run or cannot be
            written to.
    """
    how = normalizer(normalize)
    with explained_files(out, GOES_ON), claimed(out):
        read = items_of(components, model.defaults.max_windows, metric=metric, max_rows=max_rows)
        items = read.items
        (out / BAD_ROWS).unlink(missing_ok=True)
        if read.bad:
            write_bad_rows(read.bad, out / BAD_ROWS)
        check_bad_share(read.bad, read.num_rows + len(read.bad), out / BAD_ROWS)
        judge = Judge(items, _references_of(references, model.defaults.max_windows, metric), how)
        values = _run_values(model, items, metric, options)
        if references:
            values["references"] = judge.digest
        if how is not PLAIN:
            values["normalize"] = how.description
        done = _kept(out, values | {"choices": "likelihood" if by_likelihood else "answer"})
        found = Evaluation([done[item.key] for item in items if item.key in done], read.bad, len(done), judge.notes())
        with (out / PREDICTIONS).open("a", encoding="utf-8") as file:
            for some in _batches([item for item in items if item.key not in done]):
                for one in _answered(model, some, judge, options, by_likelihood=by_likelihood):
                    found.answers.append(one)
                    file.write(one.line() + "\n")
                file.flush()
                if told:
                    told(len(found.answers), len(items))
        found.notes += _notes_on(found.answers)
    return found


def _references_of(components: Sequence[Component], max_windows: int, metric: Metric | None) -> list[Item]:
    if not components:
        return []
    found = items_of(components, max_windows, metric=metric, with_sounds=False)
    check_bad_share(found.bad, found.num_rows + len(found.bad))
    captions = [item for item in found.items if item.metric == "caption"]
    if not captions:
        raise OptionError("no question of the references asks for a caption; choose the metric caption (--metric)")
    return captions


def _notes_on(answers: Sequence[Judged]) -> list[str]:
    long = sum(one.verdict.metric == "caption" and len(one.answer) > MAX_TEXT_CHARS for one in answers)
    told = f"{long:,} captions of more than {MAX_TEXT_CHARS:,} characters were not read, and count as saying nothing"
    unread = sum(one.verdict.metric == "words" and not one.verdict.is_told for one in answers)
    failed = (
        f"{unread:,} transcripts could not be normalized (more than {MAX_TEXT_CHARS:,} characters, or a number of "
        "thousands of digits), and count as saying nothing"
    )
    return [told] * bool(long) + [failed] * bool(unread)


def _run_values(
    model: AudioFlamingo, items: Sequence[Item], metric: Metric | None, options: dict[str, Any]
) -> dict[str, Any]:
    digest = hashlib.sha256()
    for item in items:
        digest.update(repr((item.key, item.row.turns, [sound.name for sound in item.row.sounds])).encode())
        if item.metric == "caption":
            digest.update(repr((item.metric, item.references)).encode())
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
            kept = earlier if isinstance(earlier, dict) else {}
            changed = [name for name in values | kept if kept.get(name) != values.get(name)]
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
                one = Judged.of_line(line)
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
    judge: Judge,
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
    chosen = [place for place in asked if by_likelihood and items[place].metric == "choice"]
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
        verdict = judge.verdict(item, text)
        found.append(
            Judged(
                item.set_name, item.row.id, item.turn, item.question, item.truth, text, thoughts, verdict,
                str(reply) if is_error else "", item.references,
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
