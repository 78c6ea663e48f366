"""What the model can do while it is still being trained: a quick look on clips of the test split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from audioflamingo.train.clips import CTC_ALPHABET, EVENT_NAMES
from audioflamingo.train.pool import Batch, ClipPool
from audioflamingo.train.step import answer_logits, listen

if TYPE_CHECKING:
    from audioflamingo.train.nano import Trainer
    from audioflamingo.train.render import PlainTokenizer


class Validation:
    """Fixed batches with the most heavily weighted question of every clip."""

    def __init__(self, shard: dict[str, Any], tokenizer: PlainTokenizer, device: torch.device) -> None:
        self.batches = list(_batches(shard, device, tokenizer.encode("<|im_end|>")[0]))

    @torch.no_grad()
    def run(self, trainer: Trainer) -> dict[str, float]:
        """Word error rate of the CTC head; token and whole-answer accuracy of the decoder, teacher-forced."""
        errors = words = right = tokens = whole = clips = 0
        for batch, texts in self.batches:
            heard = listen(trainer.model, trainer.log_mel(batch.samples), batch.samples.shape[1] // 160)
            for guess, truth in zip(trainer.heads.ctc_greedy(heard.frames), texts, strict=True):
                errors += word_errors(truth.split(), guess.split())
                words += len(truth.split())
            logits = answer_logits(trainer.model, heard.features, batch, trainer.prefix, batch.suffix)
            hits = logits.argmax(-1) == batch.suffix.flatten()[batch.answer_places]
            right, tokens = right + int(hits.sum()), tokens + len(hits)
            for row in hits.split(batch.is_answer.sum(1).tolist()):
                whole, clips = whole + int(row.all()), clips + 1
        return {
            "val_ctc_wer": round(errors / max(words, 1), 4),
            "val_token_accuracy": round(right / tokens, 4),
            "val_answer_accuracy": round(whole / clips, 4),
        }


def _batches(shard: dict[str, Any], device: torch.device, pad_id: int) -> Any:
    """Batches of clips of equal length, in order, with their transcripts."""
    pool = ClipPool(device, max_samples=len(shard["samples"]), num_event_names=len(EVENT_NAMES), pad_id=pad_id)
    pool.append_arrays(dict(shard))
    for length, members in sorted(pool.by_length.items()):
        for start in range(0, len(members), 32):
            picked = members[start : start + 32]
            batch: Batch = pool.collate(picked, length, np.random.default_rng(0))
            offsets = shard["ctc_offsets"]
            labels = [shard["ctc"][offsets[clip] : offsets[clip + 1]] for _, clip, _ in picked]
            yield batch, ["".join(CTC_ALPHABET[i - 1] for i in row) for row in labels]


def word_errors(truth: list[str], guess: list[str]) -> int:
    """Fewest insertions, deletions and substitutions that turn one list of words into the other."""
    row = list(range(len(guess) + 1))
    for i, word in enumerate(truth, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(guess, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1]
