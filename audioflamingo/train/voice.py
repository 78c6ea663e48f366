"""Train the embedded voice from nothing: the teacher reads, the parts learn, the voice is saved as it ships.

python -m audioflamingo.train.voice --work runs/voice --out out --recipe mel --budget-s 1000 --until-s 480
python -m audioflamingo.train.voice --work runs/voice --out out --recipe mel --budget-s 1000    # goes on from there
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from audioflamingo.errors import CheckpointError
from audioflamingo.speech.codec import CODEC_FRAME_SAMPLES, WaveEncoder
from audioflamingo.speech.storage import load_voice, save_voice
from audioflamingo.speech.synthesis import OwnVoice
from audioflamingo.train.voice_data import FliteTeacher
from audioflamingo.train.voice_losses import Critics, critic_loss, fooling_loss, log_mels, mel_loss, stft_loss
from audioflamingo.train.voice_pool import ClipBatch, ReadingPool, start_rendering
from audioflamingo.train.voice_recipe import (
    RECIPES,
    VoiceRecipe,
    continued,
    corrupted,
    frames_of_mels,
    recipe_by_name,
    speech_losses,
)
from audioflamingo.train.voice_words import (
    LETTER_A,
    LETTER_NAMES,
    held_out,
    lexicon_of,
    pronouncer_loss,
    spoken_alone,
    wrong_words,
)

LOG_EVERY_STEPS = 50
LOAD_EVERY_STEPS = 20
LEXICON_EVERY_STEPS = 500
MAX_PART_BYTES = 15_500_000
MAX_NORM = 10.0
STATE_FILE = "state.pt"
APOSTROPHES = (
    "don't can't won't isn't aren't wasn't weren't doesn't didn't haven't hasn't hadn't wouldn't couldn't shouldn't "
    "i'm you're he's she's it's we're they're i've you've we've they've i'll you'll he'll she'll it'll we'll they'll "
    "i'd you'd he'd she'd we'd they'd that's what's there's here's let's who's o'clock"
)


@dataclass(frozen=True)
class VoiceJob:
    """Where and how long to train.

    Attributes:
        work: folder of shards and of the state that a later piece resumes from.
        out: folder for the voice and the log.
        until_s: stop (and save the state) once so much of the budget is spent.
        num_workers: rendering processes.
        max_shards: of 128 clips, about 10 minutes of sound each.
        first_hours: training starts when so many are there.
        start_from: a voice of the same shapes and names to go on from; by default from nothing.
    """

    work: Path
    out: Path
    until_s: float
    num_workers: int = 2
    max_shards: int = 120
    first_hours: float = 0.2
    start_from: Path | None = None


class VoiceTrainer:
    """All parts, their optimisers, and the clock."""

    def __init__(self, recipe: VoiceRecipe, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        torch.manual_seed(recipe.seed)
        self.voice = OwnVoice(recipe.config, recipe.voice_names).to(device)
        self.encoder = WaveEncoder(recipe.config.codec).to(device) if recipe.config.target == "codes" else None
        self.critics = Critics(recipe.critic_width).to(device)
        sound: list[nn.Module] = [self.voice.wave_decoder, *([self.encoder] if self.encoder else [])]
        self.optimisers = {
            "sound": _adam(sound, (0.8, 0.99)),
            "speech": _adam([self.voice.model], (0.9, 0.98)),
            "words": _adam([self.voice.pronouncer], (0.9, 0.98)),
            "critics": _adam([self.critics], (0.8, 0.99)),
        }
        self.rng = np.random.default_rng(recipe.seed)
        self.lexicon: dict[str, str] = {}
        self._known: list[str] = []  # of the lexicon, those that are learnt and not only tested
        self.spent_s, self.num_steps = 0.0, 0

    @property
    def progress(self) -> float:
        """Share of the budget that is spent."""
        return min(self.spent_s / self.recipe.budget_s, 1.0)

    def step(self, pool: ReadingPool) -> dict[str, Tensor]:
        """One step of every part whose time it is; losses stay on the device."""
        recipe, progress = self.recipe, self.progress
        losses: dict[str, Tensor] = {}
        clips = None
        if progress >= recipe.speech_from:
            clips = pool.clips(self.rng, recipe.batch_s, recipe.jitter)
            losses |= self._speech_step(clips)
        if progress < recipe.sound_until or (recipe.config.target == "mel" and progress >= recipe.joint_from):
            losses |= self._sound_step(pool, clips)
        if self.lexicon:
            losses["words"] = self._words_step()
        self.num_steps += 1
        return losses

    def learn_lexicon(self, pool: ReadingPool, extra: dict[str, str]) -> None:
        """Take the words that the pool holds by now."""
        self.lexicon = lexicon_of(pool.words) | extra
        self._known = [word for word in self.lexicon if not held_out(word)]

    def _speech_step(self, clips: ClipBatch) -> dict[str, Tensor]:
        model, recipe = self.voice.model, self.recipe
        target, history = self.targets(clips.samples)
        speech = clips.speech
        if history is not None:
            speech = replace(speech, history=corrupted(history, self.voice.quantiser.levels, recipe))
        log_durations, out = model(speech, clips.samples.shape[1] // CODEC_FRAME_SAMPLES)
        parts = speech_losses(model, clips, out, log_durations, target)
        self._update("speech", sum(parts.values(), out.new_zeros(())), recipe.speech_from, 1.0)
        return {name: value.detach() for name, value in parts.items()}

    @torch.no_grad()
    def targets(self, samples: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the speech model is to say: mel frames (B, 320, T); or indices (B, K, L, T), and levels (B, K L, T)."""
        if self.encoder is None:
            return frames_of_mels(log_mels(samples)), None
        levels = self.voice.quantiser(self.encoder(samples))
        return self.voice.quantiser.to_indices(levels), levels

    def _sound_step(self, pool: ReadingPool, clips: ClipBatch | None) -> dict[str, Tensor]:
        recipe = self.recipe
        is_joint = recipe.config.target == "mel" and self.progress >= recipe.joint_from and clips is not None
        features, real = self._own_features(clips) if is_joint and clips else self._true_features(pool)
        ours = self.voice.wave_decoder.whole(features)
        parts = {"mel": mel_loss(ours, real), "stft": stft_loss(ours, real)}
        total = recipe.mel_weight * parts["mel"] + parts["stft"]
        if self.progress >= recipe.critics_from:
            parts["critics"] = self._critics_step(ours.detach(), real)
            verdict, match = fooling_loss(*self._seen_by_critics(real, ours))
            parts |= {"fooling": verdict, "match": match}
            total = total + verdict + recipe.match_weight * match
        self._update("sound", total, 0.0, max(recipe.sound_until, float(recipe.config.target == "mel")))
        return {name: value.detach() for name, value in parts.items()}

    def _true_features(self, pool: ReadingPool) -> tuple[Tensor, Tensor]:
        real = pool.crops(self.rng, self.recipe.crops, self.recipe.crop_frames)
        if self.encoder is None:
            return frames_of_mels(log_mels(real)), real
        return self.voice.quantiser(self.encoder(real)), real

    @torch.no_grad()
    def _own_features(self, clips: ClipBatch) -> tuple[Tensor, Tensor]:
        """Crops of what the speech model says, with the sound that they should give: aligned, because durations are."""
        num_frames = clips.samples.shape[1] // CODEC_FRAME_SAMPLES
        size = min(self.recipe.crop_frames, num_frames)
        features = self.voice.model(clips.speech, num_frames)[1].transpose(1, 2)
        # Always as many, whatever the batch has: for every new shape the best convolutions would be searched again.
        rows = self.rng.integers(0, len(features), self.recipe.crops).tolist()
        starts = self.rng.integers(0, num_frames - size + 1, self.recipe.crops).tolist()
        places = list(zip(rows, starts, strict=True))
        cut = [features[row, :, start : start + size] for row, start in places]
        real = [
            clips.samples[row, start * CODEC_FRAME_SAMPLES :][: size * CODEC_FRAME_SAMPLES] for row, start in places
        ]
        return torch.stack(cut), torch.stack(real)

    def _seen_by_critics(self, real: Tensor, ours: Tensor) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """What they see of both, with gradients towards our sound alone."""
        self.critics.requires_grad_(False)
        try:
            with torch.no_grad():
                of_real = self.critics(real)
            return of_real, self.critics(ours)
        finally:
            self.critics.requires_grad_(True)

    def _critics_step(self, ours: Tensor, real: Tensor) -> Tensor:
        loss = critic_loss(self.critics(real), self.critics(ours))
        self._update("critics", loss, self.recipe.critics_from, 1.0, self.recipe.critic_rate)
        return loss

    def _words_step(self) -> Tensor:
        words = [self._known[index] for index in self.rng.integers(0, len(self._known), self.recipe.words)]
        loss = pronouncer_loss(self.voice.pronouncer, self.lexicon, words)
        self._update("words", loss, 0.0, 1.0)
        return loss.detach()

    def _update(self, name: str, loss: Tensor, begin: float, end: float, rate: float | None = None) -> None:
        optimiser = self.optimisers[name]
        for group in optimiser.param_groups:
            group["lr"] = (rate or self.recipe.rate) * self.recipe.shape(self.progress, begin, end)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_([p for g in optimiser.param_groups for p in g["params"]], MAX_NORM)
        optimiser.step()

    def state(self) -> dict[str, Any]:
        """All that a later piece needs."""
        modules = {name: module.state_dict() for name, module in self._modules().items()}
        optimisers = {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}
        return {"modules": modules, "optimisers": optimisers, "spent_s": self.spent_s, "num_steps": self.num_steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        for name, module in self._modules().items():
            module.load_state_dict(state["modules"][name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.spent_s, self.num_steps = state["spent_s"], state["num_steps"]
        self.rng = np.random.default_rng((self.recipe.seed, self.num_steps))

    def _modules(self) -> dict[str, nn.Module]:
        encoder = {"encoder": self.encoder} if self.encoder is not None else {}
        return {"voice": self.voice, "critics": self.critics, **encoder}


def _adam(modules: list[nn.Module], betas: tuple[float, float]) -> torch.optim.AdamW:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return torch.optim.AdamW(parameters, lr=0.0, betas=betas, weight_decay=0.01, fused=parameters[0].is_cuda)


def run(recipe: VoiceRecipe, job: VoiceJob, device: torch.device) -> VoiceTrainer:
    """Train until the job's share of the budget is spent; returns the trainer."""
    workers, stop = start_rendering(job.work / "shards", recipe.seed, job.num_workers, job.max_shards)
    try:
        trainer = VoiceTrainer(recipe, device)
        if job.start_from is not None:
            start_from(trainer.voice, job.start_from)
        state_file = job.work / STATE_FILE
        if state_file.exists():
            trainer.restore(torch.load(state_file, map_location=device, weights_only=True))
        pool = ReadingPool(job.work / "shards", device)
        pool.wait_for(job.first_hours, workers)
        _loop(trainer, pool, job)
    finally:
        stop.set()
        for worker in workers:
            worker.terminate()
    save(trainer, job)
    return trainer


def start_from(voice: OwnVoice, folder: Path) -> None:
    """Take over the weights of a saved voice.

    Raises:
        CheckpointError: the folder holds no voice, or one of other shapes or names.
    """
    saved = load_voice(folder)
    if (saved.config, saved.voice_names) != (voice.config, voice.voice_names):
        raise CheckpointError(
            f"{folder} holds the voices {', '.join(saved.voice_names)} of other shapes or names than the recipe's "
            f"{', '.join(voice.voice_names)}; train from nothing, or with the recipe that it was made by"
        )
    voice.load_state_dict(saved.state_dict())


def _loop(trainer: VoiceTrainer, pool: ReadingPool, job: VoiceJob) -> None:
    began, before, sums, counts = time.monotonic(), trainer.spent_s, dict[str, Tensor](), dict[str, int]()
    extra = spoken_alone(FliteTeacher(), [*LETTER_NAMES, *APOSTROPHES.split()]) | LETTER_A
    first_step = trainer.num_steps
    while trainer.spent_s < job.until_s:
        if trainer.num_steps % LOAD_EVERY_STEPS == 0:
            pool.load_new()
        if (trainer.num_steps - first_step) % LEXICON_EVERY_STEPS == 0:
            trainer.learn_lexicon(pool, extra)
        for name, value in trainer.step(pool).items():
            sums[name] = sums.get(name, value.new_zeros(())) + value
            counts[name] = counts.get(name, 0) + 1
        if trainer.num_steps % LOG_EVERY_STEPS == 0:
            _log(trainer, job, pool, {name: float(value) / counts[name] for name, value in sums.items()})
            sums, counts = {}, {}
        trainer.spent_s = before + time.monotonic() - began
    trainer.learn_lexicon(pool, extra)
    wrong = wrong_words(trainer.voice.pronouncer, trainer.lexicon)
    trainer.voice.pronouncer.exceptions = {word: tuple(phones.split()) for word, phones in wrong.items()}
    tested = [word for word in trainer.lexicon if held_out(word)]
    missed = sum(word in wrong for word in tested)
    means = {name: float(value) / counts[name] for name, value in sums.items()}
    _log(trainer, job, pool, means | {"words": len(trainer.lexicon), "wrong": len(wrong),
                                      "held_out_wrong": missed / max(len(tested), 1)})  # fmt: skip


def _log(trainer: VoiceTrainer, job: VoiceJob, pool: ReadingPool, values: dict[str, float]) -> None:
    rounded = {name: round(value, 4) for name, value in values.items()}
    line = {"s": round(trainer.spent_s, 1), "step": trainer.num_steps, "pool_h": round(pool.hours, 2), **rounded}
    print(json.dumps(line), flush=True)
    job.out.mkdir(parents=True, exist_ok=True)
    with (job.out / "log.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def save(trainer: VoiceTrainer, job: VoiceJob) -> None:
    """The state to go on from, the voice as it ships, and all weights in bf16 in files that are easy to carry."""
    torch.save(trainer.state(), job.work / STATE_FILE)
    save_voice(trainer.voice, job.out / "voice")
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in (trainer.voice.state_dict() | _encoder_weights(trainer)).items():
        size += 2 * tensor.numel()
        if size > MAX_PART_BYTES:
            parts.append({})
            size = 2 * tensor.numel()
        parts[-1][name] = tensor.detach().bfloat16().cpu().contiguous()
    for number, part in enumerate(parts):
        save_file(part, job.out / f"weights-{number:02d}.safetensors")


def _encoder_weights(trainer: VoiceTrainer) -> dict[str, Tensor]:
    if trainer.encoder is None:
        return {}
    return {f"codec_encoder.{name}": tensor for name, tensor in trainer.encoder.state_dict().items()}


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, default=Path("runs/voice"))
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="mel")
    parser.add_argument("--budget-s", type=float, help="seconds of training in all pieces together")
    parser.add_argument("--until-s", type=float, help="end this piece once so much is spent (default: the budget)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shards", type=int, default=120, help="of about 10 minutes of sound each")
    parser.add_argument("--first-hours", type=float, default=0.2)
    parser.add_argument("--start-from", type=Path, metavar="FOLDER", help="a saved voice to go on from")
    options = parser.parse_args()
    recipe = recipe_by_name(options.recipe, options.budget_s)
    if options.start_from is not None:
        recipe = continued(recipe)
    until_s = options.until_s or recipe.budget_s
    job = VoiceJob(options.work, options.out, until_s, options.workers, options.shards, options.first_hours,
                   options.start_from)  # fmt: skip
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True  # crops are all of one size, so the search for the best convolution pays
    run(recipe, job, torch.device("cuda" if torch.cuda.is_available() else "cpu"))


if __name__ == "__main__":
    main()
