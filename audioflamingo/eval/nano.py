"""The embedded model's table: what it can do on material that training never saw, known and unknown sources apart.

    python -m audioflamingo.eval.nano --model nano --out benchmarks/results/nano.json

Every test set is made here from a seed: the same sentences, speakers and sounds on any machine that has the speech
engines. The samples of espeak-ng differ a little from run to run, because the library keeps state between utterances.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audioflamingo.api import AudioFlamingo, load_model
from audioflamingo.eval import nano_skills
from audioflamingo.eval.metrics import Measured, accuracy, word_error_rate
from audioflamingo.types import Audio, Message
from audioflamingo.world import tasks
from audioflamingo.world.drill import is_of_said_words
from audioflamingo.world.scenes import (
    SPEECH_LEVEL,
    Dice,
    Scene,
    Source,
    empty_scene,
    place,
    sound_scene,
    speech_over_sound_scene,
    speech_scene,
)
from audioflamingo.world.voices import Speaker, draw_speaker, speak

SEED = 4_000
BATCH = 16


@dataclass(frozen=True, eq=False)
class Item:
    """A sound, what is asked, the truth, and other wordings of it that are as right."""

    scene: Scene
    question: str
    answer: str
    also_right: tuple[str, ...] = ()


@dataclass(frozen=True)
class TestSet:
    """A named way to make items; `score` is "wer" or "exact"."""

    name: str
    score: str
    make: Callable[[Dice], Item]


def _spoken_item(source: Source, speaker_of: Callable[[Dice], Speaker], dice: Dice) -> Item:
    """A clean sentence of the test split by one speaker, or the same through the source's channel."""
    speaker = speaker_of(dice)
    text = source.sentences.sentence(dice.plain)
    samples = speak(text, speaker)
    samples = samples * (SPEECH_LEVEL / (float(np.sqrt(np.mean(np.square(samples)))) + 1e-9))
    scene = place(samples, text, speaker, source, dice)
    return Item(scene, tasks.TRANSCRIBE[0], scene.transcript or "")


def _speech(
    engine: str, strength: float, voice: str | None = None, *, of_said_words: bool | None = None
) -> Callable[[Dice], Item]:
    """Items of an engine, or of one of its voices; of sentences all of whose words training says, or not all."""
    source = Source("test", strength=strength)

    def speaker_of(dice: Dice) -> Speaker:
        speaker = draw_speaker(dice.plain, (engine,))
        return Speaker(engine, voice, "male", speaker.rate) if voice else speaker

    def item(dice: Dice) -> Item:
        while True:
            found = _spoken_item(source, speaker_of, dice)
            if of_said_words is None or is_of_said_words(found.answer) == of_said_words:
                return found

    return item


def _question(make: Callable[[Dice], Scene], task: str, *, phrasing: bool = False) -> Callable[[Dice], Item]:
    def item(dice: Dice) -> Item:
        while True:
            scene = make(dice)
            asked = tasks.questions(scene, random.Random(dice.plain.random()), held_out_phrasings=phrasing)
            for question in asked:
                if question.task == task:
                    # "What is going on?" may be answered by a caption as well as by a name.
                    also = (tasks.described(scene),) if phrasing and task == "identify" else ()
                    return Item(scene, question.text, question.answer, also)

    return item


def test_sets() -> Iterator[TestSet]:
    """All rows of the table, in order."""
    yield TestSet("transcription, new sentences, espeak-ng, clean", "wer", _speech("espeak-ng", 0.0))
    yield TestSet("transcription, new sentences, flite, clean", "wer", _speech("flite", 0.0))
    for engine in ("espeak-ng", "flite"):
        for told, of_said_words in (
            ("all words said in training", True),
            ("with a word never said in training", False),
        ):
            yield TestSet(f"transcription, new sentences, {engine}, clean, {told}", "wer",
                          _speech(engine, 0.0, of_said_words=of_said_words))  # fmt: skip
    yield TestSet("transcription, new sentences, espeak-ng, rooms and noise", "wer", _speech("espeak-ng", 1.0))
    yield TestSet("transcription, new sentences, flite, rooms and noise", "wer", _speech("flite", 1.0))
    yield TestSet("transcription, engine and voice never heard (festival ked)", "wer",
                  _speech("festival", 0.0, "ked_diphone"))  # fmt: skip
    yield TestSet("transcription, engine never heard (festival kal)", "wer", _speech("festival", 0.0, "kal_diphone"))
    yield TestSet("transcription, engine never heard (festival, both voices)", "wer", _speech("festival", 0.0))
    for name, held_out in (("new renderings", False), ("synthesis families never heard", True)):
        source = Source("test", held_out_sounds=held_out, strength=0.0)
        noisy = Source("test", held_out_sounds=held_out, strength=0.7)
        yield TestSet(f"naming one sound, {name}, clean", "exact", _question(_sounds(source, 1), "identify"))
        yield TestSet(f"naming one sound, {name}, rooms and noise", "exact", _question(_sounds(noisy, 1), "identify"))
        yield TestSet(f"naming two sounds in order, {name}, clean", "exact", _question(_sounds(source, 2), "identify"))
        yield TestSet(f"which of two came first, {name}, clean", "exact", _question(_sounds(source, 2), "which_first"))
    clean = Source("test", strength=0.0)
    yield TestSet("naming one sound, phrasing never seen", "exact",
                  _question(_sounds(clean, 1), "identify", phrasing=True))  # fmt: skip
    yield TestSet("multiple choice of four", "exact", _question(_sounds(clean, 1), "choice"))
    yield TestSet("is a sound there, yes or no", "exact", _question(_sounds(clean, 2), "presence"))
    yield TestSet("man or woman", "exact", _question(lambda dice: speech_scene(clean, dice), "speaker_sex"))
    yield TestSet("sound behind speech", "exact",
                  _question(lambda dice: speech_over_sound_scene(clean, dice), "background"))  # fmt: skip
    yield TestSet("noise or silence said to be so", "exact", _question(lambda dice: empty_scene(dice), "identify"))
    yield TestSet("no speech where nobody speaks", "exact", _question(_sounds(clean, 2), "transcribe"))


