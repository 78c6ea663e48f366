"""How far long work has come, and how long it will still take, as a bar; only where a person watches."""

from __future__ import annotations

import time

from audioflamingo.cli.output import show_progress
from audioflamingo.engine.request import clock

BAR_CHARS = 24


class Pace:
    """Progress through a sound; what was done before it began does not count into its speed."""

    def __init__(self, all_s: float) -> None:
        """Begin now.

        Args:
            all_s: how long the sound is.
        """
        self._all_s = all_s
        self._first: tuple[float, float] | None = None
        show_progress(f"listening to {clock(all_s)}")

    def show(self, done_s: float, all_s: float) -> None:
        """Tell how much of the sound is done."""
        now_s = time.monotonic()
        if self._first is None:
            self._first = (done_s, now_s)
        show_progress(self.line(done_s, now_s))

    def line(self, done_s: float, now_s: float) -> str:
        """The bar and what stands behind it; the time that is left is told once two steps show the speed."""
        share = min(1.0, done_s / self._all_s)
        bar = "#" * round(BAR_CHARS * share)
        left = ""
        if self._first is not None and done_s > self._first[0]:
            seconds_each = (now_s - self._first[1]) / (done_s - self._first[0])
            left = f", {clock(seconds_each * (self._all_s - done_s))} left"
        return f"[{bar:.<{BAR_CHARS}}] {share:.0%}  {clock(done_s)} of {clock(self._all_s)}{left}"
