"""Rows of our own world among a user's: what the embedded model knows is heard again while it learns something new."""

from __future__ import annotations

import json
import logging
import random
import wave
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from audioflamingo.train.render import draw_scene
from audioflamingo.world.scenes import Dice, Scene, Source, sound_scene
from audioflamingo.world.tasks import questions, text_only_questions
from audioflamingo.world.voices import EngineMissingError, open_engine

TEXT_ONLY_SHARE = 0.05
PEAK = 32_767
_log = logging.getLogger(__name__)


def write_replay(folder: Path, num_rows: int, seed: int) -> Path:
    """Render rows with exact answers; returns their JSONL, which is kept once it is there.

    The same arguments give the same rows; a speech engine that remembers what it said before may speak them otherwise.

    Args:
        folder: for the sounds and the file.
        num_rows: how many.
        seed: of everything.
    """
    file = folder / f"replay-{seed}-{num_rows}.jsonl"
    if file.exists():
        return file
    folder.mkdir(parents=True, exist_ok=True)
    rows = [_row(folder, index, seed) for index in range(num_rows)]
    partial = file.with_suffix(".partial")
    partial.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    partial.rename(file)
    return file


def _row(folder: Path, index: int, seed: int) -> dict[str, Any]:
    rng = random.Random(repr((seed, index)))
    name = f"replay-{seed}-{index:06}"
    if rng.random() < TEXT_ONLY_SHARE:
        asked = text_only_questions()
        sound: dict[str, Any] = {}
    else:
        scene = _scene(Dice.of(seed, index))
        asked = questions(scene, rng)
        _write_wav(folder / f"{name}.wav", scene)
        sound = {"sound": f"{name}.wav", "duration": len(scene.samples) / 16_000}
    chosen = rng.choices(asked, [question.weight for question in asked])[0]
    text = ("<sound>" if sound else "") + chosen.text
    turns = [{"from": "human", "value": text}, {"from": "gpt", "value": chosen.answer}]
    return {"id": name, **sound, "conversations": turns}


def _scene(dice: Dice) -> Scene:
    """Any scene of the training mixture; only sounds where no speech engine is installed."""
    if _can_speak():
        return draw_scene(dice)
    return sound_scene(Source(), dice, num_events=dice.plain.randint(1, 2))


@cache
def _can_speak() -> bool:
    try:
        for name in Source().engines:
            open_engine(name)
    except EngineMissingError:
        _log.warning("no speech engine is installed: replayed rows hold sounds but no speech")
        return False
    return True


def _write_wav(path: Path, scene: Scene) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(np.round(scene.samples * PEAK).astype("<i2").tobytes())
