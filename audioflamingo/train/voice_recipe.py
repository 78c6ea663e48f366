"""Recipes of the voice, and the losses of one step; all moments are shares of the budget of time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from audioflamingo.errors import OptionError
from audioflamingo.speech.codec import CodecConfig
from audioflamingo.speech.model import SpeechConfig, SpeechModel, Target, embedded, layers, paper_size
from audioflamingo.train.voice_data import VOICE_NAMES
from audioflamingo.train.voice_pool import ClipBatch


@dataclass(frozen=True)
class VoiceRecipe:
    """How a voice is trained.

    Attributes:
        config: shapes.
        voice_names: as many as the shapes say.
        budget_s: seconds of training in all, over all resumed pieces.
        sound_until: until then the codec (or the vocoder) learns.
        speech_from: from then on the speech model learns; for "codes" not before the codec is done.
        critics_from: from then on critics judge the sound.
        joint_from: from then on the vocoder hears the speech model's own mel frames; only for "mel".
        crops: pieces of sound a step.
        crop_frames: codec frames of each.
        batch_s: seconds of clips a step of the speech model.
        words: for the pronouncer a step.
        rate: peak learning rate of everything but the critics.
        critic_rate: of the critics.
        critic_width: see `Critics`.
        mel_weight: of the mel loss beside the critics' parts.
        match_weight: of feature matching.
        corrupt: share of history frames replaced by noise.
        drop: share of clips whose history is nothing.
        jitter: share of clips whose durations are moved.
        only_sound: the speech model and the pronouncer stay as they are, and the vocoder learns from its frames.
        seed: of weights, sentences and batches.
    """

    config: SpeechConfig
    voice_names: tuple[str, ...] = VOICE_NAMES
    budget_s: float = 1_080.0
    sound_until: float = 1.0
    speech_from: float = 0.0
    critics_from: float = 0.3
    joint_from: float = 0.75
    crops: int = 48
    crop_frames: int = 25
    batch_s: float = 160.0
    words: int = 512
    rate: float = 1e-3
    critic_rate: float = 3e-4
    critic_width: int = 32
    mel_weight: float = 45.0
    match_weight: float = 2.0
    corrupt: float = 0.15
    drop: float = 0.1
    jitter: float = 0.1
    only_sound: bool = False
    seed: int = 20261125

    def shape(self, progress: float, begin: float = 0.0, end: float = 1.0) -> float:
        """Share of the peak rate: a short rise, then half a cosine down to a hundredth."""
        done = min(max((progress - begin) / max(end - begin, 1e-9), 0.0), 1.0)
        if done < 0.02:
            return max(done, 1e-3) / 0.02
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


def mel_voice(budget_s: float = 1_080.0) -> VoiceRecipe:
    """The version that cannot fail on alignment: mel frames and a vocoder, both from the first step."""
    return VoiceRecipe(embedded("mel"), budget_s=budget_s)


def codes_voice(budget_s: float = 2_400.0) -> VoiceRecipe:
    """The paper's outline: first the codec, then the speech model over its codes."""
    return VoiceRecipe(embedded("codes"), budget_s=budget_s, sound_until=0.5, speech_from=0.5, joint_from=1.0)


def paper_voice(budget_s: float = 86_400.0) -> VoiceRecipe:
    """The paper's size; for many voices and real recordings."""
    names = tuple(f"voice-{index}" for index in range(paper_size().num_voices))
    return VoiceRecipe(
        paper_size(), names, budget_s, sound_until=0.5, speech_from=0.5, joint_from=1.0, rate=3e-4, crops=64
    )


def tiny_voice(target: Target = "mel", budget_s: float = 10.0) -> VoiceRecipe:
    """For tests: everything happens within seconds on a CPU."""
    config = SpeechConfig(
        target,
        text=layers(48, 2, 2, 96),
        frames=layers(64, 2, 2, 128),
        codec=CodecConfig(frame_width=48, subframe_width=32, frame_layers=1, subframe_layers=1),
    )
    split = 0.5 if target == "codes" else 0.0
    return VoiceRecipe(
        config, budget_s=budget_s, sound_until=split or 1.0, speech_from=split, crops=2, crop_frames=12, batch_s=6.0,
        words=32, critic_width=4, critics_from=0.4, joint_from=0.8, rate=3e-3,
    )  # fmt: skip


