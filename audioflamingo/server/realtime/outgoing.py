"""Events on their way to one client: in order, bounded, and without those of an answer that was cancelled."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable

from audioflamingo.server.realtime.bounds import Bounds
from audioflamingo.server.realtime.events import Event


class TooSlowError(Exception):
    """The client does not take what is sent to it."""


class Outgoing:
    """A queue that one task empties; the others put and go on. All on one event loop.

    Args:
        send: to the client; waits until the connection has room.
        bounds: of what may wait, and how long.
    """

    def __init__(self, send: Callable[[str], Awaitable[None]], bounds: Bounds) -> None:
        self._send, self._bounds = send, bounds
        self._waiting: deque[tuple[str, str | None]] = deque()
        self._num_bytes = 0
        self._changed = asyncio.Event()

    def put(self, event: Event, part_of: str | None = None) -> None:
        """Queue an event; `part_of` names the response that it can be dropped with."""
        text = json.dumps(event, separators=(",", ":"))  # ASCII: half a surrogate pair that a client sent goes back
        self._waiting.append((text, part_of))
        self._num_bytes += len(text)
        self._changed.set()

    def drop(self, part_of: str) -> None:
        """Forget what waits of a response."""
        self._waiting = deque(one for one in self._waiting if one[1] != part_of)
        self._num_bytes = sum(len(text) for text, _ in self._waiting)
        self._changed.set()

    async def room(self, share: float = 1.0) -> None:
        """Wait until no more is unsent than this share of what may be."""
        while self._num_bytes > share * self._bounds.max_unsent_bytes:
            self._changed.clear()
            await self._changed.wait()

    async def flush(self) -> None:
        """Wait until all is sent."""
        while self._waiting:
            self._changed.clear()
            await self._changed.wait()

    async def run(self) -> None:
        """Send what comes, for ever.

        Raises:
            TooSlowError: the client takes nothing for too long.
        """
        while True:
            while not self._waiting:
                self._changed.clear()
                await self._changed.wait()
            text, _ = self._waiting[0]
            try:
                await asyncio.wait_for(self._send(text), self._bounds.send_s)
            except TimeoutError as error:
                raise TooSlowError(f"the client took no data for {self._bounds.send_s:g} s") from error
            self._sent(text)

    def _sent(self, text: str) -> None:
        if self._waiting and self._waiting[0][0] is text:
            self._waiting.popleft()
            self._num_bytes -= len(text)
        self._changed.set()
