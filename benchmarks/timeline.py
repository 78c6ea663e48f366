"""Question: how right are the times of a timeline? Scenes made for it, events where they are known to be.

Each scene is 40 s of faint noise with up to six sound events of different kinds, rendered by the world from seeds that
training does not use, with pauses between them. The embedded model's timeline, by length of piece and step, is held
against the truth: overlap of what is told and what is there in tenths of a second (F1 over labels), how far starts and
ends of events that are found are off, events that are missed, and events where nothing of the kind is. Prints a table
and one line of JSON, which is also written to --out.

    python benchmarks/timeline.py [--scenes 6] [--device cpu] [--threads 1]
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import audioflamingo
from audioflamingo.facts.asking import listed
from audioflamingo.timeline import QUESTIONS, Event, timeline
from audioflamingo.types import SAMPLE_RATE_HZ, Audio, Reply, Usage
from audioflamingo.world.sounds import KINDS, render

KIND_NAMES = ("dog_bark", "siren", "door_knock", "church_bell", "car_horn", "cat_meow", "applause", "thunder", "rain")
FIRST_SEED = 77_000_000
SCENE_S, EVENTS_A_SCENE, LONGEST_EVENT_S = 40, 6, 5.0
NOISE_LEVEL, EVENT_LEVEL = 0.002, 0.5
STEPS_A_SECOND = 10
SETTINGS = ((4.0, 2.0), (4.0, 1.0), (2.0, 1.0), (4.0, 0.5))  # piece, step


@dataclass(frozen=True)
class Scene:
    """A sound, and what is heard in it when."""

    audio: Audio
    truth: tuple[Event, ...]


class OnlySounds:
    """A model that is asked for sounds alone: whether there is speech or music is not the question here."""

    def __init__(self, model: audioflamingo.AudioFlamingo) -> None:
        self._model = model

    def generate(self, conversations: Sequence[Any], **options: Any) -> list[Reply]:
        """See `timeline.Answering`."""
        if conversations[0][0].content[1] != QUESTIONS["sound"]:
            return [Reply("No.", (), "stop", Usage(0, 0, 0, 0.0))] * len(conversations)
        return self._model.generate(conversations, **options)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    model = OnlySounds(audioflamingo.load_model("nano", device=chosen.device))
    scenes = [made(FIRST_SEED + number) for number in range(chosen.scenes)]
    rows = []
    for piece_s, step_s in SETTINGS:
        rows.append({"piece_s": piece_s, "step_s": step_s, **scored(model, scenes, piece_s, step_s)})
        print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    found = {
        "benchmark": "timeline",
        "date": datetime.date.today().isoformat(),
        "device": platform.machine() if chosen.device == "cpu" else torch.cuda.get_device_name(),
        "model": "nano",
        "scenes": chosen.scenes,
        "events": sum(len(scene.truth) for scene in scenes),
        "rows": rows,
    }
    path = chosen.out or Path(__file__).parent / "results" / f"timeline_{chosen.device}_{found['date']}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))


def made(seed: int) -> Scene:
    """A scene from a seed."""
    rng = np.random.default_rng(seed)
    samples = NOISE_LEVEL * rng.standard_normal(SCENE_S * SAMPLE_RATE_HZ).astype(np.float32)
    truth: list[Event] = []
    at_s = float(rng.uniform(0.5, 3))
    for kind in rng.permutation(KIND_NAMES)[:EVENTS_A_SCENE]:
        sound = render(str(kind), rng)[: round(LONGEST_EVENT_S * SAMPLE_RATE_HZ)]
        end_s = at_s + len(sound) / SAMPLE_RATE_HZ
        if end_s > SCENE_S:
            break
        start = round(at_s * SAMPLE_RATE_HZ)
        samples[start : start + len(sound)] += EVENT_LEVEL * sound
        truth.append(Event(at_s, end_s, "sound", listed(KINDS[str(kind)].label)[0]))
        at_s = end_s + float(rng.uniform(0.5, 4))
    return Scene(Audio(samples, f"scene {seed}"), tuple(truth))


def scored(model: OnlySounds, scenes: Sequence[Scene], piece_s: float, step_s: float) -> dict[str, float]:
    """What the timelines of all scenes are worth."""
    counts, starts_s, ends_s = np.zeros(3, int), [], []
    num_missed = num_invented = 0
    for scene in scenes:
        told = timeline(model, scene.audio, piece_s=piece_s, step_s=step_s)
        counts += overlap(told, scene.truth)
        for event in scene.truth:
            near = [one for one in told if one.label == event.label and shared_s(one, event) > -step_s]
            if near:
                best = max(near, key=lambda one: shared_s(one, event))
                starts_s.append(abs(best.start_s - event.start_s))
                ends_s.append(abs(best.end_s - event.end_s))
            num_missed += not near
        num_invented += sum(
            not any(one.label == event.label and shared_s(one, event) > 0 for event in scene.truth) for one in told
        )
    both, only_told, only_there = map(int, counts)
    return {
        "f1": round(2 * both / max(1, 2 * both + only_told + only_there), 3),
        "start_off_s": round(statistics.mean(starts_s), 2) if starts_s else float("nan"),
        "end_off_s": round(statistics.mean(ends_s), 2) if ends_s else float("nan"),
        "missed": num_missed,
        "invented": num_invented,
    }


def shared_s(one: Event, other: Event) -> float:
    """Seconds that two events share; below zero, the gap between them."""
    return min(one.end_s, other.end_s) - max(one.start_s, other.start_s)


def overlap(told: Sequence[Event], truth: Sequence[Event]) -> Any:
    """Tenths of a second, over all labels, that are told and there, told only, and there only."""
    labels = {one.label for one in (*told, *truth)}
    size = SCENE_S * STEPS_A_SECOND
    found = np.zeros(3, int)
    for label in labels:
        rows = np.zeros((2, size), bool)
        for row, events in zip(rows, (told, truth), strict=True):
            for one in (one for one in events if one.label == label):
                row[int(one.start_s * STEPS_A_SECOND) : int(np.ceil(one.end_s * STEPS_A_SECOND))] = True
        found += [(rows[0] & rows[1]).sum(), (rows[0] & ~rows[1]).sum(), (~rows[0] & rows[1]).sum()]
    return found


if __name__ == "__main__":
    main()
