"""What the full-size benchmarks share: seeded weights under both models, prompts with sound, timing, a saved report.

Weights are random (8.27 B, bf16, made on the device in seconds) and one set serves our modules and transformers' class.
"""

from __future__ import annotations

import datetime
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import transformers
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from audioflamingo.bench.random_weights import INIT_STD, SEED, assembled
from audioflamingo.bench.reference import assembled_reference
from audioflamingo.bench.timing import elapsed_s, release_memory, told
from audioflamingo.config import WINDOW_S, DecoderConfig, EncoderConfig, ModelConfig
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.types import SAMPLE_RATE_HZ

hf: Any = transformers  # its classes are not typed
NUM_WARMUPS = 2
T = TypeVar("T")


@dataclass(frozen=True)
class Scale:
    """Sizes of everything that is run."""

    config: ModelConfig = field(default_factory=ModelConfig)
    durations_s: tuple[float, ...] = (3.0, 30.0, 75.0)
    num_question_tokens: int = 40
    num_answer_tokens: int = 100
    num_greedy_tokens: int = 50
    num_windows: int = 20
    num_clips: int = 64
    clip_s: float = 3.0
    num_repeats: int = 10


TINY = Scale(
    config=ModelConfig(
        EncoderConfig(width=32, num_layers=2, num_heads=2, ffn_width=64),
        DecoderConfig(vocab_size=512, width=64, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=16, ffn_width=96),
        audio_token_id=500,
    ),
    durations_s=(3.0, 31.0),
    num_answer_tokens=20,
    num_greedy_tokens=8,
    num_windows=2,
    num_clips=4,
    num_repeats=2,
)


@dataclass(frozen=True)
class Prompt:
    """A question, its sound and an answer to be teacher-forced.

    Attributes:
        ids: (T,) int64, placeholders expanded, the answer last.
        mel: (W, 128, 3000) float32.
        mask: (W, 3000) valid mel frames.
    """

    name: str
    ids: Tensor
    mel: Tensor
    mask: Tensor
    num_answer_tokens: int

    @property
    def num_mel_frames(self) -> list[int]:
        """Valid mel frames of each window."""
        frames: list[int] = self.mask.sum(-1).tolist()
        return frames

    @property
    def question(self) -> Tensor:
        """The ids before the answer."""
        return self.ids[: -self.num_answer_tokens]


class Report:
    """What was found so far; `attempt` keeps one item's failure from ending the run."""

    def __init__(self, path: Path, card: dict[str, Any]) -> None:
        self.path = path
        self.found: dict[str, Any] = {"card": card, "errors": {}, "seconds": {}}

    def attempt(self, name: str, work: Callable[[], T]) -> T | None:
        """What `work` returns, or None with the error noted (out of memory, a kernel that this build lacks)."""
        start = time.perf_counter()
        try:
            return work()
        except (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError) as error:
            self.found["errors"][name] = told(error)
            print(f"  {name}: {self.found['errors'][name]}", flush=True)
            return None
        finally:
            self.found["seconds"][name] = round(time.perf_counter() - start, 2)
            release_memory()

    def save(self, section: str, values: Any) -> None:
        """Add a section and write the file."""
        self.found[section] = values
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.found, indent=1) + "\n")


def make_card(name: str, scale: Scale, device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    gpu = torch.cuda.get_device_name() if device.type == "cuda" else f"cpu ({platform.machine()})"
    return {
        "benchmark": name,
        "date": datetime.date.today().isoformat(),
        "hardware": gpu,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "weights": f"random, seed {SEED}, std {INIT_STD}, bf16",
        "tiny": scale is TINY,
        "scale": asdict(scale),
    }


def both_models(config: ModelConfig, state: dict[str, Tensor], device: torch.device) -> tuple[Flamingo, Any]:
    """Our model and transformers' on the very same tensors, which lie on the device."""
    assert all(tensor.device.type == device.type for tensor in state.values())
    return assembled(config, state), assembled_reference(config, state)


def make_sound(duration_s: float, seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(N,) float32: a gliding tone under noise."""
    generator = np.random.default_rng(seed)
    time_s = np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tone = 0.3 * np.sin(2 * np.pi * (200 + 150 * seed + 40 * time_s) * time_s)
    return (tone + 0.05 * generator.standard_normal(time_s.size)).astype(np.float32)


def log_mel(duration_s: float, seed: int) -> tuple[Tensor, Tensor]:
    """(W, 128, 3000) and (W, 3000) from transformers' own extractor."""
    samples = make_sound(duration_s, seed)
    step = WINDOW_S * SAMPLE_RATE_HZ
    windows = [samples[start : start + step] for start in range(0, len(samples), step)]
    extractor = hf.WhisperFeatureExtractor(feature_size=128)
    out = extractor(windows, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt", return_attention_mask=True)
    return out["input_features"], out["attention_mask"]


def make_prompts(scale: Scale, device: torch.device) -> list[Prompt]:
    """One prompt for each duration: half the question, the sound, the other half, the answer; all text random."""
    generator = torch.Generator().manual_seed(SEED)
    prompts = []
    for seed, duration_s in enumerate(scale.durations_s):
        mel, mask = log_mel(duration_s, seed)
        num_audio_tokens = sum(((int(frames) - 1) // 2 + 1) // 2 for frames in mask.sum(-1))
        num_text_tokens = scale.num_question_tokens + scale.num_answer_tokens
        text = torch.randint(scale.config.audio_token_id, (num_text_tokens,), generator=generator)
        half = scale.num_question_tokens // 2
        audio = torch.full((num_audio_tokens,), scale.config.audio_token_id)
        ids = torch.cat([text[:half], audio, text[half:]]).to(device)
        prompts.append(Prompt(f"{duration_s:g} s", ids, mel.to(device), mask.to(device), scale.num_answer_tokens))
    return prompts


def median_ms(work: Callable[[], object], num_repeats: int) -> float:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for _ in range(NUM_WARMUPS):
        work()
    return round(1e3 * statistics.median(elapsed_s(work, device) for _ in range(num_repeats)), 3)


def reset_peak() -> None:
    """From now on `peak_gb` counts anew."""
    release_memory()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_gb(*, reserved: bool = False) -> float | None:
    """Most memory of the GPU since `reset_peak`, in 1e9 bytes; None without one."""
    if not torch.cuda.is_available():
        return None
    peak = torch.cuda.max_memory_reserved() if reserved else torch.cuda.max_memory_allocated()
    return round(peak / 1e9, 2)
