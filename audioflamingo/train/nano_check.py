"""What the model can do while it is trained: held-out items by kind, teacher-forced, and the CTC head's words."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from audioflamingo.errors import OptionError
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.train.nano_items import CTC_ALPHABET, Encodes, Item, load_items, save_items
from audioflamingo.train.nano_mel import LineLogMel
from audioflamingo.train.nano_plan import REST_TOKENS, Plan, Shape, make_plan
from audioflamingo.train.nano_pool import ItemPool, Room
from audioflamingo.train.nano_render import item_of
from audioflamingo.train.nano_step import Heads, decode, encode, sequences_of
from audioflamingo.train.validate import word_errors
from audioflamingo.world.workers import Workers

CHECKED: dict[str, int] = {
    "speech": 64, "one_sound": 24, "two_sounds": 16, "counting": 32, "temporal_order": 24, "speaker_attributes": 32,
    "emotion": 16, "music_knowledge": 32, "music_reasoning": 48, "speech_qa": 16, "think": 24, "chat": 16,
    "grounding": 8, "needle": 6, "nothing_there": 12, "several_clips": 24, "by_example": 8,
}  # fmt: skip
GROUPS = {"speech": "words", "one_sound": "sounds", "two_sounds": "sounds", "nothing_there": "sounds"}


@dataclass(frozen=True)
class Score:
    """Of one kind: share of learnt tokens and of whole answers that are right, given all before them."""

    tokens: float
    answers: float


class Checks:
    """Fixed packs of items of the test side.

    Args:
        file: shard of the items, with `kinds` beside it; made where it is missing.
        tokenizer: of the run.
        device: where the pool is.
        vocab_size: of the model.
        counts: how many of each kind.
        longest_s: of the long scenes.
        seed: of the items.

    Raises:
        OptionError: the file holds another number of items.
    """

    def __init__(
        self, file: Path, tokenizer: Encodes, device: torch.device, vocab_size: int, *,
        counts: dict[str, int] | None = None, longest_s: float = 600.0, seed: int = 777,
    ) -> None:  # fmt: skip
        counts = counts or CHECKED
        self.kinds = [name for name, count in counts.items() for _ in range(count)]
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            save_items(_items(self.kinds, seed, tokenizer, longest_s), file)
        arrays = load_items(file)
        num_items = len(arrays["item_windows"]) - 1
        if num_items != len(self.kinds):
            raise OptionError(
                f"{file} holds {num_items} held-out items and {len(self.kinds)} are asked for: "
                "take the options that it was made with, or remove it"
            )
        self.pool = ItemPool(device, 4 * len(arrays["samples"]))
        self.pool.append_arrays(arrays)
        self.vocab_size, self.placeholder = vocab_size, tokenizer.encode("<sound>")[0]
        self.log_mel = LineLogMel(device)

    @torch.no_grad()
    def run(self, model: Flamingo, heads: Heads) -> dict[str, float]:
        """The figures by name: "val counting" and so on, and the CTC head's word error rate."""
        hits: dict[str, list[tuple[int, int]]] = {}
        errors = words = 0
        for plan, kinds in self._plans():
            mel = self.log_mel(self.pool.samples, plan)
            frames = encode(model, mel, plan, sequences_of(plan, model)[0])
            features = model.encoder.layer_norm(frames.view(-1, 2, frames.shape[1]).mean(1))
            _, states = decode(model, features, plan, sequences_of(plan, model)[1])
            known = plan.weights > 0
            right = (model.logits(states[plan.predicts]).argmax(-1) == plan.targets)[known].cpu()
            owner = torch.searchsorted(plan.decoder_offsets.long(), plan.predicts[known], right=True).cpu() - 1
            for number, kind in enumerate(kinds):
                mine = right[owner == number]
                hits.setdefault(kind, []).append((int(mine.sum()), len(mine)))
            wrong, num = _ctc_errors(heads.ctc(heads.ctc_norm(frames)), plan)
            errors, words = errors + wrong, words + num
        scores = {name: _score(rows) for name, rows in hits.items()}
        return {
            "val_ctc_wer": round(errors / max(words, 1), 4),
            "val_tokens": round(float(np.mean([score.tokens for score in scores.values()])), 4),
            "val_answers": round(float(np.mean([score.answers for score in scores.values()])), 4),
            **{f"val {name}": round(_shown(name, score), 3) for name, score in scores.items()},
        }

    def _shape(self) -> Shape:
        """A GPU's usual step; a CPU pays for room that is not used."""
        if self.pool.device.type == "cuda":
            return Shape(num_sequences=512, longest_tokens=16_384)
        table = self.pool.table
        frames = max(int(table.frames.max()), 3_000)
        tokens = max(int(table.num_tokens.max()), 3_000)
        sequences = 128 + max(frames, tokens) // REST_TOKENS
        return Shape(frames + frames % 2, tokens, 64, sequences, tokens, 16_384, tokens)

    def _plans(self) -> Iterator[tuple[Plan, list[str]]]:
        table = self.pool.table
        waiting = list(range(len(self.kinds)))
        shape = self._shape()
        while waiting:
            room, chosen = Room(shape), list[int]()
            for item in waiting:
                needs = (table.frames, table.num_tokens, table.num_windows, table.num_learnt, table.num_spans)
                if room.takes([int(need[item]) for need in needs]):
                    chosen.append(item)
            waiting = [item for item in waiting if item not in chosen]
            picked = [table.picked(item, item) for item in chosen]
            plan = make_plan(
                picked, shape, np.random.default_rng(0), vocab_size=self.vocab_size, placeholder=self.placeholder
            )
            yield plan.to(self.pool.device), [self.kinds[item] for item in chosen]


def _items(kinds: Sequence[str], seed: int, tokenizer: Encodes, longest_s: float) -> list[Item]:
    """An item of each kind, made by a quarter of the machine's cores."""
    workers = Workers(max(1, (os.cpu_count() or 1) // 4))
    try:
        asked = [workers.submit(_item, name, (seed, i), tokenizer, longest_s) for i, name in enumerate(kinds)]
        return [future.result() for future in asked]
    finally:
        workers.close()


def _item(kind: str, seed: tuple[int, ...], tokenizer: Encodes, longest_s: float) -> Item:
    return _own(item_of(kind, seed, tokenizer, split="test_known", longest_s=longest_s))


def _own(item: Item) -> Item:
    """Its most heavily weighted conversation alone."""
    best = int(np.argmax(item.weights))
    return Item(item.windows, (item.conversations[best],), (1.0,))


def _score(rows: list[tuple[int, int]]) -> Score:
    tokens = sum(right for right, _ in rows) / max(sum(num for _, num in rows), 1)
    return Score(tokens, sum(right == num for right, num in rows) / len(rows))


def _shown(name: str, score: Score) -> float:
    """Of long answers tokens, of short ones whole answers."""
    return score.tokens if name in ("speech", "think", "chat") else score.answers


def _ctc_errors(logits: torch.Tensor, plan: Plan) -> tuple[int, int]:
    best = logits.argmax(-1)[plan.ctc_frames].cpu()
    labels = torch.split(plan.ctc_labels.cpu(), plan.ctc_label_lengths.tolist())
    errors = words = 0
    for row, length, label in zip(best, plan.ctc_lengths.tolist(), labels, strict=True):
        path = row[:length].tolist()
        kept = [one for before, one in zip([0, *path], path, strict=False) if one and one != before]
        guess, truth = ("".join(CTC_ALPHABET[i - 1] for i in line).split() for line in (kept, label.tolist()))
        errors += word_errors(truth, guess)
        words += len(truth)
    return errors, words
