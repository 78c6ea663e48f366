"""All clips in device memory, and batches of equal length drawn from them without touching Python per clip."""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audioflamingo.train.clips import Encodes, IntArray, dialogue_ids, load_shard
from audioflamingo.world.tasks import text_only_questions

SUFFIX_STEP = 8  # few shapes, so that kernels and allocations are found again


@dataclass(frozen=True, eq=False)
class Batch:
    """Clips of one length, on the device.

    Attributes:
        samples: (B, N) int16.
        ctc: (sum of labels,) int64, and its lengths (B,) on the CPU.
        events: (B, A, E) float32 targets, 1 where an event of that name is heard.
        suffix: (B, T) int64 token ids that follow the audio, padded.
        is_answer: (B, T) bool, where the suffix is answer or its end; nothing else is ever in the loss.
        answer_places: (M,) int64 indices of those places in the flattened (B * T,); ready-made so that the device
            never has to be asked how many there are.
    """

    samples: Tensor
    ctc: Tensor
    ctc_lengths: Tensor
    events: Tensor
    suffix: Tensor
    is_answer: Tensor
    answer_places: Tensor


class ClipPool:
    """Clips appended shard by shard; batches drawn by length.

    Args:
        device: where samples live.
        max_samples: room for so many; shards that no longer fit are refused.
        num_event_names: E, width of the event targets.
        pad_id: token that fills the suffix.
    """

    def __init__(self, device: torch.device, *, max_samples: int, num_event_names: int, pad_id: int) -> None:
        self.device, self.num_event_names, self.pad_id = device, num_event_names, pad_id
        self.samples = torch.empty(max_samples, dtype=torch.int16, device=device)
        self.num_samples = 0
        self.lock = threading.Lock()
        self.shards: list[dict[str, npt.NDArray[Any]]] = []
        self.by_length: dict[int, list[tuple[int, int, int]]] = defaultdict(list)  # (shard, clip, first sample)

    @property
    def hours(self) -> float:
        """How much sound is held."""
        return self.num_samples / 16_000 / 3_600

    def append(self, path: Path) -> bool:
        """Add a shard; False where it no longer fits."""
        return self.append_arrays(load_shard(path))

    def append_arrays(self, shard: dict[str, npt.NDArray[Any]]) -> bool:
        """Add a shard's arrays; False where they no longer fit."""
        samples = shard.pop("samples")
        if self.num_samples + len(samples) > len(self.samples):
            return False
        place = slice(self.num_samples, self.num_samples + len(samples))
        self.samples[place] = torch.from_numpy(samples).to(self.device, non_blocking=True)
        shard["cumulative_weights"] = np.concatenate([[0.0], np.cumsum(shard["weights"])])
        shard["first_dialogue"] = np.concatenate([[0], np.cumsum(shard["num_dialogues"])])
        with self.lock:
            offsets = shard["samples_offsets"]
            for clip, (start, end) in enumerate(itertools.pairwise(offsets)):
                self.by_length[int(end - start)].append((len(self.shards), clip, self.num_samples + int(start)))
            self.shards.append(shard)
            self.num_samples += len(samples)
        return True

    def draw(self, rng: np.random.Generator, budget_s: float, max_length_s: float = 30.0) -> Batch:
        """A batch of about `budget_s` seconds: a length is drawn in proportion to its share, then clips of it."""
        with self.lock:
            lengths = [n for n in self.by_length if n <= max_length_s * 16_000] or [min(self.by_length)]
            mass = np.array([n * len(self.by_length[n]) for n in lengths], float)
            length = lengths[int(rng.choice(len(lengths), p=mass / mass.sum()))]
            members = self.by_length[length]
            size = max(1, round(budget_s * 16_000 / length))
            picked = [members[i] for i in rng.integers(0, len(members), size)]
        return self.collate(picked, length, rng)

    def collate(self, picked: list[tuple[int, int, int]], length: int, rng: np.random.Generator) -> Batch:
        """The batch of these clips, (shard, clip, first sample) each, all `length` samples long."""
        starts = torch.tensor([first for _, _, first in picked]).to(self.device)
        samples = self.samples[starts[:, None] + torch.arange(length, device=self.device)]
        num_audio_tokens = length // 640
        ctc, dialogues, answers = [], [], []
        events = np.zeros((len(picked), num_audio_tokens, self.num_event_names), np.float32)
        for row, (shard_index, clip, _) in enumerate(picked):
            shard = self.shards[shard_index]
            ctc.append(_item(shard, "ctc", clip))
            for name, start, end in _item(shard, "events", clip):
                events[row, start:end, name] = 1.0
            dialogue = _draw_dialogue(shard, clip, rng)
            dialogues.append(_item(shard, "dialogues", dialogue))
            answers.append(int(shard["answer_starts"][dialogue]))
        suffix, is_answer = pad_dialogues(dialogues, answers, self.pad_id)
        return Batch(
            samples=samples,
            ctc=self._send(np.concatenate(ctc).astype(np.int64)),
            ctc_lengths=torch.tensor([len(labels) for labels in ctc]),
            events=self._send(events),
            suffix=self._send(suffix),
            is_answer=self._send(is_answer),
            answer_places=self._send(np.flatnonzero(is_answer)),
        )

    def _send(self, array: npt.NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor


def pad_dialogues(
    dialogues: list[npt.NDArray[Any]], answers: list[int], pad_id: int
) -> tuple[IntArray, npt.NDArray[np.bool_]]:
    """(B, T) token ids and (B, T) where they are answer; T is a multiple of `SUFFIX_STEP`."""
    longest = max(len(ids) for ids in dialogues)
    longest += -longest % SUFFIX_STEP
    suffix = np.full((len(dialogues), longest), pad_id, np.int64)
    is_answer = np.zeros((len(dialogues), longest), np.bool_)
    for row, (ids, start) in enumerate(zip(dialogues, answers, strict=True)):
        suffix[row, : len(ids)] = ids
        is_answer[row, start : len(ids)] = True
    return suffix, is_answer


def text_only_batch(tokenizer: Encodes, device: torch.device) -> Batch:
    """All questions without a sound, each as often as its weight says."""
    asked = [question for question in text_only_questions() for _ in range(round(question.weight))]
    encoded = [dialogue_ids(question, tokenizer) for question in asked]
    suffix, is_answer = pad_dialogues([i for i, _ in encoded], [s for _, s in encoded], int(encoded[0][0][-1]))
    nothing = torch.empty(0, device=device)
    return Batch(
        samples=nothing,
        ctc=nothing,
        ctc_lengths=nothing,
        events=nothing,
        suffix=torch.from_numpy(suffix).to(device),
        is_answer=torch.from_numpy(is_answer).to(device),
        answer_places=torch.from_numpy(np.flatnonzero(is_answer)).to(device),
    )


def _item(shard: dict[str, npt.NDArray[Any]], name: str, index: int) -> npt.NDArray[Any]:
    offsets = shard[f"{name}_offsets"]
    return shard[name][offsets[index] : offsets[index + 1]]


def _draw_dialogue(shard: dict[str, npt.NDArray[Any]], clip: int, rng: np.random.Generator) -> int:
    """Index of one of the clip's dialogues, by weight."""
    first, last = shard["first_dialogue"][clip], shard["first_dialogue"][clip + 1]
    cumulative = shard["cumulative_weights"]
    point = cumulative[first] + rng.random() * (cumulative[last] - cumulative[first])
    found = int(np.searchsorted(cumulative, point, side="right")) - 1
    return min(max(found, int(first)), int(last) - 1)
