"""A tiny base checkpoint with a tokenizer, a few sounds, and rows about them, for tests of training."""

import json
import wave

import numpy as np
from small_tokenizer import small_tokenizer, write_json_layout

from audioflamingo.config import DecoderConfig, EncoderConfig, ModelConfig
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.weights import save_flamingo
from audioflamingo.prompt import CHAT_TEMPLATE, load_template
from audioflamingo.train.data import ExampleMaker
from audioflamingo.train.initialise import initialise

TOKENIZER = small_tokenizer()
TINY = ModelConfig(
    EncoderConfig(width=32, num_layers=2, num_heads=2, ffn_width=64),
    DecoderConfig(
        vocab_size=TOKENIZER.vocab_size, width=32, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=16,
        ffn_width=64, max_positions=20_000,
    ),
    audio_token_id=TOKENIZER.sound,
)  # fmt: skip


def tiny_model(seed=1):
    model = Flamingo(TINY)
    initialise(model, seed=seed)
    return model


def write_base(folder):
    save_flamingo(tiny_model(), folder)
    write_json_layout(folder)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return folder


def maker(folder, max_tokens=8_192, max_windows=1, style=None):
    return ExampleMaker(TOKENIZER, load_template(folder), max_tokens, max_windows, style)


def write_wav(path, duration_s=0.5, seed=0, rate_hz=16_000):
    rng = np.random.default_rng(seed)
    samples = 0.2 * rng.standard_normal(round(duration_s * rate_hz))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes((samples * 32767).clip(-32768, 32767).astype("<i2").tobytes())
    return path


def turns(*texts):
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


def write_rows(folder, num_rows=8, name="rows.jsonl"):
    """Rows of sounds of different lengths; each fourth has none."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(num_rows):
        answer = f"A dog barks {i % 3}."
        if i % 4 == 3:
            rows.append({"id": f"r{i}", "conversations": turns("Who are you?", answer)})
            continue
        write_wav(folder / f"s{i}.wav", 0.3 + 0.15 * (i % 3), seed=i)
        rows.append({"id": f"r{i}", "sound": f"s{i}.wav", "conversations": turns("<sound>\nWhat is it?", answer)})
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file
