"""One response: the events that tell of an answer from its creation to its end, whichever end that is."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from typing import Any, Literal

from audioflamingo.errors import FlamingoError
from audioflamingo.server.realtime.events import Dialect, Event, new_id
from audioflamingo.server.realtime.items import Item
from audioflamingo.server.realtime.making import Ending, Making, Piece
from audioflamingo.server.realtime.settings import Settings
from audioflamingo.speech.stream import duration_ms
from audioflamingo.types import Usage

logger = logging.getLogger(__name__)

Status = Literal["in_progress", "completed", "cancelled", "failed", "incomplete"]
Emit = Callable[[Event], None]


class Response:
    """The telling of one answer. All on the event loop; the answer itself is made in `Making`'s thread.

    Args:
        settings: of this response.
        dialect: in which it is told.
        emit: sends an event.
        making: where the answer comes from.
        conversation_id: that it belongs to; None where it stands aside.
        metadata: the client's own, given back.

    Attributes:
        item: the answer as an item; its text and sound grow as they are sent.
        status: of the response.
    """

    def __init__(
        self,
        settings: Settings,
        dialect: Dialect,
        emit: Emit,
        making: Making,
        conversation_id: str | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        self.id = new_id("resp")
        self.settings = settings
        self.status: Status = "in_progress"
        self.item = Item("assistant", status="in_progress", is_spoken=settings.is_spoken)
        self._dialect: Dialect = dialect
        self._emit, self._making = emit, making
        self._conversation_id, self._metadata = conversation_id, metadata
        self._text = ""

    @property
    def is_over(self) -> bool:
        """Whether its last event was sent."""
        return self.status != "in_progress"

    @property
    def usage(self) -> Usage:
        """What it cost so far."""
        return self._making.usage

    def begin(self) -> None:
        """Its first events."""
        self._emit({"type": "response.created", "response_id": self.id, "response": self._described(None, None)})
        self._tell("response.output_item.added", item=self.item.described(self._dialect), is_of_item=False)

    def open_part(self) -> None:
        """The event that text or sound will follow."""
        self._tell("response.content_part.added", part=self._part())

    def tell(self, piece: Piece) -> None:
        """Something new of the answer."""
        if piece.text:
            self._text += piece.text
            self.item.content = (self._text,)
            self._tell(f"response.{self._text_kind}.delta", delta=piece.text)
        if piece.pcm:
            self.item.audio_ms += duration_ms(len(piece.pcm))
            self._tell("response.audio.delta", delta=base64.b64encode(piece.pcm).decode("ascii"))

    def end(self, ending: Ending) -> None:
        """The answer came to an end of its own."""
        if ending.error is not None:
            self._finish("failed", {"type": "failed", "error": told(ending.error, "an answer")})
        elif not ending.is_whole:
            self._finish("incomplete", {"type": "incomplete", "reason": "max_output_tokens"})
        else:
            self._finish("completed", None)

    def cancel(self, reason: Literal["turn_detected", "client_cancelled"]) -> None:
        """Stop it; nothing of it is sent after its last events, which are sent now."""
        self._finish("cancelled", {"type": "cancelled", "reason": reason})

    def abandon(self) -> None:
        """Stop it; nobody is there to be told."""
        self._making.bridge.close()

    @property
    def _text_kind(self) -> str:
        return "audio_transcript" if self.settings.is_spoken else "text"

    def _finish(self, status: Status, details: dict[str, Any] | None) -> None:
        self.status = status
        self.item.status = "completed" if status == "completed" else "incomplete"
        self.item.heard_text = self._making.heard_text(self._text)
        self.abandon()
        if self.settings.is_spoken:
            self._tell("response.audio.done")
            self._tell("response.audio_transcript.done", transcript=self._text)
        else:
            self._tell("response.text.done", text=self._text)
        self._tell("response.content_part.done", part=self._part())
        self._tell("response.output_item.done", item=self.item.described(self._dialect), is_of_item=False)
        usage = _usage(self._making.usage, self.item.audio_ms)
        self._emit({"type": "response.done", "response_id": self.id, "response": self._described(details, usage)})

    def _part(self) -> dict[str, Any]:
        if self.settings.is_spoken:
            return {"type": "audio", "transcript": self._text}
        return {"type": "text", "text": self._text}

    def _tell(self, name: str, *, is_of_item: bool = True, **values: Any) -> None:
        place: Event = {"type": name, "response_id": self.id, "output_index": 0}
        if is_of_item:
            place |= {"item_id": self.item.id, "content_index": 0}
        self._emit({**place, **values})

    def _described(self, details: dict[str, Any] | None, usage: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "realtime.response",
            "status": self.status,
            "status_details": details,
            "output": [self.item.described(self._dialect)] if self.is_over else [],
            "conversation_id": self._conversation_id,
            "metadata": self._metadata,
            "usage": usage,
            **self.settings.answer_described(self._dialect),
        }


def told(error: BaseException, what: str) -> dict[str, Any]:
    """A failure in OpenAI's form; what is no user's business is told to the log."""
    if isinstance(error, FlamingoError):
        return {"type": "invalid_request_error", "code": "cannot_answer", "message": " ".join(str(error).split())}
    logger.error("%s failed", what, exc_info=error)
    return {"type": "server_error", "code": "internal_error", "message": f"{what} failed; the server's log has why"}


def _usage(usage: Usage, audio_ms: float) -> dict[str, Any]:
    """Tokens as the model counts them; sound that is sent has none, so its length stands beside them."""
    num_out = usage.completion_tokens
    return {
        "total_tokens": usage.prompt_tokens + num_out,
        "input_tokens": usage.prompt_tokens,
        "output_tokens": num_out,
        "input_token_details": {
            "text_tokens": usage.prompt_tokens - usage.audio_tokens,
            "audio_tokens": usage.audio_tokens,
        },
        "output_token_details": {"text_tokens": num_out, "audio_tokens": 0, "audio_ms": round(audio_ms)},
    }
