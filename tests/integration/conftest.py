"""A tiny random checkpoint with a tokenizer of its own, written by transformers as a real one would be."""

import json
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from audioflamingo.config import DecoderConfig, EncoderConfig, ModelConfig

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from small_tokenizer import small_tokenizer, write_json_layout

WEIGHT_STD = 0.1
GENERATION_CONFIG = {"do_sample": False, "max_new_tokens": 40}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A folder with config.json, weights, tokenizer and generation_config.json."""
    from transformers import AudioFlamingo3Config, AudioFlamingo3ForConditionalGeneration

    tokenizer = small_tokenizer()
    config = ModelConfig(
        encoder=EncoderConfig(width=32, num_layers=2, num_heads=4, ffn_width=64),
        decoder=DecoderConfig(
            vocab_size=tokenizer.vocab_size,
            width=48, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=16, ffn_width=80,
            max_positions=20_000,
        ),
        audio_token_id=tokenizer.sound,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AudioFlamingo3ForConditionalGeneration(AudioFlamingo3Config(**config.to_dict())).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, WEIGHT_STD)
    folder = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(folder)
    write_json_layout(folder)
    (folder / "generation_config.json").write_text(json.dumps(GENERATION_CONFIG))
    return folder


@pytest.fixture(scope="session")
def transformers_model(checkpoint):
    """transformers' own reading of the folder, fp32."""
    from transformers import AudioFlamingo3ForConditionalGeneration

    return AudioFlamingo3ForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def model(checkpoint):
    """Our reading of it, on the CPU in fp32."""
    from audioflamingo import load_model

    return load_model(checkpoint, device="cpu")


@pytest.fixture(scope="session")
def noise():
    """A function of (duration_s, seed) to (N,) float32 samples at 16 kHz."""

    def make(duration_s, seed=0):
        return (0.1 * np.random.default_rng(seed).standard_normal(round(duration_s * 16_000))).astype(np.float32)

    return make


@pytest.fixture
def write_wav(tmp_path, noise):
    """A function of (name, duration_s, seed) to the path of a WAV file of noise."""

    def write(name="noise.wav", duration_s=1.0, seed=0):
        path = tmp_path / name
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes((noise(duration_s, seed) * 32767).astype("<i2").tobytes())
        return path

    return write
