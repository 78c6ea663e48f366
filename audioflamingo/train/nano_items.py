"""Items: a sound cut to windows with everything a trainer needs of it, and shards of them as plain arrays.

An item has one or more clips, one after another, and several sequences: whole conversations as token ids with one
placeholder for each audio token. All sequences of an item hear all of its clips. Only the assistant's words and their
end are learnt; an item without a clip is a conversation of text alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from audioflamingo.train.nano_labels import Span, frames_of

SAMPLES_PER_TOKEN = 640  # an audio token is 40 ms
WINDOW_SAMPLES = 480_000
LONGEST_CTC_TOKENS = 400  # the CTC head is taught on windows up to 16 s
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
USER, ASSISTANT, END = "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>"
PLACEHOLDER = "<sound>"
OPTION = re.compile(r"\([A-H]\) ")
LETTER_WEIGHT, ANSWER_WEIGHT = 5, 3
THOUGHTS_BEGIN, THOUGHTS_END = "<think>\n", "</think>\n"
CTC_ALPHABET = " abcdefghijklmnopqrstuvwxyz'"  # label 0 is the blank

Samples = npt.NDArray[np.int16]
IntArray = npt.NDArray[np.int64]


class Encodes(Protocol):
    """The one thing asked of a tokenizer here."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; special tokens are recognised."""
        ...


