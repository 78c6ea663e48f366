"""The short sounds of `examples/`, with the truth about each beside them.

    python -m audioflamingo.world.examples --out examples

Everything in them is held out: sentences of the split that training never speaks, seeds that it never uses, and for
one voice an engine that it never hears. The seed of each sound is its place in `EXAMPLES`, fixed before any model
was asked, so that nothing was chosen to flatter it. What the embedded model really answers is added by
`audioflamingo.eval.examples`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world import rooms, sounds, tasks
from audioflamingo.world.scenes import Dice, Event, Samples, Scene, Source, place, spoken
from audioflamingo.world.skills.base import clip_by_clip
from audioflamingo.world.voices import Sex, Speaker, draw_speaker

SEED = 9_000  # training's seeds have three numbers, the measured table's begin with another one
TRUTH_FILE = "truth.json"
LONGEST_SPEECH_S = 4.5
FEWEST_WORDS = 6
SOUND_S = (1.0, 2.0)
GAP_S = (0.3, 0.6)
MARGIN_S = 0.25
RAIN_SNR_DB = 10.0
EMPTY_S = 3.0
LOUDEST_NOISE = 0.1

Asked = tuple[str, Callable[[Scene], str]]


@dataclass(frozen=True)
class Example:
    """One sound and what is asked about it.

    Attributes:
        file: its name; the ending decides the format.
        made: how it was made, in words.
        make: renders it.
        asked: questions, each with what tells the true answer from the scene.
    """

    file: str
    made: str
    make: Callable[[Dice], Scene]
    asked: tuple[Asked, ...]


def sound_events(kinds: tuple[str, ...], strength: float, dice: Dice) -> Scene:
    """These sounds one after another, by synthesis that training knows, in renderings that it never heard."""
    pieces: list[Samples] = [np.zeros(_samples(MARGIN_S), np.float32)]
    events: list[Event] = []
    for kind in kinds:
        if events:
            pieces.append(np.zeros(_samples(dice.plain.uniform(*GAP_S)), np.float32))
        start_s = sum(map(len, pieces)) / SAMPLE_RATE_HZ
        steady_s = dice.plain.uniform(*SOUND_S) if sounds.KINDS[kind].steady else SOUND_S[1]
        pieces.append(sounds.render(kind, dice.numeric, duration_s=steady_s))
        events.append(Event(kind, start_s, start_s + len(pieces[-1]) / SAMPLE_RATE_HZ))
    pieces.append(pieces[0])
    heard = rooms.channel(0.7 * np.concatenate(pieces), dice.numeric, strength)
    return Scene(_within_scale(heard), tuple(events))


def speech(engine: str, sex: Sex, dice: Dice, *, voice: str | None = None) -> Scene:
    """A sentence of the test split that is short enough, said by a random speaker of this engine and sex, clean."""
    source = Source("test", strength=0.0)
    speaker = draw_speaker(dice.plain, (engine,))
    while speaker.sex != sex or (voice is not None and speaker.voice != voice):
        speaker = draw_speaker(dice.plain, (engine,))
    return place(*_short_sentence(source, dice, speaker), source, dice)


def speech_over(kind: str, snr_db: float, dice: Dice) -> Scene:
    """A man's sentence by flite while a steady sound goes on all through."""
    scene = speech("flite", "male", dice)
    bed = sounds.render(kind, dice.numeric, duration_s=len(scene.samples) / SAMPLE_RATE_HZ)
    mixed = rooms.mix_at_snr(scene.samples, bed[: len(scene.samples)], snr_db)
    return Scene(_within_scale(mixed), scene.events, background=kind)


def noise(dice: Dice) -> Scene:
    """Nothing but noise."""
    samples = rooms.noise_bed(_samples(EMPTY_S), dice.numeric)
    return Scene(samples * (LOUDEST_NOISE / float(np.abs(samples).max())), backdrop="noise")


def silence(_dice: Dice) -> Scene:
    """Nothing at all: every sample is zero."""
    return Scene(np.zeros(_samples(EMPTY_S), np.float32), backdrop="silence")


