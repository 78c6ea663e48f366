"""A tiny random checkpoint with the embedded model's tokenizer, read by transformers and by us."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from audioflamingo.config import DecoderConfig, EncoderConfig, ModelConfig
from audioflamingo.model.weights.locate import NANO_FOLDER

WEIGHT_STD = 0.1
TEXT_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "processor_config.json")
TINY = ModelConfig(
    encoder=EncoderConfig(width=32, num_layers=2, num_heads=4, ffn_width=64),
    decoder=DecoderConfig(
        vocab_size=2048, width=48, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=16, ffn_width=80
    ),
    audio_token_id=2045,
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """The checkpoint, written by transformers' own class."""
    from transformers import AudioFlamingo3Config, AudioFlamingo3ForConditionalGeneration

    torch.manual_seed(0)
    model = AudioFlamingo3ForConditionalGeneration(AudioFlamingo3Config(**TINY.to_dict())).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, WEIGHT_STD)
    path = tmp_path_factory.mktemp("tiny")
    model.save_pretrained(path)
    for name in TEXT_FILES:
        shutil.copy(NANO_FOLDER / name, path / name)
    ends = {"eos_token_id": [2044, 2042], "pad_token_id": 2047, "max_new_tokens": 8}
    (path / "generation_config.json").write_text(json.dumps(ends))
    return path


@pytest.fixture(scope="session")
def stock(folder):
    """transformers' own model, fp32."""
    from transformers import AudioFlamingo3ForConditionalGeneration

    return AudioFlamingo3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def stock_processor(folder):
    """transformers' own processor."""
    from transformers import AudioFlamingo3Processor

    return AudioFlamingo3Processor.from_pretrained(folder)


@pytest.fixture(scope="session")
def shared_model(folder):
    """Ours, fp32; nothing may change it."""
    from audioflamingo.integrations.transformers import AudioFlamingo3ForConditionalGeneration

    return AudioFlamingo3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture
def model(shared_model):
    """A copy of it that a test may change."""
    return copy.deepcopy(shared_model)


@pytest.fixture(scope="session")
def processor(folder):
    """Ours."""
    from audioflamingo.integrations.transformers import AudioFlamingo3Processor

    return AudioFlamingo3Processor.from_pretrained(folder)


@pytest.fixture(scope="session")
def sound():
    """A function of (duration_s, seed) to (N,) float32 samples at 16 kHz."""

    def make(duration_s=1.0, seed=0):
        return (0.1 * np.random.default_rng(seed).standard_normal(round(duration_s * 16_000))).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def ask():
    """A function of (sound, question) to a conversation in transformers' form."""

    def make(samples, question="What is it?"):
        return [
            {
                "role": "user",
                "content": [{"type": "text", "text": question}, {"type": "audio", "audio": samples}],
            }
        ]

    return make


@pytest.fixture(scope="session")
def batch(processor, sound, ask):
    """Inputs of three rows with sounds of other lengths, one of two windows."""
    conversations = [ask(sound(seconds, seed)) for seed, seconds in enumerate((0.5, 31.0, 2.0))]
    return processor.apply_chat_template(conversations, tokenize=True, return_dict=True, add_generation_prompt=True)
