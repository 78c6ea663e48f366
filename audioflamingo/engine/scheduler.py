"""Which sequences run next: first come, first served, within limits of rows and positions. No torch in here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from audioflamingo.engine.sequence import Sequence


@dataclass(frozen=True)
class Limits:
    """What the engine holds at once.

    Attributes:
        max_sequences: rows of one batch.
        max_cache_tokens: positions of the padded KV cache, rows times the longest row; about 15 GB for the 8 B model.
        prefill_tokens: prompt tokens that one prefill runs together; a longer prompt runs alone.
        encoder_windows: windows that the encoder runs together.
    """

    max_sequences: int = 64
    max_cache_tokens: int = 64 * 4096
    prefill_tokens: int = 16_384
    encoder_windows: int = 8


class Scheduler:
    """A queue of waiting sequences and the list of running ones, whose order is that of the cache's rows."""

    def __init__(self, sequences: Iterable[Sequence], limits: Limits) -> None:
        self.waiting = deque(sequences)
        self.running: list[Sequence] = []
        self._limits = limits

    @property
    def has_work(self) -> bool:
        """Whether anything still waits or runs."""
        return bool(self.waiting or self.running)

    def admit(self) -> list[Sequence]:
        """Move to `running`, and return, the waiting sequences that are to be prefilled together now."""
        admitted: list[Sequence] = []
        while self.waiting and self._fits(self.waiting[0], admitted):
            sequence = self.waiting.popleft()
            admitted.append(sequence)
            self.running.append(sequence)
        return admitted

    def retire(self) -> list[int]:
        """Drop finished sequences; returns the rows that stay, in order."""
        kept = [row for row, sequence in enumerate(self.running) if not sequence.is_finished]
        self.running = [self.running[row] for row in kept]
        return kept

    def _fits(self, sequence: Sequence, admitted: list[Sequence]) -> bool:
        if not self.running:  # one alone always runs, however long
            return True
        num_rows = len(self.running) + 1
        longest = max(other.max_tokens for other in (*self.running, sequence))
        prefill = sum(other.num_prompt_tokens for other in (*admitted, sequence))
        return (
            num_rows <= self._limits.max_sequences
            and num_rows * longest <= self._limits.max_cache_tokens
            and (not admitted or prefill <= self._limits.prefill_tokens)
        )
