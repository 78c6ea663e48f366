"""Beam search: of the several likeliest beginnings of an answer all go on, and the likeliest whole answer is given.

Which answers are compared, by which score, and when nothing better can come are those of transformers' beam search
without early stopping. The prompt is read once, by the plain engine's steps and beside the engine's own cache; its keys
and values are copied for every beam, and from then on only what beams have written moves between them. Shapes: R beams
that go on, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Generator
from collections.abc import Sequence as Rows
from contextlib import closing
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from audioflamingo.engine.answer import Answer
from audioflamingo.engine.contiguous import KVCache
from audioflamingo.engine.engine import Errors
from audioflamingo.engine.memory import memory_errors_told
from audioflamingo.engine.plain import AudioEmbedder, decode_step, prefill
from audioflamingo.engine.sampling import OverflowedError, penalise
from audioflamingo.engine.scheduler import Limits
from audioflamingo.engine.sequence import Sequence
from audioflamingo.errors import FlamingoError
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.tokenizer import Tokenizer
from audioflamingo.types import Beams, Delta, Prompt, Sampling

Ids = tuple[int, ...]


class Generating(Protocol):
    """What answers without beams; `engine.Engine` does."""

    model: Flamingo
    tokenizer: Tokenizer
    limits: Limits

    def generate(
        self, prompts: Rows[Prompt], samplings: Rows[Sampling], *, errors: Errors = "raise"
    ) -> Generator[Delta, None, None]:
        """See `Engine.generate`."""


def generated(
    engine: Generating,
    prompts: Rows[Prompt],
    samplings: Rows[Sampling],
    beams: Rows[Beams | None],
    errors: Errors = "raise",
) -> Generator[Delta, None, None]:
    """`Engine.generate`, where some answers may be searched for: each of these comes whole, as one delta.

    Args:
        engine: answers those without beams, together; then the others follow, one after the other.
        prompts: as the engine takes them.
        samplings: one a prompt; of one with beams `max_new_tokens` and `repetition_penalty` count.
        beams: one a prompt, or None where the engine answers.
        errors: as the engine takes it.
    """
    if not any(beams):
        return _written(engine, prompts, samplings, errors)
    return _mixed(engine, prompts, samplings, beams, errors)


def _written(
    engine: Generating, prompts: Rows[Prompt], samplings: Rows[Sampling], errors: Errors
) -> Generator[Delta, None, None]:
    """Answers without beams; an engine that only raises errors, such as the plain one, need not know of another way."""
    if errors == "raise":
        return engine.generate(prompts, samplings)
    return engine.generate(prompts, samplings, errors=errors)


def _mixed(
    engine: Generating, prompts: Rows[Prompt], samplings: Rows[Sampling], beams: Rows[Beams | None], errors: Errors
) -> Generator[Delta, None, None]:
    plain = [index for index, one in enumerate(beams) if one is None]
    if plain:
        some, how = [prompts[index] for index in plain], [samplings[index] for index in plain]
        with closing(_written(engine, some, how, errors)) as deltas:
            for delta in deltas:
                yield replace(delta, index=plain[delta.index])
    for index, one in enumerate(beams):
        if one is not None:
            try:
                yield _answer(engine, index, prompts[index], samplings[index], one)
            except FlamingoError as error:
                if errors == "raise":
                    raise
                yield Delta(index, "", (), "error", error=error)


def _answer(engine: Generating, index: int, prompt: Prompt, sampling: Sampling, beams: Beams) -> Delta:
    """One whole answer."""
    sequence = Sequence(index, prompt, sampling, engine.model.config.decoder.max_positions)
    found = search(
        engine.model,
        prompt,
        beams,
        eos_ids=engine.tokenizer.eos_ids,
        most_tokens=sequence.max_tokens - prompt.num_tokens,
        repetition_penalty=sampling.repetition_penalty,
        windows_at_once=engine.limits.encoder_windows,
    )
    answer = Answer(engine.tokenizer, sequence)
    text = "".join([answer.accept(token).text for token in found])
    return sequence.delta(text, num_new_tokens=len(found))


@torch.inference_mode()
def search(
    model: Flamingo,
    prompt: Prompt,
    beams: Beams,
    *,
    eos_ids: Collection[int],
    most_tokens: int,
    repetition_penalty: float,
    windows_at_once: int,
) -> Ids:
    """The tokens of the best answer that is found, the end token included where one came.

    Args:
        model: whose weights run; no adapter is switched on.
        prompt: with its sounds.
        beams: how many, and how answers of different lengths are compared.
        eos_ids: each ends an answer.
        most_tokens: of an answer, at least one.
        repetition_penalty: of tokens that stand in the prompt or in the beam; 1 is off.
        windows_at_once: windows of sound that are encoded together.

    Raises:
        OverflowedError: the model's logits are not finite.
        MemoryExhaustedError: there is no memory for so many beams.
    """
    embedder = AudioEmbedder(model, windows_at_once)
    embedder.add(prompt.audios)
    cache = KVCache(model.config.decoder, model.dtype, model.device)
    logits = prefill(model, cache, [prompt], embedder)
    hypotheses = Hypotheses(beams, eos_ids, most_tokens)
    with memory_errors_told(f"keeping num_beams={beams.num} answers", model.device):
        while True:
            logs = logits.float().log_softmax(-1)
            if repetition_penalty != 1:
                logs = penalise(logs, _seen(prompt, hypotheses, logs), repetition_penalty)
            parents = hypotheses.advance(logs)
            if hypotheses.is_done:
                return hypotheses.best
            if len(parents) == cache.num_rows:
                cache.exchange(parents, prompt.num_tokens)
            else:
                cache.keep_rows(parents)
            logits = decode_step(model, cache, hypotheses.last_tokens)


def _seen(prompt: Prompt, hypotheses: Hypotheses, logs: Tensor) -> Tensor:
    """(R, V) bool: what stands in the prompt or in the beam."""
    seen = torch.zeros(logs.shape, dtype=torch.bool)
    seen[:, sorted(set(prompt.ids))] = True
    for row, ids in enumerate(hypotheses.going):
        seen[row, list(ids)] = True
    return seen.to(logs.device)


class Hypotheses:
    """Answers that go on and answers that are whole, from log-probabilities alone.

    Attributes:
        going: R beginnings, the likeliest first; at first one without a token.
        is_done: whether nothing better can come, by the rule of transformers: all beams have a whole answer, and the
            likeliest beginning, compared as if it ended now, is no better than the worst of them.
    """

    def __init__(self, beams: Beams, eos_ids: Collection[int], most_tokens: int) -> None:
        self.going: list[Ids] = [()]
        self.is_done = False
        self._sums = torch.zeros(1)  # of each beginning's log-probabilities, (R,) float32
        self._whole: list[tuple[float, Ids]] = []  # the best so far, best first, at most as many as beams
        self._beams, self._eos_ids, self._most_tokens = beams, frozenset(eos_ids), most_tokens

    @property
    def best(self) -> Ids:
        """The best whole answer."""
        return self._whole[0][1]

    @property
    def last_tokens(self) -> list[int]:
        """Of each beginning, once there is one."""
        return [ids[-1] for ids in self.going]

    def advance(self, logs: Tensor) -> list[int]:
        """Take the log-probabilities (R, V) of what follows each beginning.

        Returns:
            For each beginning that goes on the row of the one that it continues.

        Raises:
            OverflowedError: one of the log-probabilities is not a number.
        """
        sums = (logs + self._sums.to(logs.device)[:, None]).flatten()
        # So many that enough go on where every beam may also end, in every way.
        count = min(len(sums), max(2, 1 + len(self._eos_ids)) * self._beams.num)
        likeliest, places = (found.cpu() for found in sums.topk(count))
        length = len(self.going[0]) + 1
        scores = likeliest / length**self._beams.length_penalty
        if bool(scores.isnan().any()):
            raise OverflowedError(
                "the model's logits are not finite; load it with dtype='bfloat16' or 'float32', and leave "
                "repetition_penalty near 1"
            )
        before, vocab_size = self.going, logs.shape[-1]
        kept: list[int] = []  # ranks of those that go on
        parents: list[int] = []
        self.going = []
        for rank, (place, score) in enumerate(zip(places.tolist(), scores.tolist(), strict=True)):
            row, token = divmod(place, vocab_size)
            if score == -math.inf:
                break
            if token in self._eos_ids or length == self._most_tokens:
                if rank < self._beams.num:  # the others are there to go on alone
                    self._whole.append((score, (*before[row], token)))
            elif len(kept) < self._beams.num:
                self.going.append((*before[row], token))
                kept.append(rank)
                parents.append(row)
        self._whole = sorted(self._whole, key=lambda one: -one[0])[: self._beams.num]
        self._sums = likeliest[kept]
        has_all = len(self._whole) == self._beams.num
        self.is_done = not kept or (has_all and float(scores[kept[0]]) <= self._whole[-1][0])
        return parents
