"""The teacher's readings on the device: rendered by worker processes, drawn as crops for sound and as clips for speech.

Shapes: B clips, P phones, T codec frames of 960 samples, U = 4 T subframes.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event as StopEvent
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from audioflamingo.errors import FlamingoError
from audioflamingo.speech.codec import CODEC_FRAME_SAMPLES, SUBFRAMES
from audioflamingo.speech.model import SpeechBatch
from audioflamingo.speech.stream import SPEECH_RATE_HZ
from audioflamingo.train.voice_data import FliteTeacher, Reading, load_readings, render_shard, save_readings
from audioflamingo.train.voice_folder import align_worker

INT16_SCALE = 1 / 32_768


def render_worker(folder: Path, seed: int, worker: int, step: int, max_shards: int, stop: StopEvent) -> None:
    """Write shards worker, worker + step, ... until told to stop; those that exist stay."""
    teacher = FliteTeacher()
    for number in range(worker, max_shards, step):
        path = folder / f"shard-{number:06d}.npz"
        if stop.is_set():
            return
        if not path.exists():
            save_readings(render_shard(seed, number, teacher), path)


def start_rendering(
    folder: Path, seed: int, num_workers: int, max_shards: int, data: Path | None = None
) -> tuple[list[SpawnProcess], StopEvent]:
    """Start the workers: of the teacher, or those that align a folder; set the event to stop them after their shard."""
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    workers = [
        context.Process(target=render_worker, args=(folder, seed, worker, num_workers, max_shards, stop), daemon=True)
        if data is None
        else context.Process(target=align_worker, args=(folder, data, seed, worker, num_workers, stop), daemon=True)
        for worker in range(num_workers)
    ]
    for one in workers:
        one.start()
    return workers, stop


@dataclass(frozen=True, eq=False)
class ClipBatch:
    """Whole clips with their sound.

    Attributes:
        speech: phones, units, durations and voices; no history.
        samples: (B, 960 T) float32.
        num_frames: (B,) valid codec frames of each.
    """

    speech: SpeechBatch
    samples: Tensor
    num_frames: Tensor


class ReadingPool:
    """Readings, their sound as int16 on the device."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.folder, self.device = folder, device
        self.readings: list[Reading] = []
        self.sounds: list[Tensor] = []
        self.words: Counter[tuple[str, str]] = Counter()
        self._seen: set[str] = set()
        self._num_samples = 0

    @property
    def hours(self) -> float:
        """Of sound."""
        return self._num_samples / SPEECH_RATE_HZ / 3_600

    def load_new(self, most: int = 4) -> None:
        """Take up to `most` shards that have appeared."""
        fresh = sorted(path for path in self.folder.glob("shard-*.npz") if path.name not in self._seen)
        for path in fresh[:most]:
            self._seen.add(path.name)
            readings, words = load_readings(path)
            self.words += words
            self.readings += readings
            self.sounds += [torch.from_numpy(one.samples).to(self.device) for one in readings]
            self._num_samples += sum(len(one.samples) for one in readings)

    def wait_for(self, hours: float, workers: list[SpawnProcess]) -> None:
        """Until so much is there.

        Raises:
            FlamingoError: the workers died before.
        """
        while self.hours < hours:
            self.load_new()
            if self.hours < hours and not any(one.is_alive() for one in workers):
                self.load_new(most=1 << 20)  # what they wrote last
                if self.hours >= hours:
                    return
                raise FlamingoError(
                    f"the readers stopped at {self.hours:.2f} h of {hours} h. Without --data, flite must be installed "
                    "(Debian: libflite1) and --shards hold enough; with it, the folder must hold as much (or give a "
                    "smaller --first-hours): what could not be used is listed in WORK/shards/left-out-*.jsonl"
                )
            time.sleep(0.05)

    def crops(self, rng: np.random.Generator, num_clips: int, num_frames: int) -> Tensor:
        """(B, 960 T) float32 pieces of sound, cut at codec frames."""
        size = num_frames * CODEC_FRAME_SAMPLES
        rows = []
        for index in rng.integers(0, len(self.sounds), num_clips):
            sound = self.sounds[index]
            start = int(rng.integers(0, max(len(sound) - size, 0) // CODEC_FRAME_SAMPLES + 1)) * CODEC_FRAME_SAMPLES
            piece = sound[start : start + size]
            rows.append(torch.nn.functional.pad(piece, (0, size - len(piece))))
        return torch.stack(rows).float() * INT16_SCALE

    def clips(self, rng: np.random.Generator, batch_s: float, jitter: float = 0.0) -> ClipBatch:
        """Whole clips of about the same length, `batch_s` seconds in all, durations of some of them jittered."""
        pivot = len(self.readings[int(rng.integers(0, len(self.readings)))].samples)
        num_clips = max(2, int(batch_s * SPEECH_RATE_HZ / pivot))
        candidates = rng.integers(0, len(self.readings), min(6 * num_clips, 4_096))
        lengths = np.array([len(self.readings[index].samples) for index in candidates])
        chosen = candidates[np.argsort(np.abs(lengths - pivot), kind="stable")[:num_clips]]
        readings = [self.readings[index] for index in chosen]
        durations = [jittered(one.durations, rng) if rng.random() < jitter else one.durations for one in readings]
        num_frames = [-(-int(one.durations.sum()) // SUBFRAMES) for one in readings]
        size = max(num_frames) * CODEC_FRAME_SAMPLES
        sounds = [torch.nn.functional.pad(self.sounds[i], (0, size - len(self.sounds[i]))) for i in chosen]
        speech = SpeechBatch(
            phones=self._rows([one.phones for one in readings]),
            units=self._rows([one.units for one in readings], fill=1 << 30),
            durations=self._rows(durations),
            voices=torch.tensor([one.voice for one in readings], device=self.device),
        )
        return ClipBatch(
            speech, torch.stack(sounds).float() * INT16_SCALE, torch.tensor(num_frames, device=self.device)
        )

    def _rows(self, arrays: list[np.ndarray[tuple[int], np.dtype[np.int64]]], fill: int = 0) -> Tensor:
        rows = [torch.from_numpy(np.ascontiguousarray(one)) for one in arrays]
        return pad_sequence(rows, batch_first=True, padding_value=fill).to(self.device)


def jittered(
    durations: np.ndarray[tuple[int], np.dtype[np.int64]], rng: np.random.Generator
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Every third boundary or so moved by 10 ms; the sum stays and no phone vanishes."""
    out = durations.copy()
    for index in np.flatnonzero(rng.random(len(out) - 1) < 0.3).tolist():
        giver, taker = (index, index + 1) if rng.random() < 0.5 else (index + 1, index)
        if out[giver] > 1:
            out[giver] -= 1
            out[taker] += 1
    return out
