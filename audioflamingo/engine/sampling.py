"""Logits to the next token, in the reference's order: repetition penalty, temperature, top-k, top-p, then the choice.

The order and the meaning of each step are those of transformers' logits processors. Shapes: B sequences, V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Sequence as Rows

import torch
from torch import Tensor

from audioflamingo.errors import FlamingoError, OptionError
from audioflamingo.types import Sampling

MAX_FACTOR = 1e6  # of a temperature or a penalty; what is larger means no more, and logits times it leave fp32
MIN_PENALTY = 1e-6
NO_TOKEN = -1
_SMALLEST = torch.finfo(torch.float32).tiny
_log = logging.getLogger(__name__)


class ChoiceError(FlamingoError):
    """No token can be chosen."""


class OverflowedError(ChoiceError):
    """Logits are not finite, and so may be whatever was computed before them."""


def check_sampling(sampling: Sampling) -> Sampling:
    """The same options, if every one is allowed.

    Raises:
        OptionError: all complaints at once.
    """
    rules = (
        (sampling.max_new_tokens >= 1, "max_new_tokens", "at least 1"),
        (0 <= sampling.temperature <= MAX_FACTOR, "temperature", f"0 (greedy) to {MAX_FACTOR:,.0f}"),
        (sampling.top_k >= 0, "top_k", "0 (all) or more"),
        (0 < sampling.top_p <= 1, "top_p", "above 0 and at most 1"),
        (
            MIN_PENALTY <= sampling.repetition_penalty <= MAX_FACTOR,
            "repetition_penalty",
            f"{MIN_PENALTY:g} to {MAX_FACTOR:,.0f}, 1 is off",
        ),
        (0 <= sampling.seed < 2**63, "seed", "0 or more, below 2**63"),
        (all(sampling.stop), "stop", "strings that are not empty"),
    )
    wrong = [f"{name} is {getattr(sampling, name)!r}, allowed: {what}" for is_ok, name, what in rules if not is_ok]
    if wrong:
        raise OptionError("; ".join(wrong))
    return sampling


class Sampler:
    """The choices of one sequence: its own random stream, and the tokens that its penalty has to look at.

    The random stream belongs to the request and lies on the CPU, so that neither the batch around it nor the device
    changes what is drawn.
    """

    def __init__(self, sampling: Sampling, prompt_ids: Rows[int], vocab_size: int, device: torch.device) -> None:
        self.sampling = sampling
        self._generator = torch.Generator().manual_seed(sampling.seed)
        self._rule = sampling.rule() if sampling.rule else None
        self._seen: Tensor | None = None
        if sampling.repetition_penalty != 1:
            self._seen = torch.zeros(vocab_size, dtype=torch.bool, device=device)
            self._seen[torch.tensor(sorted(set(prompt_ids)), device=device)] = True

    @property
    def is_plain_greedy(self) -> bool:
        """Whether the likeliest token is chosen from the logits as they are."""
        return self.sampling.temperature == 0 and self._seen is None and self._rule is None

    def choose(self, logits: Tensor) -> int:
        """The next token from (V,) logits of any float dtype.

        Raises:
            OverflowedError: no logit is finite that may come, or some are too large.
        """
        scores = logits.float()
        if self._seen is not None:
            scores = penalise(scores, self._seen, self.sampling.repetition_penalty)
        if self._rule is not None:
            scores = self._rule.restrict(scores)
        highest, likeliest = scores.max(-1)
        if not highest.isfinite():
            raise _overflow(logits.dtype)
        token = int(likeliest) if self.sampling.temperature == 0 else self._draw(scores - highest)
        if self._seen is not None:
            self._seen[token] = True
        if self._rule is not None:
            self._rule.accept(token)
        return token

    def _draw(self, scores: Tensor) -> int:
        """A token by chance; the highest of the scores is 0, so that the smallest temperature leaves it as it is."""
        scores = scores / max(self.sampling.temperature, _SMALLEST)
        scores = keep_top_k(scores, self.sampling.top_k)
        scores = keep_top_p(scores, self.sampling.top_p)
        uniform = torch.rand((), dtype=torch.float64, generator=self._generator)
        return draw(scores.softmax(-1), float(uniform))


def choose_tokens(logits: Tensor, samplers: Rows[Sampler]) -> list[int | FlamingoError]:
    """Next tokens of a batch from (B, V) logits, one sampler a row; where there is none, the error instead."""
    return begin_choice(logits, samplers)()


def begin_choice(logits: Tensor, samplers: Rows[Sampler]) -> Callable[[], list[int | FlamingoError]]:
    """`choose_tokens` whose result is not waited for until it is called: till then a GPU works and the host is free."""
    if samplers and all(sampler.is_plain_greedy for sampler in samplers):
        return _likeliest(logits)
    return lambda: [_chosen(sampler, row) for sampler, row in zip(samplers, logits, strict=True)]


def _likeliest(logits: Tensor) -> Callable[[], list[int | FlamingoError]]:
    highest, likeliest = logits.max(-1)
    found = torch.where(highest.isfinite(), likeliest, NO_TOKEN)  # so that the device is waited for once
    is_there: torch.cuda.Event | None = None
    if found.is_cuda:
        on_device, found = found, torch.empty(found.shape, dtype=found.dtype, pin_memory=True)
        found.copy_(on_device, non_blocking=True)
        is_there = torch.cuda.Event()  # type: ignore[no-untyped-call]
        is_there.record()

    def wait() -> list[int | FlamingoError]:
        if is_there is not None:
            is_there.synchronize()
        return [_overflow(logits.dtype) if token == NO_TOKEN else token for token in found.tolist()]

    return wait


def _chosen(sampler: Sampler, logits: Tensor) -> int | FlamingoError:
    try:
        return sampler.choose(logits)
    except FlamingoError as error:
        return error
    except Exception as error:  # a rule may be anybody's, and its fault is no other answer's
        _log.exception("no token could be chosen")
        reason = f"{type(error).__name__}: {error}"
        failure = ChoiceError(f"the next token could not be chosen ({' '.join(reason.split())[:100]}); see the log")
        failure.__cause__ = error
        return failure


def _overflow(dtype: torch.dtype) -> OverflowedError:
    return OverflowedError(
        f"the model's logits are not finite in {str(dtype).removeprefix('torch.')}; load it with dtype='bfloat16' or "
        "'float32', and leave repetition_penalty near 1"
    )


def penalise(scores: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Divide positive and multiply negative scores (V,) of the tokens marked in `seen` (V,) bool."""
    return torch.where(seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)


