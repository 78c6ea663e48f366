"""Render scenes to shards of clips in parallel processes, for as long as the trainer wants more."""

from __future__ import annotations

import multiprocessing
import random
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event as StopEvent
from pathlib import Path

from audioflamingo.train.clips import Clip, Encodes, make_clip, save_shard
from audioflamingo.world.scenes import (
    Dice,
    Scene,
    Source,
    empty_scene,
    sound_scene,
    speech_over_sound_scene,
    speech_scene,
)

CLIPS_PER_SHARD = 128
# Shares of clips; speech clips are the longest and the hardest, so they are most of the time.
MIXTURE: dict[str, float] = {
    "speech": 0.42,
    "speech_long": 0.06,
    "speech_over_sound": 0.08,
    "one_sound": 0.22,
    "two_sounds": 0.17,
    "empty": 0.05,
}
CLEAN_SHARE = 0.2  # of the clips: no channel but a mild gain
# Clean first, then ramp: an encoder that starts from nothing stands still for long in rooms and noise (docs/log.md).
CLEAN_SHARDS, RAMPED_SHARDS = 200, 600


@dataclass(frozen=True)
class RenderJob:
    """What one process renders: a shard's scenes depend on the seed and its own number alone.

    Not to the last sample: espeak-ng keeps state between utterances (`world.espeak_server` has the exact way, at the
    price of a fork for each).
    """

    folder: Path
    tokenizer_file: Path
    seed: int
    worker: int
    num_workers: int
    max_shards: int


def clean_share(shard: int) -> float:
    """Share of a shard's clips without a channel: all of the first ones, `CLEAN_SHARE` after the ramp."""
    ramp = (shard - CLEAN_SHARDS) / (RAMPED_SHARDS - CLEAN_SHARDS)
    return 1.0 - (1.0 - CLEAN_SHARE) * min(max(ramp, 0.0), 1.0)


def draw_scene(dice: Dice, split: str = "train", clean: float = CLEAN_SHARE) -> Scene:
    """A scene of a kind drawn from `MIXTURE`; `clean` is the share of those without a channel."""
    strength = 0.0 if dice.plain.random() < clean else dice.plain.uniform(0.3, 1.0)
    source = _source(split, strength)
    kind = dice.plain.choices(list(MIXTURE), list(MIXTURE.values()))[0]
    if kind == "speech":
        return speech_scene(source, dice)
    if kind == "speech_long":
        return speech_scene(source, dice, num_sentences=dice.plain.randint(2, 8))
    if kind == "speech_over_sound":
        return speech_over_sound_scene(source, dice)
    if kind == "empty":
        return empty_scene(dice)
    return sound_scene(source, dice, num_events=1 if kind == "one_sound" else 2)


def _source(split: str, strength: float) -> Source:
    return Source("test" if split == "test" else "train", strength=strength)


def render_clip(seed: tuple[int, ...], tokenizer: Encodes, split: str = "train", clean: float = CLEAN_SHARE) -> Clip:
    """The clip that belongs to this seed."""
    scene = draw_scene(Dice.of(*seed), split, clean)
    return make_clip(scene, tokenizer, random.Random(repr((seed, "questions"))))


class PlainTokenizer:
    """The tokenizers library's object with the one method that clips need."""

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(file))

    def encode(self, text: str) -> list[int]:
        """Token ids; special tokens are recognised."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def run_job(job: RenderJob, stop: StopEvent) -> None:
    """Write this worker's shards until told to stop; shards that exist are not rendered again."""
    tokenizer = PlainTokenizer(job.tokenizer_file)
    for number in range(job.worker, job.max_shards, job.num_workers):
        path = job.folder / f"shard-{number:06d}.npz"
        if stop.is_set():
            return
        if not path.exists():
            clean = clean_share(number)
            clips = [render_clip((job.seed, number, i), tokenizer, clean=clean) for i in range(CLIPS_PER_SHARD)]
            save_shard(clips, path)


def start_rendering(
    folder: Path, tokenizer_file: Path, *, seed: int, num_workers: int, max_shards: int
) -> tuple[list[SpawnProcess], StopEvent]:
    """Start the workers; set the returned event to stop them after their current shard."""
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    workers = []
    for worker in range(num_workers):
        job = RenderJob(folder, tokenizer_file, seed, worker, num_workers, max_shards)
        workers.append(context.Process(target=run_job, args=(job, stop), daemon=True))
        workers[-1].start()
    return workers, stop
