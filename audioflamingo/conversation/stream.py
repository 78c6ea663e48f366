"""An answer as it comes."""

from __future__ import annotations

from collections.abc import Iterator

from audioflamingo.types import Delta


class Stream(Iterator[Delta]):
    """An answer as it comes. Closing it stops the work; it is closed at the end of a `with` block.

    Attributes:
        notes: what was done to the request that its author should know of, such as a truncation.
    """

    def __init__(self, deltas: Iterator[Delta], notes: tuple[str, ...]) -> None:
        self._deltas = deltas
        self.notes = notes

    def __next__(self) -> Delta:
        return next(self._deltas)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the work and free its memory."""
        close = getattr(self._deltas, "close", None)
        if close is not None:
            close()