def continued(recipe: VoiceRecipe) -> VoiceRecipe:
    """The same for a voice that was trained before: spectral losses alone have done their part."""
    return replace(recipe, critics_from=0.05, joint_from=max(0.4, recipe.speech_from) if recipe.joint_from < 1 else 1.0)


def sound_alone(recipe: VoiceRecipe) -> VoiceRecipe:
    """The vocoder of a trained voice goes on by itself, from the first steps on what its own speech model says.

    Raises:
        OptionError: the recipe has no vocoder: over codes, the speech model follows the codec.
    """
    if recipe.config.target != "mel":
        raise OptionError("--only-sound is for the recipe mel; over codes the speech model must follow the codec")
    return replace(recipe, only_sound=True, critics_from=0.02, joint_from=0.02, jitter=0.0, rate=recipe.rate / 2)


def for_cpu(recipe: VoiceRecipe) -> VoiceRecipe:
    """The same in steps that a CPU makes within seconds: to see that all is well, not to get a good voice."""
    return replace(recipe, crops=min(recipe.crops, 4), batch_s=min(recipe.batch_s, 10.0), words=min(recipe.words, 64),
                   critic_width=min(recipe.critic_width, 8))  # fmt: skip


def for_voices(recipe: VoiceRecipe, names: tuple[str, ...]) -> VoiceRecipe:
    """The same for other voices."""
    return replace(recipe, config=replace(recipe.config, num_voices=len(names)), voice_names=names)


RECIPES = {"mel": mel_voice, "codes": codes_voice, "paper": paper_voice}


def recipe_by_name(name: str, budget_s: float | None = None) -> VoiceRecipe:
    """A recipe.

    Raises:
        OptionError: there is none of this name.
    """
    if name not in RECIPES:
        raise OptionError(f"recipe {name!r} is not one of {', '.join(RECIPES)}")
    return RECIPES[name]() if budget_s is None else RECIPES[name](budget_s)


def corrupted(history: Tensor, levels: Tensor, recipe: VoiceRecipe) -> Tensor:
    """(B, K L, T) history as generation will see it: some frames wrong, some clips without any (exposure bias).

    Args:
        history: true levels.
        levels: (L,) number of levels of each dimension of a group.
        recipe: how much.
    """
    batch, width, num_frames = history.shape
    top = (levels - 1).repeat(width // len(levels))[:, None].float()
    noise = (torch.rand_like(history) * (top + 1)).floor().clamp(max=top) / top * 2 - 1
    is_wrong = torch.rand(batch, 1, num_frames, device=history.device) < recipe.corrupt
    is_kept = torch.rand(batch, 1, 1, device=history.device) >= recipe.drop
    return torch.where(is_wrong, noise, history) * is_kept


def code_bits(indices: Tensor, levels: Tensor) -> Tensor:
    """Bits of a codec frame if its dimensions were independent: 80 at most for 8 x [8, 5, 5, 5]; near 0 says nothing.

    Args:
        indices: (B, K, L, T) int64.
        levels: (L,) number of levels of each dimension of a group.

    Returns:
        Scalar, float32.
    """
    shares = functional.one_hot(indices, int(levels.max())).float().mean((0, 3))  # (K, L, levels)
    return -torch.xlogy(shares, shares).sum() / math.log(2)


def speech_losses(
    model: SpeechModel, clips: ClipBatch, out: Tensor, log_durations: Tensor, target: Tensor
) -> dict[str, Tensor]:
    """Loss of durations, and of mel frames or codes.

    Args:
        model: for its shapes.
        clips: with their valid lengths.
        out: (B, T, out) of the head.
        log_durations: (B, P).
        target: (B, 320, T) mel frames, or (B, K, L, T) indices of levels.
    """
    speech = clips.speech
    is_phone = torch.arange(speech.phones.shape[1], device=out.device) < (speech.units < 1 << 30).sum(1, keepdim=True)
    wanted = torch.log1p(speech.durations.float())
    durations = functional.smooth_l1_loss(log_durations[is_phone], wanted[is_phone])
    is_frame = torch.arange(out.shape[1], device=out.device) < clips.num_frames[:, None]
    if model.history is None:
        content = functional.l1_loss(out[is_frame], target.transpose(1, 2)[is_frame])
    else:
        indices = target.permute(0, 3, 1, 2)[is_frame]  # (n, K, L)
        losses = [
            functional.cross_entropy(one[is_frame].flatten(0, 1), indices[..., number].flatten())
            for number, one in enumerate(model.level_logits(out))
        ]
        content = torch.stack(losses).mean()
    return {"durations": durations, "speech": content}
