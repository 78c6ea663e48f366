"""The part of a loaded model that says how likely it finds given answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from audioflamingo.engine.engine import Engine
from audioflamingo.engine.likelihood import log_likelihoods
from audioflamingo.engine.options import Options
from audioflamingo.engine.request import Request
from audioflamingo.errors import OptionError, PromptError
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.tokenizer import Tokenizer
from audioflamingo.types import Message

ANSWERS_AT_ONCE = 32


@dataclass(frozen=True)
class Score:
    """How likely one answer is.

    Attributes:
        text: of the answer.
        log_likelihood: natural logarithm of the probability of all its tokens, the end of the answer among them.
        token_ids: those tokens.
        token_log_likelihoods: of each, given those before it.
    """

    text: str
    log_likelihood: float
    token_ids: tuple[int, ...]
    token_log_likelihoods: tuple[float, ...]

    @property
    def mean(self) -> float:
        """A token's logarithm on average: long answers are not less likely for their length alone."""
        return self.log_likelihood / len(self.token_ids)


class ScoringModel:
    """What a model inherits that can prepare a conversation."""

    model: Flamingo
    tokenizer: Tokenizer
    engine: Engine
    defaults: Options

    def score(
        self, conversation: str | Message | Mapping[str, Any] | Sequence[Any], answers: Sequence[str], **options: Any
    ) -> list[Score]:
        """How likely each of some answers to a conversation's last message is, whether the model would give it or not.

        Args:
            conversation: in a form that `stream` takes.
            answers: at least one.
            options: of prompts, see `Options`; those that choose tokens say nothing here.

        Raises:
            FlamingoError: a sound, the conversation or an option is not usable, or an answer does not fit.
        """
        if isinstance(answers, str) or not answers or not all(isinstance(one, str) for one in answers):
            raise OptionError("answers has to be a list of at least one text")
        chosen = self.defaults.updated(options)
        if chosen.think or chosen.constraint:
            raise OptionError("score takes neither think nor schema nor choices: it takes answers as they are")
        max_positions = self.model.config.decoder.max_positions
        request: Request = cast("Any", self)._request(conversation, chosen, max_positions)
        parts = request.parts
        if len(parts) > 1:
            raise OptionError("score hears one sound at once, but long_audio='split' gives several; score each part")
        prompt = parts[0].prompt
        ids = [(*self.tokenizer.encode_plain(one), self.tokenizer.im_end) for one in answers]
        longest = max(map(len, ids))
        if prompt.num_tokens + longest > max_positions:
            raise PromptError(
                f"prompt and answer take {prompt.num_tokens + longest:,} positions, this model has {max_positions:,}; "
                "give fewer or shorter sounds, or shorter answers"
            )
        found = log_likelihoods(
            self.model, prompt, ids, windows_at_once=self.engine.limits.encoder_windows, rows_at_once=ANSWERS_AT_ONCE
        )
        return [
            Score(text, sum(each), tuple(tokens), tuple(each))
            for text, tokens, each in zip(answers, ids, found, strict=True)
        ]