class PlainTokenizer:
    """The tokenizers library's object with the one method that clips need."""

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(file))

    def encode(self, text: str) -> list[int]:
        """Token ids; special tokens are recognised."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


@dataclass(frozen=True)
class Ask:
    """One turn.

    Attributes:
        question: what is asked.
        answer: what is right.
        clips: indices of the clips that come with it, in order.
        is_given: whether the answer is an example of the user's, which is not learnt.
        times: how much its tokens count.
        thought: share of its thoughts that is there before they are ended, as a budget does; 1 is all. What then
            stands of them is not learnt, only what is answered behind that.
    """

    question: str
    answer: str
    clips: tuple[int, ...] = ()
    is_given: bool = False
    times: int = 1
    thought: float = 1.0


@dataclass(frozen=True, eq=False)
class Hearing:
    """One clip: (N,) float32 samples, named spans, and what is said; None where that is not known or not one string."""

    samples: npt.NDArray[np.float32]
    spans: list[Span]
    transcript: str | None = None


@dataclass(frozen=True, eq=False)
class Window:
    """Up to 30 s of a clip.

    Attributes:
        samples: (N,) int16.
        labels: (E, 3) frame labels.
        ctc: labels for CTC; None where the window cannot teach it.
        clip: number of its clip among the item's.
    """

    samples: Samples
    labels: npt.NDArray[np.int32]
    ctc: npt.NDArray[np.int64] | None
    clip: int = 0


@dataclass(frozen=True, eq=False)
class Conversation:
    """Token ids with expanded placeholders; how much each is learnt: 0 where not, 1, or more where all hangs on it."""

    ids: npt.NDArray[np.uint16]
    learnt: npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Item:
    """Windows of all clips in order, and the conversations about them, drawn with weights."""

    windows: tuple[Window, ...]
    conversations: tuple[Conversation, ...]
    weights: tuple[float, ...]


def ctc_labels(transcript: str | None) -> IntArray:
    """Labels of a transcript in `CTC_ALPHABET`, starting from 1."""
    return np.array([CTC_ALPHABET.index(letter) + 1 for letter in transcript or ""], np.int64)


def windows_of(hearing: Hearing, clip: int = 0) -> list[Window]:
    """A clip, the item's so manieth, cut to whole audio tokens and to windows of 30 s."""
    samples = np.round(np.clip(hearing.samples, -1.0, 1.0) * 32767).astype(np.int16)
    samples = samples[: len(samples) // SAMPLES_PER_TOKEN * SAMPLES_PER_TOKEN]
    found = []
    for start in range(0, len(samples), WINDOW_SAMPLES):
        piece = samples[start : start + WINDOW_SAMPLES]
        num_tokens = len(piece) // SAMPLES_PER_TOKEN
        labels = np.array(frames_of(hearing.spans, start / 16_000, num_tokens), np.int32).reshape(-1, 3)
        known = hearing.transcript is not None and len(samples) <= LONGEST_CTC_TOKENS * SAMPLES_PER_TOKEN
        found.append(Window(piece, labels, ctc_labels(hearing.transcript) if known else None, clip))
    return found


def conversation(asks: Sequence[Ask], num_tokens: Sequence[int], tokenizer: Encodes) -> Conversation:
    """A conversation as the model reads it.

    Args:
        asks: its turns; together they bring every clip once, in order. Several clips of a turn stand side by side
            before its question, as `audioflamingo.prompt` writes them.
        num_tokens: audio tokens of each clip.
        tokenizer: encodes texts, special tokens among them.
    """
    brought = [clip for ask in asks for clip in ask.clips]
    assert brought == list(range(len(num_tokens))), f"clips {brought} of {len(num_tokens)}"
    parts: list[tuple[list[int], int]] = [(tokenizer.encode(SYSTEM), 0)]
    (placeholder,) = tokenizer.encode(PLACEHOLDER)
    line = tokenizer.encode("\n")
    for place, ask in enumerate(asks):
        parts.append((tokenizer.encode(USER), 0))
        parts += [([placeholder] * num_tokens[clip], 0) for clip in ask.clips]
        parts.append((tokenizer.encode(f"{ask.question}{END}\n{ASSISTANT}"), 0))
        parts += [(tokenizer.encode(ask.answer + END), 0)] if ask.is_given else _answer(ask, tokenizer)
        if place + 1 < len(asks):
            parts.append((line, 0))
    ids = np.concatenate([np.array(part, np.uint16) for part, _ in parts])
    return Conversation(ids, np.concatenate([np.full(len(part), learnt, np.uint8) for part, learnt in parts]))


def _answer(ask: Ask, tokenizer: Encodes) -> list[tuple[list[int], int]]:
    """The tokens of an answer and how much each counts.

    The letter of a chosen option, from which the rest follows, counts several times, and so does what is answered
    after long thoughts, which would else be one word among a hundred.
    """
    text = ask.answer
    ids = tokenizer.encode(text + END)
    thoughts, closed, answer = text.rpartition(THOUGHTS_END)
    begin = len(tokenizer.encode(thoughts + closed)) if closed else 0
    weight = ANSWER_WEIGHT if closed else 1
    if closed and ask.thought < 1.0:
        return [(_ended(tokenizer.encode(thoughts), ask.thought, tokenizer), 0), (ids[begin:], weight)]
    if not OPTION.match(answer):
        return [(ids[:begin], ask.times), (ids[begin:], ask.times * weight)]
    letter = len(tokenizer.encode(thoughts + closed + answer[:2])) - 1
    return [
        (ids[:begin], 1), (ids[begin:letter], weight), (ids[letter : letter + 1], LETTER_WEIGHT * weight),
        (ids[letter + 1 :], weight),
    ]  # fmt: skip


def _ended(thoughts: list[int], share: float, tokenizer: Encodes) -> list[int]:
    """A share of the thoughts, at least their tag, with the end of a line and the closing tag behind them."""
    line = tokenizer.encode("\n")
    kept = thoughts[: max(len(tokenizer.encode(THOUGHTS_BEGIN)), round(share * len(thoughts)))]
    return [*kept, *([] if kept[-1:] == line else line), *tokenizer.encode(THOUGHTS_END)]


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


def save_items(items: Sequence[Item], path: Path) -> None:
    """Write items as one .npz of plain arrays; it appears under its name only when it is whole."""
    windows = [window for item in items for window in item.windows]
    sequences = [one for item in items for one in item.conversations]
    nothing = np.zeros(0, np.int64)
    parts = {
        "samples": Ragged.of([w.samples for w in windows] or [nothing], np.int16),
        "labels": Ragged.of([w.labels for w in windows] or [nothing.reshape(0, 3)], np.int32),
        "ctc": Ragged.of([nothing if w.ctc is None else w.ctc for w in windows] or [nothing], np.uint8),
        "ids": Ragged.of([s.ids for s in sequences], np.uint16),
        "learnt": Ragged.of([s.learnt for s in sequences], np.uint8),
    }
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, part in parts.items():
        arrays[name], arrays[f"{name}_offsets"] = part.flat, part.offsets
    arrays["clips"] = np.array([w.clip for w in windows], np.uint8)
    arrays["has_ctc"] = np.array([w.ctc is not None for w in windows], np.bool_)
    arrays["item_windows"] = np.cumsum([0, *(len(item.windows) for item in items)])
    arrays["item_sequences"] = np.cumsum([0, *(len(item.conversations) for item in items)])
    arrays["weights"] = np.array([w for item in items for w in item.weights], np.float64)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    partial.rename(path)


def load_items(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of a shard; never unpickles."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)
