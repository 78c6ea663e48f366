"""What all endpoints share on the wire: bodies within bounds, work that ends when its client leaves, events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from audioflamingo.server.errors import ApiError, ClientGoneError, as_api_error
from audioflamingo.server.limits import MIB, ServerLimits
from audioflamingo.server.places import BodyBytes

_T = TypeVar("_T")
DRAINED_BYTES = 64 * MIB  # of a body that is refused: who still sends would not read the answer
DRAINED_S = 2.0
DONE = b"data: [DONE]\n\n"


async def read_body(request: Request, limits: ServerLimits, share: BodyBytes) -> bytes:
    """A request's body.

    Raises:
        ApiError: it is too large or comes too slowly.
        ClientGoneError: the client left while it came.
    """
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > limits.max_body_bytes:
        raise _too_large(limits)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.max_body_s):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                piece = message.get("body", b"")
                if len(body) + len(piece) > limits.max_body_bytes:
                    raise _too_large(limits)
                share.take(len(piece))
                body += piece
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError as error:
        raise ApiError(
            f"the body did not come within {limits.max_body_s:g} s; send it faster, or a smaller one", status=408
        ) from error


def _too_large(limits: ServerLimits) -> ApiError:
    return ApiError(
        f"the body has more than {limits.max_body_bytes / MIB:g} MiB, which is all that this server takes "
        "(--max-body-mb); send shorter sounds, or compressed ones such as FLAC",
        status=413,
        code="body_too_large",
    )


async def while_there(request: Request, work: Awaitable[_T]) -> _T:
    """Do work whose result only this client wants: it is cancelled when the client leaves.

    Raises:
        ClientGoneError: the client left.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(gone(request.receive))
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGoneError
    finally:
        await _ended(task, watcher)


async def gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _ended(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(BaseException):
            await task


class StreamedResponse(Response):
    """A body that is sent as it is made; its source is closed when the client leaves or reads nothing for too long."""

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        media_type: str,
        *,
        max_stall_s: float,
        on_error: Callable[[ApiError], bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Take what makes the body; nothing is asked of it yet.

        Args:
            pieces: the body, an async generator.
            media_type: of the body.
            max_stall_s: for which the client may take nothing.
            on_error: what is sent where the body fails midway; without it, the connection is cut.
            headers: further ones.
        """
        self._pieces, self._max_stall_s, self._on_error = pieces, max_stall_s, on_error
        self.status_code, self.media_type, self.background = 200, media_type, None
        self.init_headers({"cache-control": "no-store", "x-accel-buffering": "no", **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it.

        Raises:
            ClientGoneError: the client left or stopped reading.
            ApiError: the body failed; where `on_error` says how, the client was told.
        """
        sending = asyncio.ensure_future(self._send_all(send))
        watcher = asyncio.ensure_future(gone(receive))
        try:
            await asyncio.wait((sending, watcher), return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                raise ClientGoneError
            sending.result()
        finally:
            await _ended(sending, watcher)
            await self._pieces.aclose()

    async def _send_all(self, send: Send) -> None:
        async def put(message: dict[str, Any]) -> None:
            try:
                async with asyncio.timeout(self._max_stall_s):
                    await send(message)
            except TimeoutError as error:
                raise ClientGoneError from error

        await put({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        failure: ApiError | None = None
        async with aclosing(self._pieces) as pieces:
            try:
                async for piece in pieces:
                    await put({"type": "http.response.body", "body": piece, "more_body": True})
            except ClientGoneError:
                raise
            except Exception as error:
                failure = as_api_error(error)
                if self._on_error is None:
                    raise failure from error
                await put({"type": "http.response.body", "body": self._on_error(failure), "more_body": True})
        await put({"type": "http.response.body", "body": b"", "more_body": False})
        if failure is not None:
            raise failure


def event(values: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def error_event(error: ApiError) -> bytes:
    """The event that ends a stream which fails midway."""
    return event(error.body)


def streamed_events(pieces: AsyncGenerator[bytes, None], limits: ServerLimits) -> StreamedResponse:
    """A response of server-sent events."""
    return StreamedResponse(pieces, "text/event-stream", max_stall_s=limits.max_stall_s, on_error=error_event)


async def begun(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The same pieces, once the first one is there: what goes wrong until then still has a status of its own."""
    try:
        first = await anext(pieces)
    except BaseException:
        await pieces.aclose()
        raise
    return _chained(first, pieces)


async def _chained(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


async def drain(receive: Receive) -> None:
    """Take the rest of a body that is not wanted, for a moment: a client that still sends may not hear the refusal."""
    num_bytes = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAINED_S):
            while num_bytes < DRAINED_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                num_bytes += len(message.get("body", b""))
