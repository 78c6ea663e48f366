"""A tiny random model with its engines, sounds and prompts, for the engine's tests."""

import sys
from pathlib import Path

import numpy as np
import torch

from audioflamingo.audio import num_audio_tokens
from audioflamingo.config import DecoderConfig, EncoderConfig, ModelConfig
from audioflamingo.engine.plain import PlainEngine
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.types import Audio, Prompt, Span

sys.path.append(str(Path(__file__).parents[1]))
from small_tokenizer import small_tokenizer

MAX_POSITIONS = 2000
tokenizer = small_tokenizer()
CONFIG = ModelConfig(
    encoder=EncoderConfig(width=16, num_layers=1, num_heads=2, ffn_width=32),
    decoder=DecoderConfig(
        vocab_size=tokenizer.vocab_size,
        width=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, ffn_width=48,
        max_positions=MAX_POSITIONS,
    ),
    audio_token_id=tokenizer.sound,
)  # fmt: skip


def make_model(config=CONFIG, dtype=torch.float32):
    torch.manual_seed(0)
    model = Flamingo(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.3)
    return model.to(dtype)


def sound(duration_s, seed):
    samples = np.random.default_rng(seed).standard_normal(round(16_000 * duration_s)).astype(np.float32)
    return Audio(samples * 0.1, f"sound {seed}")


def prompt(*parts):
    """Text and sounds to a `Prompt`; equal sounds are one."""
    ids, spans, audios = [], [], []
    for part in parts:
        if isinstance(part, str):
            ids += tokenizer.encode(part)
            continue
        if part not in audios:
            audios.append(part)
        num_tokens = num_audio_tokens(len(part.samples))
        spans.append(Span(len(ids), num_tokens, audios.index(part)))
        ids += [tokenizer.sound] * num_tokens
    return Prompt(tuple(ids), tuple(spans), tuple(audios))


def run(engine, prompts, samplings):
    """Per prompt: token ids, text, last delta."""
    deltas = [[] for _ in prompts]
    for delta in engine.generate(prompts, samplings):
        assert not any(one.finish_reason for one in deltas[delta.index]), "a delta after the end"
        deltas[delta.index].append(delta)
    return [
        (tuple(token for one in many for token in one.token_ids), "".join(one.text for one in many), many[-1])
        for many in deltas
    ]


def alone(model, prompts, samplings):
    """What the plain engine gives for each prompt by itself: token ids and text."""
    return [
        run(PlainEngine(model, tokenizer), [one], [how])[0][:2] for one, how in zip(prompts, samplings, strict=True)
    ]


def is_clean(engine):
    """Whether no sequence holds anything any more."""
    pool = engine._scheduler.pool
    return (
        not engine.has_work
        and pool.num_held == 0
        and not engine._scheduler.has_work
        and not engine._scheduler._promised
    )
