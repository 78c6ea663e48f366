"""An end to thoughts: after so many tokens, the words that close them are written for the model.

The rule works on the logits, token by token, so that thoughts and answer remain one reply that the model has seen
itself say. It can hand over to another rule (a schema) for the answer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from audioflamingo.errors import OptionError
from audioflamingo.think.split import CLOSE, CONCLUSION, OPEN, ThinkStyle, ThoughtSplitter
from audioflamingo.tokenizer import Incremental, Tokenizer
from audioflamingo.types import TokenRule


def limit_thoughts(
    tokenizer: Tokenizer,
    max_thought_tokens: int,
    style: ThinkStyle = "auto",
    answer_rule: Callable[[], TokenRule] | None = None,
) -> Callable[[], TokenRule]:
    """A rule for `Sampling.rule` that ends thoughts after at most so many tokens.

    Args:
        tokenizer: the model's.
        max_thought_tokens: tokens of thoughts, at least 1; the closing words come on top.
        style: how the model's thoughts end.
        answer_rule: what the answer must keep to. Thoughts then end with a closing tag in every style, which is written
            as soon as the model would end its reply.

    Raises:
        OptionError: the number is less than 1.
    """
    if max_thought_tokens < 1:
        raise OptionError(f"max_thought_tokens is {max_thought_tokens}, allowed: at least 1")
    return lambda: _ThoughtLimit(tokenizer, max_thought_tokens, style, answer_rule)


class _ThoughtLimit:
    """See `limit_thoughts`; one object serves one reply."""

    def __init__(
        self, tokenizer: Tokenizer, budget: int, style: ThinkStyle, answer_rule: Callable[[], TokenRule] | None
    ) -> None:
        self._tokenizer = tokenizer
        self._left = budget
        self._splitter = ThoughtSplitter(style, is_open=answer_rule is not None)
        self._text = Incremental(tokenizer)
        self._answer = answer_rule() if answer_rule else None
        self._forced: list[int] = []
        self._is_closed = False

    def restrict(self, scores: Tensor) -> Tensor:
        """Scores (V,) with what is not allowed now at -inf."""
        if self._splitter.is_answering and not self._forced:
            return self._answer.restrict(scores) if self._answer else scores
        if not self._is_closed and (self._left <= 0 or self._would_end(scores)):
            self._is_closed = True
            self._forced = self._closing_tokens()
        if not self._forced:
            return scores
        only = torch.full_like(scores, -torch.inf)
        only[self._forced[0]] = 0
        return only

    def accept(self, token: int) -> None:
        """Take the token that was chosen."""
        if self._splitter.is_answering and not self._forced:
            if self._answer:
                self._answer.accept(token)
            return
        self._left -= 1
        if self._forced:
            self._forced.pop(0)
        _, answer = self._splitter.feed(self._text.push((token,)))
        if self._answer and answer:  # a token that holds the end of the tag and the beginning of the answer
            for piece in self._tokenizer.encode_plain(answer):
                self._answer.accept(piece)

    def _would_end(self, scores: Tensor) -> bool:
        return self._answer is not None and int(scores.argmax()) in self._tokenizer.eos_ids

    def _closing_tokens(self) -> list[int]:
        if self._answer or self._splitter.uses_tags:
            return self._tokenizer.encode(f"\n{CLOSE}\n")
        return self._tokenizer.encode(f"\n{CONCLUSION.rstrip()}")


def has_native_tags(tokenizer: Tokenizer) -> bool:
    """Whether the vocabulary has the tags as tokens of their own: such a model thinks without an adapter."""
    return len(tokenizer.encode(OPEN)) == 1 and len(tokenizer.encode(CLOSE)) == 1
