"""What does a step of a voice's recipe cost at its full size, does it learn, and does the size speak in real time?

    python benchmarks/voice_paper.py --train-s 120 --workers 7 --out out/voice_paper.json    # 644 M parameters: a GPU
    python benchmarks/voice_paper.py --tiny --train-s 20 --workers 1                         # anywhere: it runs

Weights are random at the start, flite reads, and the recipe's order is kept: the codec, the codec with critics, the
speech model over its codes, each for its share of the seconds. Every step is timed whole, drawing its batch included,
with the device idle at both ends. After that the voice speaks as a stream; seconds of training give no speech at this
size, but the work is that of a good voice. Prints a line a phase and one last JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from audioflamingo.speech.codec import CODEC_FRAME_SAMPLES
from audioflamingo.speech.speaker import Speaker
from audioflamingo.speech.stream import SPEECH_RATE_HZ
from audioflamingo.speech.synthesis import OwnSpeaker, OwnVoice
from audioflamingo.train.voice import LEXICON_EVERY_STEPS, LOAD_EVERY_STEPS, teacher_words
from audioflamingo.train.voice_pool import ReadingPool, start_rendering
from audioflamingo.train.voice_recipe import RECIPES, VoiceRecipe, for_cpu, recipe_by_name, tiny_voice
from audioflamingo.train.voice_trainer import VoiceTrainer

TEXT = "The quick brown fox jumps over the lazy dog, and then it sleeps in the warm sun until the evening comes."
FIRST_HOURS = 0.15  # of sound before the first step: one shard
MAX_SHARDS = 60
FEW = 5  # steps whose losses are averaged at a phase's begin and end
REPEATS = 5
ENCODED_BATCHES = 12
MB = 1_000_000
GIB = 1 << 30


@dataclass
class Phase:
    """What the steps of one kind cost, and what they learnt."""

    ms: list[float] = field(default_factory=list)
    losses: list[dict[str, float]] = field(default_factory=list)
    peak_bytes: int = 0

    def row(self) -> dict[str, object]:
        """For the report."""
        few = max(1, min(FEW, len(self.losses) // 2))
        return {
            "steps": len(self.ms),
            "ms": round(statistics.median(self.ms), 1),
            "ms_p95": round(sorted(self.ms)[int(0.95 * len(self.ms))], 1),
            "first_ms": round(self.ms[0], 1),
            "peak_gib": round(self.peak_bytes / GIB, 2),
            "losses_first": _means(self.losses[:few]),
            "losses_last": _means(self.losses[-few:]),
        }


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.fmean(row[name] for row in rows), 4) for name in rows[0]}


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def trained(trainer: VoiceTrainer, pool: ReadingPool) -> dict[str, Phase]:
    """Step until the budget is spent; phases by the losses that their steps have."""
    phases: dict[str, Phase] = {}
    extra, device, began = teacher_words(), trainer.device, time.monotonic()
    while trainer.spent_s < trainer.recipe.budget_s:
        if trainer.num_steps % LOAD_EVERY_STEPS == 0:
            pool.load_new()
        if trainer.num_steps % LEXICON_EVERY_STEPS == 0:
            trainer.learn_lexicon(pool, extra)
        begin = time.perf_counter()
        losses = trainer.step(pool)
        synchronise(device)
        ms = 1000 * (time.perf_counter() - begin)
        name = phase_of(set(losses))
        if name not in phases:
            phases[name] = Phase()
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
        phase = phases[name]
        phase.ms.append(ms)
        phase.losses.append({one: float(value) for one, value in losses.items()})
        if device.type == "cuda":
            phase.peak_bytes = torch.cuda.max_memory_allocated(device)
        trainer.spent_s = time.monotonic() - began
    return phases


def phase_of(losses: set[str]) -> str:
    parts = [name for name, loss in (("sound", "mel"), ("critics", "critics"), ("speech", "speech")) if loss in losses]
    return " and ".join(parts)


@torch.no_grad()
def encoding_ms(trainer: VoiceTrainer, pool: ReadingPool, *, searches: bool) -> float | None:
    """Median of the codec's encoder on whole clips, of ever new shapes; with a search for convolutions, or as is."""
    if trainer.encoder is None:
        return None
    work, times = trainer.encoder if searches else trainer.targets, []
    for _ in range(ENCODED_BATCHES):
        samples = pool.clips(trainer.rng, trainer.recipe.batch_s).samples
        synchronise(trainer.device)
        begin = time.perf_counter()
        work(samples)
        synchronise(trainer.device)
        times.append(1000 * (time.perf_counter() - begin))
    return round(statistics.median(times), 1)


