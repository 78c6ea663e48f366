"""What several rooms' tests share: a tiny checkpoint written by transformers, and features from its extractor."""

import dataclasses
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from audioflamingo.config import DecoderConfig, EncoderConfig, ModelConfig

# Who starts the tests in the background leaves interrupts ignored, and every program that they start would inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

try:
    from hypothesis import settings
except ModuleNotFoundError:  # a machine with a GPU may have little else
    HAS_HYPOTHESIS = False
else:
    HAS_HYPOTHESIS = True
    settings.register_profile("tests", deadline=None)  # machines that run tests are shared; pytest's own timeout stays
    settings.load_profile("tests")


def pytest_report_header():
    return None if HAS_HYPOTHESIS else "hypothesis is not installed: files with tests of properties are left out"


def pytest_ignore_collect(collection_path):
    if not HAS_HYPOTHESIS and collection_path.suffix == ".py" and "\nfrom hypothesis" in collection_path.read_text():
        return True
    return None


SAMPLES_PER_WINDOW = 480_000
WEIGHT_STD = 0.2

TINY = ModelConfig(
    encoder=EncoderConfig(width=32, num_layers=2, num_heads=4, ffn_width=64),
    decoder=DecoderConfig(
        vocab_size=256, width=48, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=16, ffn_width=80
    ),
    audio_token_id=250,
)


@dataclasses.dataclass(frozen=True)
class Sound:
    """Features of one sound: mel (W, 128, 3000), mask (W, 3000), and what follows from the mask."""

    mel: torch.Tensor
    mask: torch.Tensor

    @property
    def num_mel_frames(self):
        return self.mask.sum(-1).tolist()

    @property
    def num_audio_tokens(self):
        return sum(((frames - 1) // 2 + 1) // 2 for frames in self.num_mel_frames)


@pytest.fixture(scope="session")
def tiny_config():
    return TINY


@pytest.fixture(scope="session")
def reference():
    """transformers' class in the tiny size, fp32, every weight random enough for logits to vary."""
    from transformers import AudioFlamingo3Config, AudioFlamingo3ForConditionalGeneration

    torch.manual_seed(0)
    model = AudioFlamingo3ForConditionalGeneration(AudioFlamingo3Config(**TINY.to_dict())).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, WEIGHT_STD)
    return model


@pytest.fixture(scope="session")
def reference_folder(reference, tmp_path_factory) -> Path:
    """What transformers' save_pretrained writes of it."""
    folder = tmp_path_factory.mktemp("reference")
    reference.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def flamingo(reference_folder):
    """Our model from that folder, fp32."""
    from audioflamingo.model.weights import load_flamingo

    return load_flamingo(reference_folder)


@pytest.fixture(scope="session")
def make_sound():
    """A function of (num_samples, seed) to a random `Sound`, by transformers' feature extractor."""
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=128)

    def make(num_samples, seed=0):
        generator = np.random.default_rng(seed)
        envelope = np.repeat(generator.uniform(0.01, 1, -(-num_samples // 1600)), 1600)[:num_samples]
        samples = (envelope * generator.standard_normal(num_samples) * 0.1).astype(np.float32)
        windows = [samples[start : start + SAMPLES_PER_WINDOW] for start in range(0, num_samples, SAMPLES_PER_WINDOW)]
        out = extractor(windows, sampling_rate=16_000, return_tensors="pt", return_attention_mask=True)
        return Sound(out["input_features"], out["attention_mask"])

    return make


@pytest.fixture(scope="session")
def make_ids():
    """A function of (num_audio_tokens, seed) to ids (T,): some text, the placeholders, some text."""

    def make(num_audio_tokens, seed=0, num_text_tokens=12):
        generator = torch.Generator().manual_seed(seed)
        text = torch.randint(TINY.audio_token_id, (num_text_tokens,), generator=generator)
        audio = torch.full((num_audio_tokens,), TINY.audio_token_id)
        return torch.cat([text[:5], audio, text[5:]])

    return make


@pytest.fixture(scope="session")
def reference_logits(reference):
    """A function of (ids (T,), sound or None) to transformers' logits (T, V) for that one sequence."""

    @torch.no_grad()
    def logits(ids, sound=None, model=reference):
        audio = {}
        if sound is not None and sound.num_audio_tokens:
            audio = {"input_features": sound.mel.to(model.dtype), "input_features_mask": sound.mask}
        return model(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None], use_cache=False, **audio).logits[0]

    return logits
