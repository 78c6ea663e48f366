"""Who may be worked on now, who waits, and who is told to come back later. Used on the event loop alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from audioflamingo.server.errors import busy, stopping
from audioflamingo.server.limits import ServerLimits


class Places:
    """First come, first served, in bounded numbers."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._running = asyncio.Semaphore(limits.max_running)
        self.num_running = 0
        self.num_waiting = 0
        self.num_body_bytes = 0
        self.is_closed = False

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """A place in the row, from before a request's body is read until it was answered.

        Raises:
            ApiError: the row is full, or the server stops.
        """
        if self.is_closed:
            raise stopping()
        limits = self._limits
        if self.num_waiting + self.num_running >= limits.max_running + limits.max_waiting:
            raise busy(
                f"{self.num_running} requests run and {self.num_waiting} wait, which is all that this server takes "
                "(--max-waiting); send it again in a moment"
            )
        self.num_waiting += 1
        try:
            yield
        finally:
            self.num_waiting -= 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """A turn to be worked on; waits for it. Entered within `waiting`, of which it takes this one out meanwhile."""
        try:
            async with asyncio.timeout(self._limits.max_request_s):
                await self._running.acquire()
        except TimeoutError as error:
            raise busy(f"no turn came within {self._limits.max_request_s:g} s; send it again later") from error
        if self.is_closed:
            self._running.release()
            raise stopping()
        self.num_waiting -= 1
        self.num_running += 1
        try:
            yield
        finally:
            self.num_running -= 1
            self.num_waiting += 1
            self._running.release()

    @asynccontextmanager
    async def body(self) -> AsyncIterator[BodyBytes]:
        """A share of the memory for bodies, given back at the end."""
        share = BodyBytes(self, self._limits.max_bodies_bytes)
        try:
            yield share
        finally:
            self.num_body_bytes -= share.num_bytes


class BodyBytes:
    """Bytes of one request that are held."""

    def __init__(self, places: Places, most: int) -> None:
        self._places, self._most = places, most
        self.num_bytes = 0

    def take(self, num_bytes: int) -> None:
        """Hold some more.

        Raises:
            ApiError: all requests together hold too many.
        """
        if self._places.num_body_bytes + num_bytes > self._most:
            raise busy("requests with too many bytes are being read at once; send it again in a moment")
        self._places.num_body_bytes += num_bytes
        self.num_bytes += num_bytes
