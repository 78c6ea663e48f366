"""Clips: what a trainer needs of a scene, and shards of them as plain arrays.

A clip's dialogues are stored as the token ids that follow the audio in a prompt: question, the assistant's header,
answer, end of turn. Only the answer and its end are ever in the loss.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from audioflamingo.world import sounds
from audioflamingo.world.scenes import Scene
from audioflamingo.world.tasks import Question, questions

AUDIO_TOKENS_PER_S = 25
CTC_ALPHABET = " abcdefghijklmnopqrstuvwxyz'"  # label 0 is the blank
EVENT_NAMES = ("speech", *sorted(sounds.KINDS))
SYSTEM_AND_USER = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
ASSISTANT = "<|im_end|>\n<|im_start|>assistant\n"
END_OF_TURN = "<|im_end|>"

IntArray = npt.NDArray[np.int64]


class Encodes(Protocol):
    """The one thing asked of a tokenizer here."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; special tokens are recognised."""
        ...


@dataclass(frozen=True, eq=False)
class Clip:
    """One training example with all its questions.

    Attributes:
        samples: (N,) int16 mono 16 kHz; N is a whole number of audio tokens.
        ctc: labels of the transcript, empty where nobody speaks.
        events: (E, 3) index in `EVENT_NAMES`, first audio token, end audio token.
        dialogues: token ids after the audio, one array a question.
        answer_starts: index of the answer's first token in each.
        weights: how often each question is drawn.
    """

    samples: npt.NDArray[np.int16]
    ctc: IntArray
    events: IntArray
    dialogues: tuple[IntArray, ...]
    answer_starts: tuple[int, ...]
    weights: tuple[float, ...]


def ctc_labels(transcript: str | None) -> IntArray:
    """Labels of a transcript in `CTC_ALPHABET`, starting from 1."""
    return np.array([CTC_ALPHABET.index(letter) + 1 for letter in transcript or ""], np.int64)


def dialogue_ids(question: Question, tokenizer: Encodes) -> tuple[IntArray, int]:
    """Token ids that follow the audio, and where the answer starts among them."""
    before = tokenizer.encode(question.text + ASSISTANT)
    answer = tokenizer.encode(question.answer + END_OF_TURN)
    return np.array(before + answer, np.int64), len(before)


def make_clip(scene: Scene, tokenizer: Encodes, rng: random.Random) -> Clip:
    """Everything a trainer needs of a scene."""
    asked = questions(scene, rng)
    encoded = [dialogue_ids(question, tokenizer) for question in asked]
    spans = [
        (EVENT_NAMES.index(e.kind), int(e.start_s * AUDIO_TOKENS_PER_S), int(np.ceil(e.end_s * AUDIO_TOKENS_PER_S)))
        for e in scene.events
    ]
    if scene.background:
        last = len(scene.samples) * AUDIO_TOKENS_PER_S // 16_000
        spans.append((EVENT_NAMES.index(scene.background), 0, last))
    return Clip(
        samples=np.round(scene.samples * 32767).astype(np.int16),
        ctc=ctc_labels(scene.transcript),
        events=np.array(spans, np.int64).reshape(-1, 3),
        dialogues=tuple(ids for ids, _ in encoded),
        answer_starts=tuple(start for _, start in encoded),
        weights=tuple(question.weight for question in asked),
    )


@dataclass(frozen=True, eq=False)
class Ragged:
    """Arrays of different lengths as one flat array and the places where each begins."""

    flat: npt.NDArray[Any]
    offsets: IntArray

    @classmethod
    def of(cls, arrays: Sequence[npt.NDArray[Any]], dtype: type) -> Ragged:
        """Join arrays along their first axis."""
        offsets = np.cumsum([0, *(len(array) for array in arrays)], dtype=np.int64)
        return cls(np.concatenate([np.asarray(a, dtype) for a in arrays]), offsets)

    def __getitem__(self, index: int) -> npt.NDArray[Any]:
        return self.flat[self.offsets[index] : self.offsets[index + 1]]


def save_shard(clips: Sequence[Clip], path: Path) -> None:
    """Write clips as one .npz of plain arrays; it appears under its name only when it is whole."""
    parts = {
        "samples": Ragged.of([clip.samples for clip in clips], np.int16),
        "ctc": Ragged.of([clip.ctc for clip in clips], np.uint8),
        "events": Ragged.of([clip.events for clip in clips], np.int32),
        "dialogues": Ragged.of([ids for clip in clips for ids in clip.dialogues], np.uint16),
    }
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, part in parts.items():
        arrays[name], arrays[f"{name}_offsets"] = part.flat, part.offsets
    arrays["num_dialogues"] = np.array([len(clip.dialogues) for clip in clips])
    arrays["answer_starts"] = np.array([start for clip in clips for start in clip.answer_starts])
    arrays["weights"] = np.array([weight for clip in clips for weight in clip.weights])
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    partial.rename(path)


def load_shard(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of a shard; never unpickles."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)
