"""The voice's trainer: all parts, their optimisers, their losses, and the clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audioflamingo.speech.codec import CODEC_FRAME_SAMPLES, WaveEncoder
from audioflamingo.speech.mels import frames_of_mels
from audioflamingo.speech.synthesis import OwnVoice
from audioflamingo.train.voice_losses import Critics, critic_loss, fooling_loss, log_mels, mel_loss, stft_loss
from audioflamingo.train.voice_pool import ClipBatch, ReadingPool
from audioflamingo.train.voice_recipe import VoiceRecipe, code_bits, corrupted, speech_losses
from audioflamingo.train.voice_words import held_out, lexicon_of, pronouncer_loss

MAX_NORM = 10.0


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
            losses |= {} if recipe.only_sound else self._speech_step(clips)
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
        with _unsearched_convolutions():  # whole clips: nearly every batch has a shape of its own
            levels = self.voice.quantiser(self.encoder(samples))
        return self.voice.quantiser.to_indices(levels), levels

    def _sound_step(self, pool: ReadingPool, clips: ClipBatch | None) -> dict[str, Tensor]:
        recipe = self.recipe
        is_joint = recipe.config.target == "mel" and self.progress >= recipe.joint_from and clips is not None
        features, real = self._own_features(clips) if is_joint and clips else self._true_features(pool)
        ours = self.voice.wave_decoder.whole(features)
        parts = {"mel": mel_loss(ours, real), "stft": stft_loss(ours, real)}
        if self.encoder is not None:  # whether the codes say anything: a codec may fall silent without an error
            quantiser = self.voice.quantiser
            parts["code_bits"] = code_bits(quantiser.to_indices(features.detach()), quantiser.levels)
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


@contextmanager
def _unsearched_convolutions() -> Iterator[None]:
    """No search for the best convolution inside: it pays only where shapes come again."""
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _adam(modules: list[nn.Module], betas: tuple[float, float]) -> torch.optim.AdamW:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return torch.optim.AdamW(parameters, lr=0.0, betas=betas, weight_decay=0.01, fused=parameters[0].is_cuda)
