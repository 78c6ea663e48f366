"""The wire: connections at `/v1/realtime`, who may open one, what is read from it and how fast, and its end."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from audioflamingo.server.realtime.bounds import Bounds
from audioflamingo.server.realtime.events import EventError, error_event, named
from audioflamingo.server.realtime.outgoing import Outgoing, TooSlowError
from audioflamingo.server.realtime.session import Session
from audioflamingo.server.worker import Worker

logger = logging.getLogger(__name__)

PATH = "/v1/realtime"
SUBPROTOCOL = "realtime"
KEY_SUBPROTOCOL = "openai-insecure-api-key."  # how a browser, which cannot send headers, brings its key
NORMAL, POLICY, TRY_LATER, FAILED = 1000, 1008, 1013, 1011  # codes of closing
READING_SHARE = 2.0  # answers wait at 1: who reads nothing is read no more, but may interrupt a full queue
LAST_WORDS_S = 5.0  # for the error that ends a session to reach its client


def routes(worker: Worker, bounds: Bounds | None = None) -> list[BaseRoute]:
    """The routes of real-time sessions, for Starlette.

    Args:
        worker: the model and its voice.
        bounds: of sessions.
    """
    return [WebSocketRoute(PATH, _Endpoint(worker, bounds or Bounds()).serve)]


class _Endpoint:
    def __init__(self, worker: Worker, bounds: Bounds) -> None:
        self._worker, self._bounds = worker, bounds
        self._num_sessions = 0

    async def serve(self, websocket: WebSocket) -> None:
        """One connection, from its opening to its end."""
        offered = websocket.scope.get("subprotocols", [])
        await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        refusal = self._refusal(websocket)
        if refusal is not None:
            code, name, message = refusal
            await _end(websocket, code, error_event(message, code=name))
            outcome = "busy" if code == TRY_LATER else "refused"
            self._worker.metrics.add("requests_total", endpoint=PATH, outcome=outcome)
            return
        self._num_sessions += 1
        outcome = "failed"
        try:
            outcome = await _Connection(websocket, self._worker, self._bounds).run()
        finally:
            self._num_sessions -= 1
            self._worker.metrics.add("requests_total", endpoint=PATH, outcome=outcome)

    def _refusal(self, websocket: WebSocket) -> tuple[int, str, str] | None:
        """Why a connection is not wanted: code of closing, name, and what the client is told."""
        limits, model = self._worker.limits, websocket.query_params.get("model")
        if limits.api_keys and not limits.is_known_key(_key_of(websocket)):
            return POLICY, "invalid_api_key", "a key of this server is needed: send Authorization: Bearer KEY"
        if not _is_own_page(websocket):
            return POLICY, "foreign_origin", "a page of another place may not use this server"
        if model not in (None, self._worker.name):
            return POLICY, "model_not_found", f"there is no model {model[:80]!r} here; allowed: {self._worker.name}"
        if self._worker.is_stopping:
            return TRY_LATER, "server_stopping", "the server is shutting down; come back later"
        if self._num_sessions >= self._bounds.max_sessions:
            return TRY_LATER, "too_many_sessions", f"all {self._num_sessions} sessions are taken; come back later"
        return None


class _Connection:
    """One session on its wire."""

    def __init__(self, websocket: WebSocket, worker: Worker, bounds: Bounds) -> None:
        self._websocket, self._bounds = websocket, bounds
        self._outgoing = Outgoing(websocket.send_text, bounds)
        self._session = Session(worker, self._outgoing, bounds)
        self._pace = _Pace(bounds.events_per_s)

    async def run(self) -> str:
        """Until either side ends it; whatever it had is freed then. Returns how it ended, for the metrics."""
        self._session.open()
        sender = asyncio.create_task(self._outgoing.run())
        reader = asyncio.create_task(self._read())
        try:
            done, _ = await asyncio.wait((sender, reader), return_when=asyncio.FIRST_COMPLETED)
            return await self._end(done)
        finally:
            self._session.close()
            for task in (sender, reader):
                task.cancel()
            await asyncio.gather(sender, reader, return_exceptions=True)

    async def _end(self, done: set[asyncio.Task[Any]]) -> str:
        """Tell the client why, where it is still there and the end is not its own."""
        error = next(iter(done)).exception()
        if isinstance(error, WebSocketDisconnect):
            return "ok"
        if isinstance(error, TimeoutError):
            said = f"nothing came for {self._bounds.idle_s:g} s, so the session ends"
            self._outgoing.put(named(error_event(said, code="session_idle"), "beta"))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._outgoing.flush(), LAST_WORDS_S)
            await _close(self._websocket, NORMAL)
            return "ok"
        is_slow = isinstance(error, TooSlowError)
        logger.warning("a session was ended: %s", error) if is_slow else logger.error("it failed", exc_info=error)
        await _close(self._websocket, POLICY if is_slow else FAILED, 0.5 if is_slow else LAST_WORDS_S)
        return "gone" if is_slow else "failed"

    async def _read(self) -> None:
        while True:
            message = await asyncio.wait_for(self._websocket.receive(), self._bounds.idle_s)
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", NORMAL))
            await self._handle(message.get("text"))
            await self._slow_down()
            await self._outgoing.room(READING_SHARE)

    async def _handle(self, text: str | None) -> None:
        """One message; whatever is wrong with it is told, and the session goes on."""
        values: Any = None
        try:
            values = _parsed(text, self._bounds.max_message_bytes)
            await self._session.handle(values)
        except EventError as error:
            self._tell(str(error), error.code, error.param, values)
        except Exception:
            logger.exception("an event of a session failed")
            said = "the server failed on this event; its log has why"
            self._tell(said, "internal_error", None, values, kind="server_error")

    async def _slow_down(self) -> None:
        wait_s, is_news = self._pace.next()
        if is_news:
            said = f"more than {self._bounds.events_per_s:g} events a second came; they are read no faster than that"
            self._tell(said, "rate_limit_exceeded", None, None)
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    def _tell(
        self, message: str, code: str, param: str | None, values: Any, *, kind: str = "invalid_request_error"
    ) -> None:
        about = values.get("event_id") if isinstance(values, dict) else None
        self._outgoing.put(named(error_event(message, code=code, param=param, about=about, kind=kind), "beta"))


class _Pace:
    """How long to wait before the next event is read: a second's worth may come at once."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._allowed = per_s
        self._time_s = time.monotonic()
        self._told_s = float("-inf")

    def next(self) -> tuple[float, bool]:
        """An event was read; returns the seconds to wait, and whether the client is to be told of it."""
        now_s = time.monotonic()
        self._allowed = min(self._per_s, self._allowed + (now_s - self._time_s) * self._per_s) - 1
        self._time_s = now_s
        if self._allowed >= 0:
            return 0.0, False
        is_news = now_s - self._told_s > 1.0
        self._told_s = now_s if is_news else self._told_s
        return -self._allowed / self._per_s, is_news


