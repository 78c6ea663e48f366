"""The application: routes, and what becomes of every error. Nothing stands between an answer and its client."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from audioflamingo.server import chat, realtime, speech, transcription, web
from audioflamingo.server.door import Door, no_route
from audioflamingo.server.errors import ApiError, ClientGoneError, as_api_error, refused
from audioflamingo.server.wire import drain, read_body, while_there
from audioflamingo.server.worker import Worker
from audioflamingo.version import __version__

_log = logging.getLogger(__name__)
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Handler = Callable[[Request, bytes], Awaitable[Response]]


def create_app(worker: Worker, *, hosts: tuple[str, ...] = ()) -> ASGIApp:
    """The server's application.

    Args:
        worker: the model; it is started with the application and closed with it.
        hosts: names under which browsers may reach the server; none checks nothing.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await worker.start()
        yield
        await worker.close()

    routes = [
        Route("/health", _health(worker)),
        Route("/metrics", _metrics(worker)),
        Route("/v1/models", _models(worker)),
        Route("/v1/models/{name:path}", _model(worker)),
        Endpoint.route("/v1/chat/completions", worker, lambda _, body: chat.complete(worker, body), is_json=True),
        Endpoint.route("/v1/audio/speech", worker, lambda _, body: speech.speak(worker, body), is_json=True),
        Endpoint.route(
            "/v1/audio/transcriptions",
            worker,
            lambda request, body: transcription.transcribe(worker, request, body),
        ),
        *realtime.routes(worker),
        *web.routes(),
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: no_route})
    return Door(app, worker, hosts)


class Endpoint:
    """One of the endpoints that do work: a place in the row, a body within bounds, an end when the client leaves."""

    def __init__(self, worker: Worker, handler: Handler, is_json: bool) -> None:
        self._worker, self._handler, self._is_json = worker, handler, is_json

    @classmethod
    def route(cls, path: str, worker: Worker, handler: Handler, *, is_json: bool = False) -> Route:
        """The endpoint at its path."""
        return Route(path, cls(worker, handler, is_json), methods=["POST"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        worker, path = self._worker, scope["path"]
        outcome, begun_s, first_s = "ok", time.perf_counter(), None

        async def sending(message: Message) -> None:
            nonlocal first_s
            first_s = time.perf_counter() if first_s is None else first_s
            await send(message)

        try:
            await self._answer(scope, receive, sending)
        except ClientGoneError:
            outcome = "gone"
        except Exception as error:
            told = as_api_error(error)
            outcome = {True: "failed", False: "refused"}[told.status >= 500]
            outcome = "busy" if told.status == 503 else outcome
            if told.status == 500:
                _log.exception("%s failed", path)
            if first_s is None:
                await _tell(told, scope, receive, sending)
        finally:
            worker.metrics.add("requests_total", endpoint=path, outcome=outcome)
            _log.info("%s %s %s %.0f ms", scope["method"], path, outcome, 1e3 * (time.perf_counter() - begun_s))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        worker = self._worker
        request = Request(scope, receive)
        async with worker.places.waiting(), worker.places.body() as share:
            if self._is_json:
                _check_json(request)
            body = await read_body(request, worker.limits, share)
            response = await while_there(request, self._handler(request, body))
            del body
            await response(scope, receive, send)


def _check_json(request: Request) -> None:
    """Refuse what a page elsewhere could make a browser send unasked: forms and plain text.

    Raises:
        ApiError: the body is not said to be JSON.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise refused(f"the content-type is {kind[:80] or 'not stated'}; send application/json", code="invalid_type")


async def _tell(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    """Send an error's body; what is left of the request's is taken before the connection is closed."""
    response = JSONResponse(error.body, error.status, {**error.headers, "connection": "close"})
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    if error.status in (408, 413, 503):
        await drain(receive)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _health(worker: Worker) -> Callable[[Request], Awaitable[Response]]:
    async def health(_: Request) -> Response:
        status = "stopping" if worker.is_stopping else "ok"
        return JSONResponse({"status": status, "model": worker.name, "version": __version__})

    return health


def _metrics(worker: Worker) -> Callable[[Request], Awaitable[Response]]:
    async def metrics(_: Request) -> Response:
        return PlainTextResponse(worker.metrics.text(worker.gauges()), media_type=METRICS_TYPE)

    return metrics


def _models(worker: Worker) -> Callable[[Request], Awaitable[Response]]:
    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [worker.card]})

    return models


def _model(worker: Worker) -> Callable[[Request], Awaitable[Response]]:
    async def model(request: Request) -> Response:
        if request.path_params["name"] != worker.name:
            error = ApiError(f"there is no such model here; allowed: {worker.name}", status=404, code="model_not_found")
            return JSONResponse(error.body, error.status)
        return JSONResponse(worker.card)

    return model
