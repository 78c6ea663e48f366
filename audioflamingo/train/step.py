"""Losses of one batch: characters and events from the encoder, answers from the decoder.

Shapes: B clips, S encoder frames, A audio tokens, P prefix tokens, T suffix tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from audioflamingo.model.attention import Packing
from audioflamingo.model.decoder import CausalContext
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.train.heads import ListeningHeads
from audioflamingo.train.pool import Batch


@dataclass(frozen=True)
class StepPlan:
    """What a step trains.

    Attributes:
        ctc_weight: of the character loss.
        event_weight: of the event loss.
        decoder: whether the decoder takes part.
        encoder_listens: whether the decoder's loss reaches the encoder.
        token_noise: share of the answer's input tokens replaced by random ones, so that the sound must be used.
    """

    ctc_weight: float = 1.0
    event_weight: float = 0.3
    decoder: bool = True
    encoder_listens: bool = True
    token_noise: float = 0.1


@dataclass(frozen=True)
class Heard:
    """What the encoder made of a batch: frames (B, S, D) before the pool, features (B, A, D) after it."""

    frames: Tensor
    features: Tensor


def listen(model: Flamingo, mel: Tensor, num_mel_frames: int) -> Heard:
    """Encode clips of equal length. mel: (B, bins, F)."""
    num_clips = mel.shape[0]
    frames, lengths = model.encoder.embed_frames(mel, [num_mel_frames] * num_clips)
    packing = Packing.of(lengths, frames.device)
    for layer in model.encoder.layers:
        frames = layer(frames, packing)
    features, _ = model.encoder.pool(frames, lengths)
    return Heard(frames.view(num_clips, -1, frames.shape[1]), features.view(num_clips, -1, frames.shape[1]))


def answer_logits(model: Flamingo, features: Tensor, batch: Batch, prefix: Tensor, suffix: Tensor) -> Tensor:
    """(M, V) logits that predict the answer tokens. prefix: (P,) ids; suffix: (B, T) ids that are fed."""
    num_clips, num_audio_tokens = features.shape[:2]
    embed = model.decoder.embed_tokens
    audio = model.projector(features.flatten(0, 1)).view(num_clips, num_audio_tokens, model.config.decoder.width)
    before = embed(prefix).expand(num_clips, -1, -1)
    embeddings = torch.cat([before, audio, embed(suffix)], dim=1)
    packing = Packing.of([embeddings.shape[1]] * num_clips, embeddings.device)
    positions = torch.arange(embeddings.shape[1], device=embeddings.device).repeat(num_clips)
    hidden = model.hidden_states(embeddings.flatten(0, 1), positions, CausalContext(packing))
    # A token is predicted one place before it stands.
    start = prefix.shape[0] + num_audio_tokens - 1
    predicting = hidden.view(num_clips, -1, hidden.shape[-1])[:, start:-1]
    return model.logits(predicting.flatten(0, 1)[batch.answer_places])


def losses(
    model: Flamingo, heads: ListeningHeads, batch: Batch, mel: Tensor, prefix: Tensor, plan: StepPlan
) -> dict[str, Tensor]:
    """Every part of the loss by name, each a mean, and their weighted "total"."""
    heard = listen(model, mel, batch.samples.shape[1] // 160)
    parts = {"ctc": heads.ctc_loss(heard.frames, batch), "events": heads.event_loss(heard.features, batch)}
    total = plan.ctc_weight * parts["ctc"] + plan.event_weight * parts["events"]
    if plan.decoder:
        features = heard.features if plan.encoder_listens else heard.features.detach()
        suffix = _disturb(batch, plan.token_noise, model.config.decoder.vocab_size)
        logits = answer_logits(model, features, batch, prefix, suffix)
        targets = batch.suffix.flatten()[batch.answer_places]
        parts["answer"] = functional.cross_entropy(logits.float(), targets)
        total = total + parts["answer"]
    return {**parts, "total": total}


def text_only_loss(model: Flamingo, batch: Batch, prefix: Tensor, plan: StepPlan) -> Tensor:
    """Answer loss of conversations without any sound."""
    nothing = model.projector.linear_1.weight.new_empty(len(batch.suffix), 0, model.config.encoder.width)
    suffix = _disturb(batch, plan.token_noise, model.config.decoder.vocab_size)
    logits = answer_logits(model, nothing, batch, prefix, suffix)
    return functional.cross_entropy(logits.float(), batch.suffix.flatten()[batch.answer_places])


def _disturb(batch: Batch, share: float, vocab_size: int) -> Tensor:
    if not share:
        return batch.suffix
    chosen = (torch.rand(batch.suffix.shape, device=batch.suffix.device) < share) & batch.is_answer
    return torch.where(chosen, torch.randint_like(batch.suffix, vocab_size), batch.suffix)
