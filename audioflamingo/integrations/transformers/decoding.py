"""The decoding loop of `generate` on our model: packed prompts, our KV cache, transformers' choices.

transformers has prepared everything by then: logits processors, stopping criteria, streamer. They see what they would
see in its own loop, so tokens and random draws are the same; what differs is how logits come about. Rows are never
padded, a sound costs its own length, and rows that are finished are no longer computed.

Shapes: B rows, T padded tokens, N packed tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from audioflamingo.engine.contiguous import KVCache, PrefillContext
from audioflamingo.engine.scheduler import Limits
from audioflamingo.integrations.transformers.steps import Steps, steps_for
from audioflamingo.model.attention import Kernel, Packing, attention_kernel
from audioflamingo.model.flamingo import Flamingo


@dataclass(frozen=True, kw_only=True)
class Choices:
    """How transformers chooses tokens: what it hands to its own loop."""

    logits_processor: Any
    stopping_criteria: Any
    config: Any
    streamer: Any = None


def decode(flamingo: Flamingo, input_ids: Tensor, rows: Rows, choices: Choices, kernel: Kernel) -> Tensor:
    """Generate until every row has ended.

    Args:
        flamingo: the model.
        input_ids: (B, T) the prompt as transformers has it; (B, 0) where it came as embeddings.
        rows: the prompt's embeddings.
        choices: how tokens are chosen.
        kernel: what attention runs on; forced for all threads unless "auto".

    Returns:
        (B, T + new) ids.
    """
    with nullcontext() if kernel == "auto" else attention_kernel(kernel):
        state = _State(flamingo, input_ids, choices)
        state.take(rows.prefill(flamingo, state.cache))
        steps = steps_for(flamingo, state.cache, is_free=kernel == "auto")
        while state.alive:
            state.drop_ended(steps)
            state.take(steps.logits(state.last_tokens))
    if choices.streamer is not None:
        choices.streamer.end()
    return state.ids


class Rows:
    """Embeddings of a batch of prompts without padding: (N, D) packed, and how many belong to each row."""

    def __init__(self, embeddings: Tensor, lengths: Sequence[int]) -> None:
        self._embeddings = embeddings
        self._lengths = list(lengths)

    def prefill(self, flamingo: Flamingo, cache: KVCache) -> Tensor:
        """Run all prompts, several at once up to the engine's limit; returns (B, V) logits of each one's next token."""
        logits = []
        parts = iter(torch.split(self._embeddings, self._lengths))
        for group in self._groups(Limits().prefill_tokens):
            packing = Packing.of(group, flamingo.device)
            context = PrefillContext(cache, cache.add_rows(packing.lengths), packing)
            embeddings = torch.cat([next(parts) for _ in group])
            hidden = flamingo.hidden_states(embeddings, packing.positions, context)
            logits.append(flamingo.logits(hidden[packing.offsets[1:] - 1]))
        return torch.cat(logits)

    def _groups(self, max_tokens: int) -> list[list[int]]:
        groups: list[list[int]] = [[]]
        for length in self._lengths:
            if groups[-1] and sum(groups[-1]) + length > max_tokens:
                groups.append([])
            groups[-1].append(length)
        return groups


class _State:
    """Rows on their way: ids of all of them, and the cache of those that have not ended."""

    def __init__(self, flamingo: Flamingo, input_ids: Tensor, choices: Choices) -> None:
        self.ids = input_ids
        self.cache = KVCache(flamingo.config.decoder, flamingo.dtype, flamingo.device)
        self.alive = list(range(input_ids.shape[0]))
        self._kept = self.alive
        self._choices = choices
        self._has_end = any(hasattr(criterion, "eos_token_id") for criterion in choices.stopping_criteria)
        self._pad = choices.config._pad_token_tensor

    @property
    def last_tokens(self) -> list[int]:
        """The last token of every row that has not ended."""
        last: list[int] = self.ids[self.alive, -1].tolist()
        return last

    def take(self, logits: Tensor) -> None:
        """Choose the next token of every row from (rows alive, V) logits, and see which rows that ends."""
        scores = self._choices.logits_processor(self.ids, self._spread(logits))
        if self._choices.config.do_sample:
            tokens = torch.multinomial(scores.softmax(-1), num_samples=1).squeeze(1)
        else:
            tokens = scores.argmax(-1)
        is_alive = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
        is_alive[self.alive] = True
        if self._has_end:
            tokens = torch.where(is_alive, tokens, self._pad.to(tokens.device)) if self._pad is not None else tokens
        self.ids = torch.cat([self.ids, tokens[:, None]], dim=-1)
        if self._choices.streamer is not None:
            self._choices.streamer.put(tokens.cpu())
        is_alive &= ~self._choices.stopping_criteria(self.ids, None)
        self._kept = [place for place, row in enumerate(self.alive) if is_alive[row]]
        self.alive = [self.alive[place] for place in self._kept]

    def _spread(self, logits: Tensor) -> Tensor:
        """(B, V) float32 logits, zeros for rows that have ended: processors and random draws look at whole batches."""
        logits = logits.to(dtype=torch.float32, device=self.ids.device)
        if len(self.alive) == self.ids.shape[0]:
            return logits
        spread = logits.new_zeros(self.ids.shape[0], logits.shape[1])
        spread[self.alive] = logits
        return spread

    def drop_ended(self, steps: Steps) -> None:
        """Let the rows go that the last token ended."""
        steps.keep(self._kept)
