"""Text of an answer as it comes: held back while it could still become a stop string. No torch in here."""

from __future__ import annotations


class StopStrings:
    """Passes text on until one of the stop strings has been completed.

    The stop string that is complete first ends the text, and of two complete at the same character the longer; so the
    result does not depend on how the text was cut into pieces.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.is_hit = False

    def feed(self, text: str) -> str:
        """Take new text; returns what can be shown now. After a hit everything that follows is dropped."""
        if self.is_hit:
            return ""
        text = self._held + text
        hit = self._first_hit(text)
        if hit is not None:
            self.is_hit, self._held = True, ""
            return text[:hit]
        num_held = self._num_undecided(text)
        self._held = text[len(text) - num_held :]
        return text[: len(text) - num_held]

    def flush(self) -> str:
        """What was held back, once no more text will come."""
        held, self._held = self._held, ""
        return held

    def _first_hit(self, text: str) -> int | None:
        starts = ((text.find(stop), len(stop)) for stop in self._stops)
        hits = [(start + size, start) for start, size in starts if start >= 0]
        return min(hits)[1] if hits else None

    def _num_undecided(self, text: str) -> int:
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for size in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                return size
        return 0
