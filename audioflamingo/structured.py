"""Answers that keep to a JSON schema, or to a list of choices: at every token, what would break it is ruled out.

For schemas the grammar engine is llguidance (the extra `structured`), which follows one at about 50 microseconds a
token and reads the model's own tokenizer; choices need nothing. Shapes: V rows of the head, which may be more than the
vocabulary has tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audioflamingo.errors import FlamingoError, OptionError
from audioflamingo.tokenizer import Tokenizer
from audioflamingo.types import Delta, TokenRule

BITS_PER_WORD = 32
_COMPACT = {"whitespace_flexible": False}  # a small model may otherwise write blanks for ever


Constraint = str | tuple[str, ...]
"""The text of a JSON schema, or the texts of which the answer is one."""


class SchemaError(FlamingoError):
    """An answer ended before its schema was met, or before it was one of the choices."""


class Structured:
    """Constraints for one model's tokenizer; what is costly to prepare is prepared once."""

    def __init__(self, tokenizer: Tokenizer, num_logits: int) -> None:
        """Take a tokenizer and V; nothing is prepared before the first schema."""
        self._tokenizer = tokenizer
        self._num_logits = num_logits
        self._grammar = lru_cache(maxsize=64)(self._compiled)

    def rule(self, constraint: Constraint) -> Callable[[], TokenRule]:
        """A rule for `Sampling.rule` that lets only JSON of a schema or one of the choices pass, and then the end.

        Raises:
            OptionError: a schema is not valid or not supported, or llguidance is not installed.
        """
        if isinstance(constraint, tuple):
            paths = [tuple(self._tokenizer.encode_plain(choice)) for choice in constraint]
            return lambda: _ChoiceRule(paths, self._tokenizer.eos_ids)
        grammar = self._grammar(constraint)
        return lambda: _SchemaRule(self._matcher(grammar), self._num_logits, self._tokenizer.eos_ids)

    def check(self, text: str, constraint: Constraint) -> str:
        """The same text, if it is complete JSON of the schema, or one of the choices.

        Raises:
            SchemaError: it is not; says how to give it room.
        """
        shown = text if len(text) <= 60 else f"{text[:57]}..."
        if isinstance(constraint, tuple):
            if text not in constraint:
                raise SchemaError(
                    f"the answer ended at {shown!r}, before a choice; raise max_new_tokens, or remove stop"
                )
            return text
        matcher = self._matcher(self._grammar(constraint))
        ids = self._tokenizer.encode_plain(text)
        if matcher.try_consume_tokens(ids) < len(ids) or not matcher.is_accepting():
            raise SchemaError(
                f"the answer ended before its schema was met, at {shown!r}; raise max_new_tokens, bound the schema's "
                "strings and lists (maxLength, maxItems), or remove stop"
            )
        return text

    def checked(self, deltas: Iterable[Delta], constraint: Constraint) -> Iterator[Delta]:
        """The same deltas of one answer; an answer that ends incomplete raises instead of its last delta."""
        text = ""
        for delta in deltas:
            text += delta.text
            if delta.finish_reason is not None:
                self.check(text, constraint)
            yield delta

    def _compiled(self, schema: str) -> str:
        matcher_class = _llguidance().LLMatcher
        try:
            grammar: str = matcher_class.grammar_from_json_schema(schema, defaults=_COMPACT)
        except ValueError as error:
            raise OptionError(f"schema cannot be used: {_line(error)}") from error
        problem = matcher_class.validate_grammar(grammar, self._llguidance_tokenizer)
        if problem:
            raise OptionError(f"schema cannot be used: {_line(problem)}")
        return grammar

    def _matcher(self, grammar: str) -> Any:
        matcher = _llguidance().LLMatcher(self._llguidance_tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise OptionError(f"schema cannot be used: {_line(matcher.get_error())}")
        return matcher

    @cached_property
    def _llguidance_tokenizer(self) -> Any:
        return _llguidance().LLTokenizer(
            self._tokenizer.to_json(), n_vocab=self._num_logits, eos_token=list(self._tokenizer.eos_ids)
        )


class _SchemaRule:
    """See `TokenRule`."""

    def __init__(self, matcher: Any, num_logits: int, eos_ids: tuple[int, ...]) -> None:
        self._matcher = matcher
        self._eos_ids = eos_ids
        self._words = np.zeros((1, -(-num_logits // BITS_PER_WORD)), dtype=np.int32)
        self._num_logits = num_logits
        self._is_over = False

    def restrict(self, scores: Tensor) -> Tensor:
        from llguidance.numpy import fill_next_token_bitmask

        if self._is_over or self._matcher.is_stopped():
            return _only(scores, self._eos_ids)
        self._words[:] = 0
        fill_next_token_bitmask(self._matcher, self._words)
        refused = np.unpackbits(np.invert(self._words).view(np.uint8), bitorder="little")[: self._num_logits]
        return scores.masked_fill(torch.from_numpy(refused.view(bool)).to(scores.device), -torch.inf)

    def accept(self, token: int) -> None:
        if token in self._eos_ids or self._matcher.is_stopped():
            self._is_over = True
        elif not self._matcher.consume_token(token):
            raise SchemaError(f"token {token} does not keep to the schema: {_line(self._matcher.get_error())}")


class _ChoiceRule:
    """See `TokenRule`; follows the choices' tokens side by side."""

    def __init__(self, paths: Sequence[tuple[int, ...]], eos_ids: tuple[int, ...]) -> None:
        self._paths = list(paths)
        self._eos_ids = eos_ids
        self._place = 0

    def restrict(self, scores: Tensor) -> Tensor:
        allowed = {path[self._place] for path in self._paths if len(path) > self._place}
        ends = self._eos_ids if any(len(path) == self._place for path in self._paths) else ()
        return _only(scores, (*sorted(allowed), *ends))

    def accept(self, token: int) -> None:
        place = self._place
        if token in self._eos_ids:
            self._paths = [()]  # over: only the end may come, whatever is asked after it
            self._place = 0
            return
        self._paths = [path for path in self._paths if len(path) > place and path[place] == token]
        self._place += 1


def parse_answer(text: str, schema: Any) -> Any:
    """The answer as an object: an instance where the schema is a pydantic class, else what JSON gives.

    Raises:
        SchemaError: the class's own checks refuse it.
    """
    if not hasattr(schema, "model_validate_json"):
        return json.loads(text)
    try:
        return schema.model_validate_json(text)
    except ValueError as error:
        raise SchemaError(f"{schema.__name__} refuses the answer: {_line(error)}") from error


def _only(scores: Tensor, tokens: tuple[int, ...]) -> Tensor:
    kept = torch.full_like(scores, -torch.inf)
    index = torch.tensor(tokens, device=scores.device)
    kept[index] = scores[index]
    return kept


def _llguidance() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise OptionError(
            "schema needs the package llguidance, which is not installed: pip install 'audioflamingo[structured]'"
        ) from error
    return llguidance


def _line(error: object) -> str:
    return " ".join(str(error).split())[:200]