def keep_top_k(scores: Tensor, top_k: int) -> Tensor:
    """Scores (V,) with all but the k largest, and what ties with the last of them, at -inf; 0 keeps all."""
    if not 0 < top_k < scores.shape[-1]:
        return scores
    smallest_kept = scores.topk(top_k).values[-1]
    return scores.masked_fill(scores < smallest_kept, -torch.inf)


def keep_top_p(scores: Tensor, top_p: float) -> Tensor:
    """Scores (V,) with all but the smallest set of tokens whose probability reaches p at -inf; one always stays."""
    if top_p == 1:
        return scores
    # Summed from the least likely upwards, as the reference does: rounding then falls on the same side.
    ascending, order = scores.sort()
    dropped = ascending.softmax(-1).cumsum(-1) <= 1 - top_p
    dropped[-1] = False
    return scores.masked_fill(torch.zeros_like(dropped).scatter(0, order, dropped), -torch.inf)


def draw(probabilities: Tensor, uniform: float) -> int:
    """The token in whose share of (V,) probabilities a number from [0, 1) falls; never one of probability 0."""
    cumulative = probabilities.double().cumsum(-1)
    # Rounding may carry the product up to the total itself, which lies in no token's share.
    target = torch.minimum(cumulative[-1] * uniform, torch.nextafter(cumulative[-1], torch.zeros_like(cumulative[-1])))
    return int(torch.searchsorted(cumulative, target, right=True))
