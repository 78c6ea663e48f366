"""Question: how long should the pieces be in which the embedded model writes down a long talk, and how right are times?

Talks of sentences of the test split with pauses of 0.3 to 1.5 s, transcribed by `longform.transcribe_long` in pieces of
several lengths, and a minute of the first one heard at once. Words that are wrong; and, of the words that are right,
how far their time is off: the truth shares a sentence's span out by letters, the transcript a phrase's. Prints a row
each and writes JSON.

    python benchmarks/long_talk.py [--share 1.0] [--threads 1] [--out FILE]
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import audioflamingo
from audioflamingo.eval.metrics import word_error_rate
from audioflamingo.longform import Segment, transcribe_long
from audioflamingo.types import SAMPLE_RATE_HZ, Audio
from audioflamingo.world.scenes import Dice, Source, spoken
from audioflamingo.world.voices import TRAIN_ENGINES, draw_speaker

SEED = 88_000
PAUSE_S = (0.3, 1.5)
PIECES = ((15.0, 3.0), (20.0, 4.0), (30.0, 5.0))  # length and overlap
NEAR_S = 1.0
AT_ONCE_S = 60.0


@dataclass(frozen=True)
class Talk:
    """How one is made: whose voices, how many minutes, and whether all of it is one voice's."""

    name: str
    engines: tuple[str, ...]
    minutes: float
    one_voice: bool = True


TALKS = (
    Talk("10 min, one voice of espeak-ng", ("espeak-ng",), 10.0),
    Talk("5 min, one voice of flite", ("flite",), 5.0),
    Talk("5 min, many voices of both", TRAIN_ENGINES, 5.0, one_voice=False),
)


def made(talk: Talk, seconds: float, seed: int) -> tuple[Audio, list[Segment]]:
    """The talk's sound and its sentences with their spans."""
    dice = Dice.of(SEED, seed)
    source = Source("test", engines=talk.engines, strength=0.0)
    speaker = draw_speaker(random.Random(repr((SEED, seed))), talk.engines) if talk.one_voice else None
    parts: list[npt.NDArray[np.float32]] = []
    said: list[Segment] = []
    num = 0
    while num < seconds * SAMPLE_RATE_HZ:
        samples, text, _ = spoken(source, dice, speaker)
        said.append(Segment(num / SAMPLE_RATE_HZ, (num + len(samples)) / SAMPLE_RATE_HZ, text))
        quiet = np.zeros(round(dice.plain.uniform(*PAUSE_S) * SAMPLE_RATE_HZ), np.float32)
        parts += [samples.astype(np.float32), quiet]
        num += len(samples) + len(quiet)
    return Audio(np.concatenate(parts), talk.name), said


def timed(segments: list[Segment]) -> Iterator[tuple[str, float]]:
    """Every word and the middle of its share of its segment, by letters."""
    for segment in segments:
        words = segment.text.split()
        letters, before = sum(len(word) + 1 for word in words), 0
        for word in words:
            middle = (before + len(word) / 2) / letters
            yield word, segment.start_s + middle * (segment.end_s - segment.start_s)
            before += len(word) + 1


def off_by(truth: list[Segment], heard: list[Segment]) -> list[float]:
    """Seconds by which each word that is right is off."""
    ours, theirs = list(timed(truth)), list(timed(heard))
    matcher = SequenceMatcher(None, [word for word, _ in ours], [word for word, _ in theirs], autojunk=False)
    pairs = [(i + k, j + k) for i, j, num in matcher.get_matching_blocks() for k in range(num)]
    return [abs(ours[i][1] - theirs[j][1]) for i, j in pairs]


def measured(
    model: audioflamingo.AudioFlamingo, audio: Audio, said: list[Segment], piece_s: float, overlap_s: float
) -> dict[str, float]:
    """Words wrong, words within a second, and the median that words are off by."""
    transcript = transcribe_long(model, audio, piece_s=piece_s, overlap_s=overlap_s)
    truth = " ".join(one.text for one in said)
    off = off_by(said, list(transcript.spoken))
    return {
        "wrong": round(word_error_rate([truth], [transcript.text]).value, 4),
        "near": round(sum(one <= NEAR_S for one in off) / max(len(off), 1), 4),
        "off_by_s": round(statistics.median(off), 3) if off else 0.0,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0, help="of each talk's minutes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    model = audioflamingo.load_model("nano")
    rows: list[dict[str, object]] = []
    for seed, talk in enumerate(TALKS):
        audio, said = made(talk, 60.0 * talk.minutes * chosen.share, seed)
        for piece_s, overlap_s in PIECES:
            figures = measured(model, audio, said, piece_s, overlap_s)
            rows.append({"talk": talk.name, "words": sum(len(one.text.split()) for one in said), "piece_s": piece_s,
                         "overlap_s": overlap_s, **figures})  # fmt: skip
            print(rows[-1], flush=True)
    audio, said = made(TALKS[0], AT_ONCE_S, 0)
    heard = model.ask(audio, "Transcribe the input speech.", max_new_tokens=1_000).text
    wrong = round(word_error_rate([" ".join(one.text for one in said)], [heard]).value, 4)
    rows.append({"talk": f"{AT_ONCE_S:.0f} s of the first, heard at once", "wrong": wrong})
    print(rows[-1])
    found = {"benchmark": "long_talk", "date": datetime.date.today().isoformat(), "model": "nano", "rows": rows}
    path = chosen.out or Path(__file__).parent / "results" / f"long_talk_cpu_{found['date']}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