def _sounds(source: Source, num_events: int) -> Callable[[Dice], Scene]:
    return lambda dice: sound_scene(source, dice, num_events=num_events)


def make_items(test_set: TestSet, num_items: int) -> list[Item]:
    """The first items of a row; the same every time."""
    return [test_set.make(Dice.of(SEED, index)) for index in range(num_items)]


def measure(model: AudioFlamingo, test_set: TestSet, items: list[Item]) -> tuple[Measured, list[dict[str, str]]]:
    """The figure of one row, and its first mistakes."""
    replies: list[str] = []
    for start in range(0, len(items), BATCH):
        conversations = [
            [Message("user", (Audio(item.scene.samples, f"item {start + i}"), item.question))]
            for i, item in enumerate(items[start : start + BATCH])
        ]
        replies += [reply.text for reply in model.generate(conversations, max_new_tokens=96)]
    truths = [item.answer for item in items]
    if test_set.score == "wer":
        figure = word_error_rate(truths, replies)
    else:
        figure = accuracy([r in (i.answer, *i.also_right) for i, r in zip(items, replies, strict=True)])
    mistakes = [{"truth": t, "reply": r} for t, r in zip(truths, replies, strict=True) if t.lower() != r.lower()]
    return figure, mistakes[:8]


def measure_skills(model: AudioFlamingo, num_items: int, only: str, keep: Callable[[dict[str, Any]], None]) -> None:
    """The rows of `nano_skills` whose name contains `only`."""
    for row in nano_skills.rows():
        if only in row.name:
            began = time.monotonic()
            result = nano_skills.measure_row(model, row, num_items)
            print(nano_skills.told(row, result), flush=True)
            print(f"  {time.monotonic() - began:.0f} s; mistakes: {result.mistakes[:2]}", file=sys.stderr, flush=True)
            keep(nano_skills.as_json(row, result))


def measure_recognition(
    model: AudioFlamingo, num_items: int, only: str, keep: Callable[[dict[str, Any]], None]
) -> None:
    """The rows of this file whose name contains `only`."""
    for test_set in test_sets():
        if only in test_set.name:
            began = time.monotonic()
            figure, mistakes = measure(model, test_set, make_items(test_set, num_items))
            print(f"{test_set.name:<70} {figure}", flush=True)
            print(f"  {time.monotonic() - began:.0f} s; mistakes: {mistakes[:3]}", file=sys.stderr, flush=True)
            keep({"name": test_set.name, "score": test_set.score, **asdict(figure), "mistakes": mistakes})


def main() -> None:
    """Print the table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--thinking", type=Path, help="folder of a thinking adapter that is not the model's own")
    parser.add_argument("--rows", choices=("recognition", "skills", "all"), default="all")
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model = load_model(options.model, thinking=options.thinking)
    results: dict[str, Any] = {"model": options.model, "python": platform.python_version(), "rows": []}

    def keep(row: dict[str, Any]) -> None:
        results["rows"].append(row)
        if options.out:
            options.out.write_text(json.dumps(results, indent=1) + "\n")

    if options.rows != "skills":
        measure_recognition(model, options.items, options.only, keep)
    if options.rows != "recognition":
        measure_skills(model, options.items, options.only, keep)
    print(json.dumps({row["name"]: round(row["value"], 4) for row in results["rows"]}))


if __name__ == "__main__":
    main()
