"""What a client is told when something cannot be done: OpenAI's error body, a status, and always the remedy."""

from __future__ import annotations

from typing import Any

from audioflamingo.errors import FlamingoError
from audioflamingo.server.wording import told

INTERNAL = "the server failed on this request, which is a bug of ours; its log says more"
RETRY_AFTER_S = 1


class ApiError(FlamingoError):
    """A request that is refused, or ends early.

    Attributes:
        status: of HTTP.
        param: the field that is to blame, as a path such as "messages[0].content[1].input_audio.data".
        code: a short name for programs.
    """

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    @property
    def body(self) -> dict[str, Any]:
        """OpenAI's form."""
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}

    @property
    def kind(self) -> str:
        """OpenAI's name of this kind of errors."""
        if self.status == 401:
            return "authentication_error"
        if self.status in (403, 404, 405):
            return {403: "permission_error", 404: "not_found_error", 405: "invalid_request_error"}[self.status]
        if self.status == 503:
            return "server_busy"
        return "invalid_request_error" if self.status < 500 else "server_error"

    @property
    def headers(self) -> dict[str, str]:
        """Those that go with the status."""
        if self.status == 503:
            return {"retry-after": str(RETRY_AFTER_S)}
        return {"www-authenticate": "Bearer"} if self.status == 401 else {}


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


def refused(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A request that is wrong in itself."""
    return ApiError(message, param=param, code=code)


def busy(message: str) -> ApiError:
    """A request that may be repeated a little later."""
    return ApiError(message, status=503, code="server_busy")


def stopping() -> ApiError:
    """What those are told whose answers end because the server does."""
    return ApiError("the server is shutting down; ask again later", status=503, code="server_stopping")


def as_api_error(error: Exception) -> ApiError:
    """Whatever went wrong, in the form that clients get; what is not meant for users tells nothing of the inside."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, FlamingoError):
        return ApiError(told(str(error)))
    if isinstance(error, TimeoutError):
        return ApiError("the request took longer than the server allows; ask for less", status=504, code="timeout")
    return ApiError(INTERNAL, status=500, code="internal_error")
