"""An end to thoughts: after so many tokens, the words that close them are written for the model.

The rule works on the logits, token by token, so that thoughts and answer remain one reply that the model has seen
itself say. It can hand over to another rule (a schema) for the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from audioflamingo.errors import OptionError
from audioflamingo.think.split import CLOSE, CONCLUSION, OPEN, ThinkStyle, ThoughtSplitter
from audioflamingo.tokenizer import Incremental, Tokenizer
from audioflamingo.types import TokenRule

LINE_TOKENS = 24
"""About what a line of thoughts takes: one that begins with fewer left would hardly come to its end."""
CLOSING_TOKENS = 16
"""Room for a closing tag with its line ends, which comes on top of the thoughts."""


@dataclass(eq=False)
class ThoughtLimit:
    """Makes the rule of one reply for `Sampling.rule`, and knows afterwards what came of it; see `limit_thoughts`.

    Attributes:
        tokenizer: the model's.
        max_thought_tokens: most tokens of thoughts.
        style: how the model's thoughts end.
        answer_rule: what the answer must keep to.
        made: the rule, once the reply has begun.
    """

    tokenizer: Tokenizer
    max_thought_tokens: int
    style: ThinkStyle = "auto"
    answer_rule: Callable[[], TokenRule] | None = None
    made: _ThoughtRule | None = field(default=None, init=False)

    def __call__(self) -> TokenRule:
        """The rule of a reply that begins."""
        self.made = _ThoughtRule(self.tokenizer, self.max_thought_tokens, self.style, self.answer_rule)
        return self.made

    @property
    def cut_after(self) -> int | None:
        """After how many tokens the thoughts were ended for the model, or None where they were not."""
        return self.made.cut_after if self.made else None

    @property
    def may_go_on(self) -> bool:
        """Whether the model, its thoughts cut, may still write thoughts and another closing tag behind the first."""
        return self.made is not None and self.made.may_go_on


def limit_thoughts(
    tokenizer: Tokenizer,
    max_thought_tokens: int,
    style: ThinkStyle = "auto",
    answer_rule: Callable[[], TokenRule] | None = None,
) -> ThoughtLimit:
    """A rule for `Sampling.rule` that ends thoughts after at most so many tokens.

    They end in the style that has begun, or else in the model's own; a tag that is half written is completed. Where a
    line ends shortly before the limit they end there, because the next line would be cut in the middle.

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
    return ThoughtLimit(tokenizer, max_thought_tokens, style, answer_rule)


class _ThoughtRule:
    """See `TokenRule`; one object serves one reply."""

    def __init__(
        self, tokenizer: Tokenizer, budget: int, style: ThinkStyle, answer_rule: Callable[[], TokenRule] | None
    ) -> None:
        self.cut_after: int | None = None
        self._tokenizer = tokenizer
        self._budget, self._num_spent = budget, 0
        self._line_tokens = min(budget // 2, LINE_TOKENS)
        self._style = style
        self._splitter = ThoughtSplitter(style, is_open=answer_rule is not None)
        self._text, self._said = Incremental(tokenizer), ""
        self._answer = answer_rule() if answer_rule else None
        self._forced: list[int] = []
        self._is_closed = False
        self._is_fresh = False  # thoughts were cut, and the answer's first token comes now

    @property
    def may_go_on(self) -> bool:
        return (
            self.cut_after is not None
            and self._answer is None
            and self._uses_tags
            and not has_native_tags(self._tokenizer)
        )

    def restrict(self, scores: Tensor) -> Tensor:
        """Scores (V,) with what is not allowed now at -inf."""
        if self._splitter.is_answering and not self._forced:
            return self._answer.restrict(scores) if self._answer else self._without_tags(scores)
        if not self._is_closed and (self._is_due or self._would_end(scores)):
            self._close(int(scores.argmax()), is_due=self._is_due)
        if not self._forced:
            return self._without_tags(scores)
        only = torch.full_like(scores, -torch.inf)
        only[self._forced[0]] = 0
        return only

    def accept(self, token: int) -> None:
        """Take the token that was chosen."""
        self._is_fresh = len(self._forced) == 1 and self.cut_after is not None
        if self._splitter.is_answering and not self._forced:
            if self._answer:
                self._answer.accept(token)
            return
        self._num_spent += 1
        if self._forced:
            self._forced.pop(0)
        text = self._text.push((token,))
        self._said += text
        _, answer = self._splitter.feed(text)
        if self._answer and answer:  # a token that holds the end of the tag and the beginning of the answer
            for piece in self._tokenizer.encode_plain(answer):
                self._answer.accept(piece)

    @property
    def _uses_tags(self) -> bool:
        return self._answer is not None or self._splitter.uses_tags or self._is_opening

    @property
    def _is_opening(self) -> bool:
        """Whether the opening tag has begun, or must come first, and is not complete."""
        begun = self._said.strip()
        return (
            self._style != "free" and begun != OPEN and OPEN.startswith(begun) and bool(begun or self._style == "tags")
        )

    @property
    def _is_due(self) -> bool:
        left = self._budget - self._num_spent
        return left <= 0 or (left < self._line_tokens and self._said.endswith("\n") and not self._is_empty)

    @property
    def _is_empty(self) -> bool:
        return self._said.strip() in ("", OPEN)

    def _would_end(self, scores: Tensor) -> bool:
        return self._answer is not None and int(scores.argmax()) in self._tokenizer.eos_ids

    def _close(self, likeliest: int, *, is_due: bool) -> None:
        """Write the rest of the closing words; thoughts that were ending anyway do not count as cut."""
        closing = CLOSE if self._uses_tags else CONCLUSION.rstrip()
        num_written = 0 if self._is_opening else _overlap(self._said, closing)
        self._is_closed = True
        self._forced = self._tokenizer.encode(self._opening() + self._break(num_written) + closing[num_written:])
        is_ending = num_written > 0 or (self._forced[:1] == [likeliest] and self._said.endswith("\n"))
        if self._uses_tags:
            self._forced += self._tokenizer.encode("\n")
        if is_due and not is_ending:
            self.cut_after = self._num_spent

    def _opening(self) -> str:
        return OPEN.removeprefix(self._said.strip()) + "\n" if self._is_opening and self._answer is None else ""

    def _break(self, num_written: int) -> str:
        """What stands between the thoughts and the closing words: the end of the line, where it has not come."""
        return "" if num_written or self._is_opening or self._said.endswith("\n") else "\n"

    def _without_tags(self, scores: Tensor) -> Tensor:
        """The answer behind thoughts that were cut begins at once and has no tags that are tokens."""
        if self.cut_after is None:
            return scores
        tags = {self._tokenizer.encode(tag)[0] for tag in (OPEN, CLOSE)}
        banned = [*(self._tokenizer.eos_ids if self._is_fresh else ()),
                  *(tags if self._is_fresh or has_native_tags(self._tokenizer) else ())]  # fmt: skip
        if not banned:
            return scores
        return scores.index_fill(0, torch.tensor(banned, device=scores.device), -torch.inf)


def _overlap(text: str, closing: str) -> int:
    """How many characters of the closing words the text ends with."""
    for size in range(min(len(text), len(closing)), 0, -1):
        if text.endswith(closing[:size]):
            before = text[: len(text) - size].rstrip(" ")
            return size if closing == CLOSE or not before or before[-1] in ".!?\n" else 0
    return 0


def has_native_tags(tokenizer: Tokenizer) -> bool:
    """Whether the vocabulary has the tags as tokens of their own: such a model thinks without an adapter."""
    return len(tokenizer.encode(OPEN)) == 1 and len(tokenizer.encode(CLOSE)) == 1