_HEAR: Asked = (tasks.IDENTIFY[0], tasks.heard)
_WORDS: Asked = (tasks.TRANSCRIBE[0], lambda scene: scene.transcript or tasks.NO_SPEECH)
_FIRST: Asked = (tasks.FIRST[0], lambda scene: tasks.heard(Scene(scene.samples, scene.events[:1])))
_SPEAKER: Asked = (tasks.SPEAKER_SEX[0], lambda scene: "A woman." if scene.events[0].sex == "female" else "A man.")
_BEHIND: Asked = (
    tasks.BACKGROUND[0],
    lambda scene: tasks.heard(Scene(scene.samples, (Event(scene.background or "", 0.0, 0.0),))),
)

EXAMPLES = (
    Example("dog_then_bell.wav", "a dog's bark and a church bell, synthesised, clean",
            partial(sound_events, ("dog_bark", "church_bell"), 0.0), (_HEAR, _FIRST)),
    Example("phone_then_knock.flac", "a telephone and a knock, synthesised, in a room with noise",
            partial(sound_events, ("phone_ring", "door_knock"), 0.7), (_HEAR, _FIRST)),
    Example("rooster.wav", "a rooster's crow, synthesised, clean",
            partial(sound_events, ("rooster_crow",), 0.0), (_HEAR,)),
    Example("siren.flac", "a siren, synthesised, in a room with noise",
            partial(sound_events, ("siren",), 0.7), (_HEAR,)),
    Example("woman_speaking.wav", "a new sentence by flite, voice slt",
            partial(speech, "flite", "female"), (_WORDS, _SPEAKER)),
    Example("man_speaking.flac", "a new sentence by espeak-ng, a random male voice",
            partial(speech, "espeak-ng", "male"), (_WORDS, _SPEAKER)),
    Example("unheard_voice.wav", "a new sentence by festival, voice ked: engine and voice never heard in training",
            partial(speech, "festival", "male", voice="ked_diphone"), (_WORDS,)),
    Example("man_over_rain.wav", f"a new sentence by flite, and rain {RAIN_SNR_DB:.0f} dB below it",
            partial(speech_over, "rain", RAIN_SNR_DB), (_WORDS, _BEHIND)),
    Example("noise.wav", "noise", noise, (_HEAR,)),
    Example("silence.flac", "every sample is zero", silence, (_HEAR, _WORDS)),
)  # fmt: skip
SEVERAL = ("rooster.wav", "siren.flac")  # asked about together, each a sound of its own


def entries(scenes: dict[str, Scene]) -> Iterator[dict[str, Any]]:
    """What the truth file tells: one entry a question, in order."""
    for place_, example in enumerate(EXAMPLES):
        for question, truth in example.asked:
            yield {
                "files": [example.file],
                "question": question,
                "answer": truth(scenes[example.file]),
                "made": example.made,
                "seed": [SEED, place_],
            }
    heard = [tasks.heard(scenes[name]).rstrip(".") for name in SEVERAL]
    yield {
        "files": list(SEVERAL),
        "question": _HEAR[0],
        "answer": clip_by_clip([one[0].lower() + one[1:] for one in heard]),
        "made": "two of the sounds above, given together",
        "seed": None,
    }


def render() -> dict[str, Scene]:
    """Every example by its file's name."""
    return {example.file: example.make(Dice.of(SEED, index)) for index, example in enumerate(EXAMPLES)}


def write(folder: Path, scenes: dict[str, Scene]) -> None:
    """The sounds, 16 bit at 16 kHz, and the truth file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, scene in scenes.items():
        soundfile.write(folder / name, scene.samples, SAMPLE_RATE_HZ, subtype="PCM_16")
    write_truth(folder, list(entries(scenes)))


def write_truth(folder: Path, told: list[dict[str, Any]]) -> None:
    """The truth file, made for people to read too."""
    (folder / TRUTH_FILE).write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _short_sentence(source: Source, dice: Dice, speaker: Speaker) -> tuple[Samples, str, Speaker]:
    while True:
        samples, text, _ = spoken(source, dice, speaker)
        if len(samples) <= _samples(LONGEST_SPEECH_S) and text.count(" ") + 1 >= FEWEST_WORDS:
            return samples, text, speaker


def _samples(duration_s: float) -> int:
    return round(duration_s * SAMPLE_RATE_HZ)


def _within_scale(samples: Samples) -> Samples:
    peak = float(np.abs(samples).max())
    return (samples * min(1.0, 0.98 / peak)).astype(np.float32)


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description="Make the sounds of examples/ and the truth about them.")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    write(parser.parse_args().out, render())


if __name__ == "__main__":
    main()
