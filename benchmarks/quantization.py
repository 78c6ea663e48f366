"""What fewer bits for weights or the KV cache cost the embedded model: errors of logits, other tokens, its own scores.

Every scheme hears the same items. The answers of the unquantised fp32 model are fed to the others word by word: the
error of their logits is relative to the spread of the fp32 ones, and a token agrees if the likeliest one is the same.
"kv_cache" is the fp32 model with keys and values in int8; "kv_cache, large channels" the same after one pair of key
channels of every head was made a hundred times as large and the queries' as much smaller, which changes no answer in
fp32 and is what the biases of Qwen2.5's keys look like; "no reach" is that without the channels' own sizes.
Prints a table and one last JSON line.

    python benchmarks/quantization.py [--items N] [--only NAME ...] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from audioflamingo.api import AudioFlamingo, load_model
from audioflamingo.audio import log_mel_batch
from audioflamingo.engine.blocks import num_blocks_for
from audioflamingo.engine.contexts import ChunkContext
from audioflamingo.engine.eight_bit_cache import EightBitCache, new_cache
from audioflamingo.engine.request import prepare
from audioflamingo.engine.scheduler import Chunk
from audioflamingo.engine.sequence import Sequence
from audioflamingo.engine.sounds import audible_windows
from audioflamingo.eval.nano import Item, make_items, measure, test_sets
from audioflamingo.model.decoder import DecoderLayer
from audioflamingo.model.quantize import SCHEMES
from audioflamingo.types import Audio, Message, Prompt, Sampling

PLAIN = "float32"
KV_CACHE, LARGE, NO_REACH = "kv_cache", "kv_cache, large channels", "kv_cache, large channels, no reach"
VARIANTS = (*SCHEMES, KV_CACHE, LARGE, NO_REACH)
LARGE_CHANNEL, LARGE_FACTOR = 3, 100.0
ROWS = (
    "transcription, new sentences, espeak-ng, clean",
    "transcription, new sentences, flite, clean",
    "naming one sound, new renderings, clean",
    "naming two sounds in order, new renderings, clean",
    "is a sound there, yes or no",
    "man or woman",
)


@dataclass
class Found:
    """Sums over tokens of answers."""

    errors: list[float] = field(default_factory=list)
    num_tokens: int = 0
    num_agreeing: int = 0


@torch.inference_mode()
def answer_logits(model: AudioFlamingo, item: Item, answer: tuple[int, ...]) -> Tensor:
    """(T, V) logits at the places where the tokens of an answer are chosen."""
    message = Message("user", (Audio(item.scene.samples, "item"), item.question))
    positions = model.model.config.decoder.max_positions
    prompt = prepare((message,), model.defaults, model.tokenizer, model.template, positions).parts[0].prompt
    mel, num_mel_frames = log_mel_batch(audible_windows(prompt.audios[0].samples), model.model.device)
    ids = (*prompt.ids, *answer)
    if model.engine.limits.kv_cache == "plain":
        logits: Tensor = model.model(torch.tensor(ids), [len(ids)], mel, list(num_mel_frames))
    else:
        logits = cached_logits(model, ids, model.model.embed_audio(mel, list(num_mel_frames))[0])
    return logits[len(prompt.ids) - 1 : -1].float()


def cached_logits(model: AudioFlamingo, ids: tuple[int, ...], audio: Tensor) -> Tensor:
    """(N, V) logits of tokens that attend to what the cache makes of their keys and values."""
    sequence = Sequence(0, Prompt(ids), Sampling(), len(ids) + 1)
    sequence.blocks = list(range(1, 1 + num_blocks_for(len(ids))))
    cache = new_cache(model.model, 1 + len(sequence.blocks), "int8")
    if model.name == NO_REACH:
        assert isinstance(cache, EightBitCache)
        cache._reach = [torch.ones_like(one) for one in cache._reach]
    context = ChunkContext(cache, [Chunk(sequence, 0, len(ids))])
    embeddings = model.model.merge(torch.tensor(ids), audio)
    return model.model.logits(model.model.hidden_states(embeddings, context.positions, context))


def variant(name: str) -> AudioFlamingo:
    """The model under one of the names that the table has."""
    if name in SCHEMES:
        return load_model("nano", device="cpu", quantize=name)
    model = load_model("nano", device="cpu", kv_cache="int8")
    model.name = name
    if name != KV_CACHE:
        make_large(model)
    return model


@torch.no_grad()
def make_large(model: AudioFlamingo) -> None:
    """One pair of channels of all keys a hundred times as large, and of all queries as much smaller."""
    config = model.model.config.decoder
    pair = [LARGE_CHANNEL, LARGE_CHANNEL + config.head_dim // 2]
    for layer in cast("Iterable[DecoderLayer]", model.model.decoder.layers):
        for linear, factor in ((layer.self_attn.k_proj, LARGE_FACTOR), (layer.self_attn.q_proj, 1 / LARGE_FACTOR)):
            linear.weight.view(-1, config.head_dim, config.width)[:, pair] *= factor
            linear.bias.view(-1, config.head_dim)[:, pair] *= factor


def compare(models: dict[str, AudioFlamingo], items: list[Item], found: dict[str, Found]) -> None:
    plain = models[PLAIN]
    for item in items:
        answer = plain.ask(Audio(item.scene.samples, "item"), item.question, max_new_tokens=64).token_ids
        expected = answer_logits(plain, item, answer)
        spread = expected - expected.mean(-1, keepdim=True)
        for scheme in found:
            logits = answer_logits(models[scheme], item, answer)
            error = (logits - expected).norm(dim=-1) / spread.norm(dim=-1)
            found[scheme].errors += error.tolist()
            found[scheme].num_tokens += len(answer)
            found[scheme].num_agreeing += int((logits.argmax(-1) == expected.argmax(-1)).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--items", type=int, default=40, help="of each row")
    parser.add_argument("--only", nargs="*", choices=VARIANTS, default=VARIANTS, help="of the variants")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    models = {PLAIN: load_model("nano", device="cpu")} | {name: variant(name) for name in options.only}
    found = {name: Found() for name in options.only}
    scores: dict[str, dict[str, Any]] = {}
    for test_set in (one for one in test_sets() if one.name in ROWS):
        items = make_items(test_set, options.items)
        compare(models, items[: options.items // 4], found)
        scored = {name: model for name, model in models.items() if name != NO_REACH}
        figures = {name: measure(model, test_set, items)[0] for name, model in scored.items()}
        scores[test_set.name] = {name: round(figure.value, 4) for name, figure in figures.items()}
        print(f"{test_set.name:<56}" + "".join(f"{name} {figure}   " for name, figure in figures.items()), flush=True)
    tokens = {
        scheme: {
            "logit_error_median": round(statistics.median(one.errors), 4),
            "token_agreement": round(one.num_agreeing / one.num_tokens, 4),
            "num_tokens": one.num_tokens,
        }
        for scheme, one in found.items()
    }
    for scheme, values in tokens.items():
        print(scheme, values)
    card = {"benchmark": "quantization", "date": datetime.now(UTC).date().isoformat(), "torch": torch.__version__}
    sizes = {name: model.info["weight_bytes"] for name, model in models.items()}
    line = json.dumps({"card": card | {"items": options.items}, "bytes": sizes, "tokens": tokens, "scores": scores})
    if options.out:
        options.out.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
