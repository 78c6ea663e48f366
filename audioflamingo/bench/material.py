"""Sounds and prompts to be measured with: random, seeded, and new at every call, so that nothing comes from a cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from audioflamingo.audio import num_audio_tokens
from audioflamingo.config import ModelConfig
from audioflamingo.types import SAMPLE_RATE_HZ, Audio, Prompt, Span

NOISE_LEVEL = 0.1
QUESTION_TOKENS = 40
SEED = 0


@dataclass(frozen=True)
class Scale:
    """Sizes of everything that is measured.

    Attributes:
        name: what reports call it.
        long_s: the long sound, of whole windows.
        clip_s: the usual clip.
        many: clips of a batch.
        more: short clips of the larger batch.
        short_s: length of those, and the longer of the two lengths of the encoder's clips.
        shortest_s: the shorter of those two lengths.
        num_tokens: new tokens of an answer in a batch.
        num_short_tokens: the same of the larger batch.
        num_decoded: tokens over which a decode step is averaged.
        num_peer_decoded: the same for the peer.
        num_runs: figures of each row.
        num_peer_runs: figures of the peer.
        row_budget_s: a row that takes longer than this gets fewer figures.
    """

    name: str = "full"
    long_s: float = 600.0
    clip_s: float = 30.0
    many: int = 64
    more: int = 128
    short_s: float = 10.0
    shortest_s: float = 3.0
    num_tokens: int = 100
    num_short_tokens: int = 30
    num_decoded: int = 100
    num_peer_decoded: int = 20
    num_runs: int = 7
    num_peer_runs: int = 3
    row_budget_s: float = 12.0


SCALES = {
    "full": Scale(),
    "cpu": Scale("cpu", many=8, more=16, num_runs=5, num_peer_runs=3, row_budget_s=40.0),
    "tiny": Scale(
        "tiny", 31.0, 3.0, many=2, more=3, short_s=1.5, shortest_s=1.0, num_tokens=8, num_short_tokens=4,
        num_decoded=6, num_peer_decoded=4, num_runs=2, num_peer_runs=1, row_budget_s=2.0,
    ),
}  # fmt: skip


class Material:
    """A seeded source of sounds and prompts for one model."""

    def __init__(self, config: ModelConfig, seed: int = SEED) -> None:
        self._audio_token_id = config.audio_token_id
        self._rng = np.random.default_rng(seed)
        self._numbers = count()

    def sound(self, duration_s: float) -> Audio:
        """Noise that was never heard before."""
        samples = self._rng.standard_normal(round(duration_s * SAMPLE_RATE_HZ), dtype=np.float32)
        return Audio(NOISE_LEVEL * samples, f"noise {next(self._numbers)}")

    def text(self, num_tokens: int) -> tuple[int, ...]:
        """Random token ids; never the placeholder."""
        return tuple(self._rng.integers(self._audio_token_id, size=num_tokens).tolist())

    def prompt(self, sound: Audio, num_text_tokens: int = QUESTION_TOKENS) -> Prompt:
        """Half the text, the sound, the other half."""
        text, num_audio = self.text(num_text_tokens), num_audio_tokens(len(sound.samples))
        half = num_text_tokens // 2
        ids = (*text[:half], *[self._audio_token_id] * num_audio, *text[half:])
        return Prompt(ids, (Span(half, num_audio, 0),), (sound,))

    def prompts(self, durations_s: Sequence[float]) -> list[Prompt]:
        """One for each duration, each with a new sound."""
        return [self.prompt(self.sound(duration_s)) for duration_s in durations_s]

    def follow_up(self, first: Prompt, answer: tuple[int, ...], num_text_tokens: int = QUESTION_TOKENS) -> Prompt:
        """A second question on the same sound: the first prompt, its answer, new text."""
        answer = tuple(0 if token == self._audio_token_id else token for token in answer)  # random weights may say it
        return Prompt((*first.ids, *answer, *self.text(num_text_tokens)), first.spans, first.audios)
