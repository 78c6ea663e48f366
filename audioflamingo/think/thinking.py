"""Thinking of one loaded model: whether it can, its adapter once it was asked for, and what a request then needs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import get_args

from audioflamingo.engine.options import Options
from audioflamingo.errors import OptionError
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.lora import SwitchedAdapter
from audioflamingo.think.adapter import FOLDERS, read_adapter
from audioflamingo.think.budget import CLOSING_TOKENS, ThoughtLimit, has_native_tags, limit_thoughts
from audioflamingo.think.split import ThinkStyle, ThoughtSplitter
from audioflamingo.tokenizer import Tokenizer
from audioflamingo.types import Delta, Sampling, TokenRule

_log = logging.getLogger(__name__)
CUT_THOUGHTS = (
    "the thoughts were ended after {} token{}; more (max_thought_tokens, --think=N) let them come to their end, and an "
    "answer from half of them is often wrong"
)
NO_ROOM = "the answer is empty, because max_new_tokens (--max-new-tokens) ended the reply before it began; raise it"
NO_ANSWER = "the answer is empty, because the model ended its reply with its thoughts"


class Thinking:
    """What a model needs to think: an adapter, or tags in its vocabulary, which mean that it was trained to."""

    def __init__(
        self,
        model: Flamingo,
        tokenizer: Tokenizer,
        folder: Path | None,
        *,
        name: str = "this model",
        any_base: bool = False,
    ) -> None:
        """Note where the adapter is; it is read at the first request.

        Args:
            model: the base.
            tokenizer: its tokenizer.
            folder: the adapter's folder, or None where the checkpoint has none.
            name: of the model, for errors.
            any_base: use the adapter even where it was trained on other weights.
        """
        self._model = model
        self._tokenizer = tokenizer
        self._folder = folder
        self._name, self._any_base = name, any_base
        self._adapter: SwitchedAdapter | None = None
        self._reading = Lock()  # two first requests at once must not put the adapter in twice

    @property
    def is_possible(self) -> bool:
        """Whether the model has what it takes."""
        return self._folder is not None or has_native_tags(self._tokenizer)

    @property
    def style(self) -> ThinkStyle:
        """How its thoughts are told from its answers; "auto" until the adapter was read, or where nothing is said."""
        if has_native_tags(self._tokenizer):
            return "tags"
        stated = self._adapter.adapter.style if self._adapter else None
        return next((style for style in get_args(ThinkStyle) if style == stated), "auto")

    def ready(self) -> SwitchedAdapter | None:
        """Read the adapter if that was not done; None where the model thinks without one.

        Raises:
            OptionError: the model has none; says how to get it.
            CheckpointError: the adapter does not fit.
        """
        with self._reading:
            if self._adapter is None and self._folder is not None:
                adapter = read_adapter(self._folder, self._model, name=self._name, any_base=self._any_base)
                self._adapter = SwitchedAdapter(self._model, adapter)
                _log.debug("thinking adapter with %d parameters from %s", adapter.num_parameters, self._folder)
        if not self.is_possible:
            raise OptionError(
                "think=True, but this model has no thinking adapter; allowed: a checkpoint with a folder "
                f"{' or '.join(FOLDERS)} in it ('af3-think' gets the released one), or load_model(..., thinking=FOLDER)"
            )
        return self._adapter

    def steer(
        self, sampling: Sampling, max_thought_tokens: int, answer_rule: Callable[[], TokenRule] | None = None
    ) -> Sampling:
        """The sampling of a request that thinks: adapter on, thoughts limited, the answer by `answer_rule` if any."""
        rule = limit_thoughts(self._tokenizer, max_thought_tokens, self.style, answer_rule)
        return replace(sampling, use_adapter=self._adapter is not None, rule=rule)

    def splitter(self, has_answer_rule: bool) -> ThoughtSplitter:
        """What tells the thoughts of such a request from its answer."""
        return ThoughtSplitter(self.style, is_open=has_answer_rule)

    def own_limits(self, samplings: Sequence[Sampling]) -> list[Sampling]:
        """The same samplings, in which no two replies share what counts their thoughts: parts of a request do."""
        return [
            replace(one, rule=replace(one.rule)) if isinstance(one.rule, ThoughtLimit) else one for one in samplings
        ]

    def apart(
        self, deltas: Generator[Delta, None, None], options: Sequence[Options], samplings: Sequence[Sampling]
    ) -> Generator[Delta, None, None]:
        """The engine's deltas with the thoughts of those that think apart.

        Args:
            deltas: of the engine.
            options: one a prompt.
            samplings: one a prompt, from `own_limits`.
        """
        thinkers = {
            index: (self.splitter(one.constraint is not None), sampling.rule)
            for index, (one, sampling) in enumerate(zip(options, samplings, strict=True))
            if one.think and isinstance(sampling.rule, ThoughtLimit)
        }
        return split_deltas(deltas, thinkers) if thinkers else deltas


def answer_room(options: Options) -> int:
    """Tokens that are left for the answer of a request, whose thoughts may take all of their budget."""
    return options.max_new_tokens - (options.thought_budget + CLOSING_TOKENS if options.think else 0)


def split_deltas(
    deltas: Generator[Delta, None, None], thinkers: Mapping[int, tuple[ThoughtSplitter, ThoughtLimit]]
) -> Generator[Delta, None, None]:
    """The same deltas, with the thoughts of those whose index is among the thinkers moved from `text` to `thoughts`.

    Where thoughts were cut, the last delta says so: what follows was not thought to its end.
    """
    answered: set[int] = set()
    with closing(deltas):
        for delta in deltas:
            if delta.index not in thinkers:
                yield delta
                continue
            splitter, limit = thinkers[delta.index]
            if limit.may_go_on:
                splitter.expect_more()
            thoughts, answer = splitter.feed(delta.text)
            if delta.finish_reason is not None:
                last_thoughts, last_answer = splitter.flush()
                thoughts, answer = thoughts + last_thoughts, answer + last_answer
            if answer.strip():
                answered.add(delta.index)
            notes = (*delta.notes, *_late_notes(delta, limit, delta.index in answered))
            yield replace(delta, text=answer, thoughts=thoughts, notes=notes)


def _late_notes(delta: Delta, limit: ThoughtLimit, is_answered: bool) -> list[str]:
    if delta.finish_reason is None:
        return []
    notes = [] if limit.cut_after is None else [CUT_THOUGHTS.format(limit.cut_after, "s" * (limit.cut_after > 1))]
    if not is_answered and delta.finish_reason in ("length", "stop"):
        notes.append(NO_ROOM if delta.finish_reason == "length" else NO_ANSWER)
    return notes
