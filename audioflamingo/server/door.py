"""Who may come in: keys, and pages of other places that use a visitor's browser to reach a server of his own."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from audioflamingo.server.errors import ApiError
from audioflamingo.server.worker import Worker

KEYED = ("/v1/", "/metrics")


class Door:
    """Checks every request before the application sees it, and gives all errors one form."""

    def __init__(self, app: ASGIApp, worker: Worker, hosts: tuple[str, ...] = ()) -> None:
        self._app, self._worker, self._hosts = app, worker, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in or refuse."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            headers = Headers(scope=scope)
            self._check_host(headers)
            if scope["type"] == "http":  # a WebSocket's key and origin are checked where its client can be told
                self._check_caller(scope["path"], headers)
        except ApiError as error:
            await _refuse(error, scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        """Refuse a name that is not ours: some other place's name that was made to mean this machine."""
        name = _name(headers.get("host", ""))
        if self._hosts and name not in self._hosts:
            raise ApiError(f"this server is not called {name[:80]!r}; allowed: {', '.join(self._hosts)}", status=403)

    def _check_caller(self, path: str, headers: Headers) -> None:
        origin, limits = headers.get("origin"), self._worker.limits
        if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
            raise ApiError("a page of another place may not use this server", status=403, code="foreign_origin")
        if not limits.api_keys or not path.startswith(KEYED):
            return
        kind, _, key = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            raise ApiError("no API key came; send it as Authorization: Bearer KEY", status=401, code="no_api_key")
        if not limits.is_known_key(key.strip()):
            raise ApiError("the API key is not known here; check it", status=401, code="invalid_api_key")


async def _refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": str(error)[:100]})
        return
    await JSONResponse(error.body, error.status, error.headers)(scope, receive, send)


def _name(host: str) -> str:
    """A host's name without its port, in lower case."""
    name = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    return name.lower()


async def no_route(request: Request, error: Exception) -> Response:
    """What no route takes, in our form of errors instead of the framework's."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    known = {
        404: "there is no such address here; GET /v1/models works",
        405: f"{request.method} is not for this address; allowed: {headers.get('Allow', 'another method')}",
    }
    told = ApiError(known.get(status, "the request cannot be read"), status=status)
    return JSONResponse(told.body, status, headers)