def _parsed(text: str | None, max_bytes: int) -> Any:
    if text is None:
        raise EventError("a binary message came; send events as JSON text, sound as base64 in them", "invalid_json")
    num_bytes = len(text.encode("utf-8", "surrogatepass"))
    if num_bytes > max_bytes:
        raise EventError(
            f"a message of {num_bytes:,} bytes came; allowed: {max_bytes:,}. Send sound in pieces", "message_too_large"
        )
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise EventError(f"the message is not JSON ({str(error)[:100]})", "invalid_json") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _key_of(websocket: WebSocket) -> str:
    kind, _, key = websocket.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return key.strip()
    offered = (one for one in websocket.scope.get("subprotocols", []) if one.startswith(KEY_SUBPROTOCOL))
    return str(next(offered, "")).removeprefix(KEY_SUBPROTOCOL)


def _is_own_page(websocket: WebSocket) -> bool:
    """Browsers let any page open a WebSocket to any server; the server has to look where the page is from."""
    origin = websocket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == websocket.headers.get("host", "").lower()


async def _end(websocket: WebSocket, code: int, event: dict[str, Any]) -> None:
    with suppress(RuntimeError, WebSocketDisconnect, OSError):
        await websocket.send_text(json.dumps(named(event, "beta")))
    await _close(websocket, code)


async def _close(websocket: WebSocket, code: int, timeout_s: float = LAST_WORDS_S) -> None:
    if websocket.application_state is WebSocketState.CONNECTED:
        with suppress(RuntimeError, WebSocketDisconnect, OSError):
            await asyncio.wait_for(websocket.close(code), timeout_s)
