"""Rows of the encoder and of the log-mel."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from audioflamingo.audio import log_mel_batch, num_audio_tokens, num_encoder_frames, num_mel_frames, split_windows
from audioflamingo.bench.context import Context
from audioflamingo.bench.floors import Work
from audioflamingo.bench.reference import Reference
from audioflamingo.bench.row import Row
from audioflamingo.bench.timing import Sample, sampled_ms
from audioflamingo.config import WINDOW_S
from audioflamingo.model.costs import encoder_flops
from audioflamingo.model.threads import threads_for
from audioflamingo.types import SAMPLE_RATE_HZ


def encoder(context: Context) -> Iterator[Row]:
    """Encoder and projector, from features on the device."""
    scale = context.scale
    num_windows = round(scale.long_s / WINDOW_S)
    yield _encoder_row(context, "encoder_long", f"encoder, {num_windows} windows", [float(WINDOW_S)] * num_windows)
    for key, duration_s in (("encoder_shortest", scale.shortest_s), ("encoder_short", scale.short_s)):
        work = f"encoder, {scale.many} clips of {duration_s:g} s"
        yield _encoder_row(context, key, work, [duration_s] * scale.many)


def _encoder_row(context: Context, key: str, work: str, durations_s: list[float]) -> Row:
    lengths = [round(duration_s * SAMPLE_RATE_HZ) for duration_s in durations_s]
    frames = [num_encoder_frames(num_mel_frames(length)) for length in lengths]
    return Row(
        key=key,
        section="encoder",
        work=work,
        unit="ms",
        ours=context.ours(lambda: _our_encoder(context, durations_s)),
        peer=context.theirs(lambda peer: _their_encoder(context, peer, durations_s)),
        cost=Work((context.cost.listen(frames, sum(map(num_audio_tokens, lengths))),)),
        goal=context.goal(key),
    )


def _our_encoder(context: Context, durations_s: list[float]) -> Sample:
    model = context.subject.model
    windows = [context.material.sound(duration_s).samples for duration_s in durations_s]
    mel, frames = log_mel_batch(windows, context.device)
    flops = encoder_flops(model.config.encoder, map(num_encoder_frames, frames))

    @torch.inference_mode()
    def run(_: None) -> object:
        with threads_for(flops, context.device):
            return model.embed_audio(mel, list(frames))

    return sampled_ms(run, lambda: None, context.device)


def _their_encoder(context: Context, peer: Reference, durations_s: list[float]) -> Sample:
    inputs = peer.features([context.material.sound(duration_s).samples for duration_s in durations_s])
    return sampled_ms(lambda _: peer.encode(*inputs), lambda: None, context.device)


def log_mel(context: Context) -> Iterator[Row]:
    """Log-mels of the long sound, from samples on the host; the peer's extractor runs on the CPU."""
    scale, material = context.scale, context.material

    def ours() -> Sample:
        windows = split_windows(material.sound(scale.long_s).samples)
        return sampled_ms(lambda _: log_mel_batch(windows, context.device), lambda: None, context.device)

    def theirs(peer: Reference) -> Sample:
        windows = split_windows(material.sound(scale.long_s).samples)
        return sampled_ms(lambda _: peer.log_mel(windows), lambda: None, context.device)

    yield Row(
        key="log_mel",
        section="mel",
        work=f"log-mel of {scale.long_s:g} s",
        unit="ms",
        ours=context.ours(ours),
        peer=context.theirs(theirs),
        goal=context.goal("log_mel"),
    )
