"""How likely a model finds given answers: log-probabilities of their tokens behind a prompt.

The prompt is read once for every so many answers, which then go on from its keys and values side by side, token by
token, by the plain engine's steps. Shapes: B answers, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows

import torch

from audioflamingo.engine.contiguous import KVCache
from audioflamingo.engine.plain import AudioEmbedder, decode_step, prefill
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.types import Prompt


@torch.inference_mode()
def log_likelihoods(
    model: Flamingo, prompt: Prompt, answers: Rows[Rows[int]], *, windows_at_once: int, rows_at_once: int
) -> list[list[float]]:
    """Natural logarithms of the probability of each token, given the prompt and the answer's tokens before it.

    Args:
        model: whose weights run; no adapter is switched on.
        prompt: with its sounds.
        answers: ids of each, at least one.
        windows_at_once: windows of sound that are encoded together.
        rows_at_once: answers that are continued together.
    """
    embedder = AudioEmbedder(model, windows_at_once)
    embedder.add(prompt.audios)
    found: list[list[float]] = []
    for start in range(0, len(answers), rows_at_once):
        some = answers[start : start + rows_at_once]
        cache = KVCache(model.config.decoder, model.dtype, model.device)
        first = prefill(model, cache, [prompt], embedder).float().log_softmax(-1)[0]
        own = [[float(first[answer[0]])] for answer in some]
        alive = [row for row, answer in enumerate(some) if len(answer) > 1]
        cache.keep_rows([0] * len(alive))
        place = 0
        while alive:
            logits = decode_step(model, cache, [some[row][place] for row in alive]).float().log_softmax(-1)
            place += 1
            for line, row in zip(logits, alive, strict=True):
                own[row].append(float(line[some[row][place]]))
            kept = [at for at, row in enumerate(alive) if len(some[row]) > place + 1]
            alive = [alive[at] for at in kept]
            if alive:
                cache.keep_rows(kept)
        found += own
    return found
