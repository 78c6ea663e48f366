"""One answer as its tokens come: its text, and what ends it."""

from __future__ import annotations

from audioflamingo.engine.sequence import Sequence
from audioflamingo.engine.text import StopStrings
from audioflamingo.tokenizer import Incremental, Tokenizer
from audioflamingo.types import Delta, FinishReason


class Answer:
    """Takes the tokens of one sequence to whole characters, and those past its stop strings."""

    def __init__(self, tokenizer: Tokenizer, sequence: Sequence) -> None:
        self._sequence = sequence
        self._eos_ids = tokenizer.eos_ids
        self._incremental = Incremental(tokenizer)
        self._stops = StopStrings(sequence.sampling.stop)

    def accept(self, token: int) -> Delta:
        """Append a token to the sequence, decide whether that ends it, and take its text."""
        sequence = self._sequence
        sequence.generated.append(token)
        is_end = token in self._eos_ids
        text = "" if is_end else self._stops.feed(self._incremental.push((token,)))
        sequence.finish_reason = self._finish_reason(is_end)
        if sequence.is_finished:
            text += self._stops.feed(self._incremental.flush()) + self._stops.flush()
            if self._stops.is_hit:  # the flush itself may have completed one
                sequence.finish_reason = "stop_string"
        return sequence.delta(text, num_new_tokens=1)

    def _finish_reason(self, is_end: bool) -> FinishReason | None:
        if self._stops.is_hit:
            return "stop_string"
        if is_end:
            return "stop"
        return "length" if self._sequence.num_tokens >= self._sequence.max_tokens else None
