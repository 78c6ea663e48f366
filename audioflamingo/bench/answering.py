"""Rows of whole requests through the engine: first tokens, second questions, decode steps, batches.

Ours starts from samples and ids on the host and ends with tokens on the host: hashing the sound, log-mel, encoder and
all bookkeeping count. The peer starts from features on the device, which is in its favour.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial

from audioflamingo.audio import num_audio_tokens, num_encoder_frames, num_mel_frames
from audioflamingo.bench.context import Context
from audioflamingo.bench.floors import Stage, Work
from audioflamingo.bench.material import QUESTION_TOKENS
from audioflamingo.bench.reference import Reference
from audioflamingo.bench.row import Row
from audioflamingo.bench.timeline import answer_all, first_token
from audioflamingo.bench.timing import Sample, elapsed_s, sampled_ms
from audioflamingo.config import WINDOW_S
from audioflamingo.types import SAMPLE_RATE_HZ

FIRST_ANSWER_TOKENS = 16


def listen_stage(context: Context, durations_s: Sequence[float]) -> Stage:
    """Encoder and projector over sounds of these lengths."""
    frames, num_tokens = [], 0
    for duration_s in durations_s:
        num_tokens += num_audio_tokens(round(duration_s * SAMPLE_RATE_HZ))
        full, rest_s = divmod(duration_s, WINDOW_S)
        windows_s = [float(WINDOW_S)] * int(full) + ([rest_s] if rest_s else [])
        frames += [num_encoder_frames(num_mel_frames(round(one * SAMPLE_RATE_HZ))) for one in windows_s]
    return context.cost.listen(frames, num_tokens)


def prompt_tokens(duration_s: float) -> int:
    """Positions of a question about one sound."""
    return QUESTION_TOKENS + num_audio_tokens(round(duration_s * SAMPLE_RATE_HZ))


def prefill(context: Context) -> Iterator[Row]:
    """Time to the first token of a sound that is new."""
    for key, duration_s in (("first_token_clip", context.scale.clip_s), ("first_token_long", context.scale.long_s)):
        num_tokens = prompt_tokens(duration_s)
        stages = (listen_stage(context, [duration_s]), context.cost.prefill([num_tokens]))
        yield Row(
            key=key,
            section="prefill",
            work=f"time to first token, {duration_s:g} s of audio, {num_tokens} tokens",
            unit="ms",
            ours=context.ours(partial(_our_first_token, context, duration_s), 2),
            peer=context.theirs(partial(_their_first_token, context, duration_s)),
            cost=Work(stages),
            goal=context.goal(key),
        )


def _our_first_token(context: Context, duration_s: float) -> Sample:
    engine, material = context.subject.engine, context.material

    return sampled_ms(
        lambda prompt: first_token(engine, prompt),
        lambda: material.prompt(material.sound(duration_s)),
        context.device,
    )


def _their_first_token(context: Context, duration_s: float, peer: Reference) -> Sample:
    inputs = peer.inputs(context.material.prompts([duration_s]))
    return sampled_ms(lambda _: peer.first_token(inputs), lambda: None, context.device)


def turns(context: Context) -> Iterator[Row]:
    """A second question on a sound that was asked about before; its words are new every time."""
    scale, material, engine = context.scale, context.material, context.subject.engine
    first = material.prompt(material.sound(scale.long_s))
    num_cached, num_new = first.num_tokens + FIRST_ANSWER_TOKENS, QUESTION_TOKENS

    def ours() -> Sample:
        (answer,) = answer_all(engine, [first], FIRST_ANSWER_TOKENS).token_ids
        return sampled_ms(
            lambda prompt: first_token(engine, prompt), lambda: material.follow_up(first, answer), context.device
        )

    def theirs(peer: Reference) -> Sample:
        inputs = peer.inputs([material.follow_up(first, material.text(FIRST_ANSWER_TOKENS))])
        return sampled_ms(lambda _: peer.first_token(inputs), lambda: None, context.device)

    yield Row(
        key="second_question",
        section="turns",
        work=f"second question on the same {scale.long_s:g} s, first token",
        unit="ms",
        ours=context.ours(ours, 2),
        peer=context.theirs(theirs),
        cost=Work((context.cost.prefill([num_new], num_cached),)),
        goal=context.goal("second_question"),
    )


def decode(context: Context) -> Iterator[Row]:
    """A decode step: alone, and with a full batch of clips."""
    scale, num_tokens = context.scale, prompt_tokens(context.scale.clip_s)
    middle = num_tokens + scale.num_decoded // 2
    for key, batch, work in (
        ("decode_one", 1, f"decode step, batch 1 at {num_tokens} tokens"),
        ("decode_many", scale.many, f"decode step, batch {scale.many} at {num_tokens} tokens"),
    ):
        yield Row(
            key=key,
            section="decode",
            work=work,
            unit="ms",
            ours=context.ours(partial(_our_step, context, batch)),
            peer=context.theirs(partial(_their_step, context, batch)),
            cost=Work((context.cost.decode(batch, middle),)),
            goal=context.goal(key),
        )


def _our_step(context: Context, batch: int) -> Sample:
    """Milliseconds of a step, over all steps in which every sequence ran."""
    engine, material, scale = context.subject.engine, context.material, context.scale

    def sample() -> float:
        prompts = material.prompts([scale.clip_s] * batch)
        return 1e3 * answer_all(engine, prompts, scale.num_decoded).step_s

    return sample


def _their_step(context: Context, batch: int, peer: Reference) -> Sample:
    inputs = peer.inputs(context.material.prompts([context.scale.clip_s] * batch)).as_dict()
    return lambda: 1e3 * peer.step_s(inputs, context.scale.num_peer_decoded)


def batch(context: Context) -> Iterator[Row]:
    """Many clips end to end, in seconds of audio a second."""
    scale = context.scale
    for key, num_clips, duration_s, num_tokens in (
        ("batch_clips", scale.many, scale.clip_s, scale.num_tokens),
        ("batch_short", scale.more, scale.short_s, scale.num_short_tokens),
    ):
        yield _batch_row(context, key, [duration_s] * num_clips, num_tokens)


def _batch_row(context: Context, key: str, durations_s: list[float], num_tokens: int) -> Row:
    material, engine, audio_s = context.material, context.subject.engine, sum(durations_s)
    length, cost = prompt_tokens(durations_s[0]), context.cost
    steps = [cost.decode(len(durations_s), length + step) for step in range(1, num_tokens)]
    stages = (listen_stage(context, durations_s), cost.prefill([length] * len(durations_s)), *steps)

    def ours() -> float:
        prompts = material.prompts(durations_s)
        began = time.perf_counter()
        answer_all(engine, prompts, num_tokens)
        return audio_s / (time.perf_counter() - began)

    def theirs(peer: Reference) -> Sample:
        inputs = peer.inputs(material.prompts(durations_s))
        return lambda: audio_s / elapsed_s(lambda: peer.generate(inputs, num_tokens), context.device)

    return Row(
        key=key,
        section="batch",
        work=f"{len(durations_s)} clips of {durations_s[0]:g} s, {num_tokens} new tokens, end to end",
        unit="s of audio per s",
        ours=context.ours(lambda: ours),
        peer=context.theirs(theirs),
        cost=Work(stages),
        amount=audio_s,
        goal=context.goal(key),
    )
