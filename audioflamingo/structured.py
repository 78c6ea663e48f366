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

from audioflamingo.engine.schema_limits import limited
from audioflamingo.errors import FlamingoError, OptionError
from audioflamingo.tokenizer import Tokenizer
from audioflamingo.types import Delta, TokenRule

BITS_PER_WORD = 32
NEAR_TOKENS = 64
"""How far from the end of its room an answer is looked at before every token."""
SPARE_TOKENS = 4
MAX_ENDING_TOKENS = 512
NUM_LIKELY = 4
"""There, of how many tokens each is looked at; others do not come."""
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

    def rule(self, constraint: Constraint, max_tokens: int | None = None) -> Callable[[], TokenRule]:
        """A rule for `Sampling.rule` that lets only JSON of a schema or one of the choices pass, and then the end.

        Args:
            constraint: the schema or the choices.
            max_tokens: room for the answer; shortly before it is used up, JSON is led to its nearest end.

        Raises:
            OptionError: a schema is not valid or not supported, or llguidance is not installed.
        """
        if isinstance(constraint, tuple):
            paths = [tuple(self._tokenizer.encode_plain(choice)) for choice in constraint]
            return lambda: _ChoiceRule(paths, self._tokenizer.eos_ids)
        grammar = self._grammar(constraint)
        return lambda: _SchemaRule(self._matcher(grammar), self._num_logits, self._tokenizer, max_tokens)

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
        # Not by our own tokenizer: its NFC makes two characters of some, and then a string may be too long.
        ids = self._llguidance_tokenizer.greedy_tokenize(text)
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
        """The grammar of a schema with limits, or of the schema as it is where the two do not go together."""
        try:
            return self._compiled_as_it_is(limited(schema))
        except OptionError:
            return self._compiled_as_it_is(schema)

    def _compiled_as_it_is(self, schema: str) -> str:
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
    """See `TokenRule`.

    While there is room, the model chooses among all that the schema allows. Before that room is used up the length of
    the nearest end is measured on a copy of the grammar's state, and once the model's next token would put that end out
    of reach, only what leads there is let through.
    """

    def __init__(self, matcher: Any, num_logits: int, tokenizer: Tokenizer, max_tokens: int | None) -> None:
        self._matcher = matcher
        self._eos_ids = tokenizer.eos_ids
        self._words = np.zeros(-(-num_logits // BITS_PER_WORD), dtype=np.int32)
        self._address = self._words.ctypes.data  # asked for at every token it would cost as much as the mask
        self._refused = np.empty(num_logits, dtype=np.bool_)
        self._refused_tensor = torch.from_numpy(self._refused)
        self._left = max_tokens
        self._ends = _Ends(tokenizer)
        self._num_unwatched = 0
        self._is_ending = False
        self._is_over = False

    def restrict(self, scores: Tensor) -> Tensor:
        if self._is_over or self._matcher.is_stopped():
            return _only(scores, self._eos_ids)
        self._fill(self._matcher)
        np.logical_not(self._allowed(), out=self._refused)
        scores = scores.masked_fill(self._refused_tensor.to(scores.device), -torch.inf)
        if self._left is not None and not self._is_ending:
            scores = self._watched(scores, self._left)
        if self._is_ending:
            self._fill(self._matcher)  # the copies that were looked at have used the same memory
            token = self._ends.next_token(self._may_come, self._matcher.is_accepting())
            return scores if token is None else _only(scores, (token,))
        return scores

    def accept(self, token: int) -> None:
        if self._left is not None:
            self._left -= 1
        if token in self._eos_ids or self._matcher.is_stopped():
            self._is_over = True
        elif not self._matcher.consume_token(token):
            raise SchemaError(f"token {token} does not keep to the schema: {_line(self._matcher.get_error())}")

    def _watched(self, scores: Tensor, left: int) -> Tensor:
        """The scores, near the end only of likely tokens behind which the nearest end is still within reach."""
        if self._num_unwatched > 0:
            self._num_unwatched -= 1
            return scores
        room = left - SPARE_TOKENS
        spare = room - self._num_to_end(None)
        if spare > NEAR_TOKENS:
            self._num_unwatched = (spare - NEAR_TOKENS) // 2
            return scores
        kept = [token for token in self._likely(scores) if self._num_to_end(token) < room] if spare > 0 else []
        self._is_ending = not kept
        return _only(scores, tuple(kept)) if kept else scores

    def _likely(self, scores: Tensor) -> list[int]:
        best = scores.topk(min(NUM_LIKELY, len(scores)))
        return [token for token, score in zip(best.indices.tolist(), best.values.tolist(), strict=True)
                if score > -torch.inf]  # fmt: skip

    def _num_to_end(self, first: int | None) -> int:
        """Tokens of the nearest end, behind the given token; 0 where none is found or the token is the end."""
        matcher = self._matcher.deep_copy()
        if first is not None and (first in self._eos_ids or not matcher.consume_token(first)):
            return 0
        for num_tokens in range(MAX_ENDING_TOKENS):
            if matcher.is_stopped() or matcher.is_accepting():
                return num_tokens
            self._fill(matcher)
            token = self._ends.next_token(self._may_come, False)
            if token is None:
                token = int(self._allowed().argmax())
            if not self._may_come(token) or not matcher.consume_token(token):
                return 0
        return 0

    def _fill(self, matcher: Any) -> None:
        """Note which tokens may come."""
        self._words.fill(0)
        matcher.unsafe_compute_mask_ptr(self._address, self._words.nbytes)  # what llguidance.numpy calls in the end

    def _may_come(self, token: int) -> bool:
        return bool(self._words[token // BITS_PER_WORD] >> (token % BITS_PER_WORD) & 1)

    def _allowed(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(V,) whether each token may come."""
        return np.unpackbits(self._words.view(np.uint8), count=len(self._refused), bitorder="little").view(bool)


class _Ends:
    """The tokens by which JSON comes to its nearest end."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._eos_ids = tokenizer.eos_ids
        self._ids = {mark: tokenizer.encode_plain(mark)[0] for mark in ('"', "]", "}", ",", ":", "0")}

    def next_token(self, may_come: Callable[[int], bool], is_complete: bool) -> int | None:
        """The next one, or None where the model may choose: within keys, enumerated texts and words."""
        if is_complete:
            return next((token for token in self._eos_ids if may_come(token)), None)
        is_open = {mark: may_come(token) for mark, token in self._ids.items()}
        if is_open["]"] and is_open["}"]:  # both are content: this is within a string
            return self._ids['"'] if is_open['"'] else None
        return next((self._ids[mark] for mark in ("}", "]", '"', ",", ":", "0") if is_open[mark]), None)


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