def streaming(voice: OwnVoice) -> dict[str, float]:
    """First packet and real-time factor of one stream on the voice's device."""
    torch.backends.cudnn.benchmark = False  # as where it is used
    speaker = Speaker(OwnSpeaker(voice))
    speaker.say(TEXT)
    first, factors, seconds = [], [], 0.0
    for _ in range(REPEATS):
        begin = time.perf_counter()
        next(speaker.stream([TEXT]))
        first.append(1000 * (time.perf_counter() - begin))
        begin = time.perf_counter()
        seconds = len(speaker.say(TEXT)) / SPEECH_RATE_HZ
        factors.append((time.perf_counter() - begin) / seconds)
    rtf = statistics.median(factors)
    return {
        "first_audio_ms": round(statistics.median(first), 1),
        "rtf": round(rtf, 4),
        "rtf_largest": round(max(factors), 4),
        "ms_a_codec_frame": round(1000 * rtf * CODEC_FRAME_SAMPLES / SPEECH_RATE_HZ, 2),
        "spoken_s": round(seconds, 2),
    }


def measured(recipe: VoiceRecipe, work: Path, num_workers: int, device: torch.device) -> dict[str, object]:
    workers, stop = start_rendering(work / "shards", recipe.seed, num_workers, MAX_SHARDS)
    try:
        trainer = VoiceTrainer(recipe, device)
        pool = ReadingPool(work / "shards", device)
        pool.wait_for(FIRST_HOURS, workers)
        phases = trained(trainer, pool)
    finally:
        stop.set()
        for worker in workers:
            worker.terminate()
    rows = {name: phase.row() for name, phase in phases.items()}
    for name, row in rows.items():
        print(name, json.dumps(row), flush=True)
    return {
        "parameters_m": round(sum(one.numel() for one in trainer.voice.parameters()) / MB, 1),
        "speech_model_m": round(sum(one.numel() for one in trainer.voice.model.parameters()) / MB, 1),
        "speech_batch_s": recipe.batch_s,
        "sound_batch_s": round(recipe.crops * recipe.crop_frames * CODEC_FRAME_SAMPLES / SPEECH_RATE_HZ, 1),
        "pool_hours": round(pool.hours, 2),
        "phases": rows,
        "targets_ms": encoding_ms(trainer, pool, searches=False),
        "targets_searching_ms": encoding_ms(trainer, pool, searches=True),
        "streaming": streaming(trainer.voice.requires_grad_(False)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="paper", help=", ".join(RECIPES))
    parser.add_argument("--tiny", action="store_true", help="the smallest shapes, to see that it runs")
    parser.add_argument("--train-s", type=float, default=120.0, help="seconds of steps in all (120)")
    parser.add_argument("--workers", type=int, default=2, help="processes that render (2)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    torch.set_float32_matmul_precision("high")  # as `flamingo train voice` does
    torch.backends.cudnn.benchmark = True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = tiny_voice("codes") if options.tiny else recipe_by_name(options.recipe)
    recipe = recipe if device.type == "cuda" else for_cpu(recipe)
    with tempfile.TemporaryDirectory() as work:
        rows = measured(replace(recipe, budget_s=options.train_s), Path(work), options.workers, device)
    result = {
        "benchmark": "voice_paper",
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 1),
        "recipe": "tiny" if options.tiny else options.recipe,
        "train_s": options.train_s,
        **rows,
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
