"""One conversation: what each event of the client does. Runs on the event loop; what takes long has threads.

The reader awaits one event after another, so that they never overlap; beside it runs at most one answer, and what
transcribes the user's sounds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from audioflamingo.errors import FlamingoError
from audioflamingo.server.realtime.bounds import Bounds
from audioflamingo.server.realtime.events import Dialect, Event, EventError, Fields, error_event, named, new_id
from audioflamingo.server.realtime.items import Conversation, Item, decoded, messages_of, read_item
from audioflamingo.server.realtime.listening import Listening
from audioflamingo.server.realtime.making import Ending, Making
from audioflamingo.server.realtime.outgoing import Outgoing
from audioflamingo.server.realtime.response import Response
from audioflamingo.server.realtime.settings import Settings
from audioflamingo.server.realtime.transcripts import Transcripts
from audioflamingo.server.worker import Worker
from audioflamingo.speech.microphone import Ahead
from audioflamingo.speech.speaker import Speaker
from audioflamingo.speech.turns import Action
from audioflamingo.types import Audio

MAX_METADATA = 16
RESPONSE_FIELDS = ("conversation", "input", "metadata")
RESPONSE_SETTINGS = (
    "instructions", "modalities", "output_modalities", "turn_text", "voice", "speed", "audio", "output_audio_format",
    "temperature", "max_output_tokens", "max_response_output_tokens", "tools", "tool_choice",
)  # fmt: skip


class Session:
    """The state of one connection.

    Args:
        worker: the model and its voice.
        outgoing: where events for the client go.
        bounds: of this session.
    """

    def __init__(self, worker: Worker, outgoing: Outgoing, bounds: Bounds) -> None:
        self.id = new_id("sess")
        self._worker, self._outgoing, self._bounds = worker, outgoing, bounds
        voices = () if worker.voices is None else worker.voices.names
        modalities = ("text", "audio") if voices else ("text",)
        self._settings = Settings(worker.name, voices, voices[0] if voices else None, modalities=modalities)
        self._dialect: Dialect = "beta"
        self._conversation = Conversation(bounds)
        self._listening = Listening(self._settings.turn_detection, bounds)
        self._turn_id = new_id("item")  # that the running turn will have
        self._response: Response | None = None
        self._answering: asyncio.Task[None] | None = None
        self._transcripts = Transcripts(worker, self._emit)
        self._ahead = Ahead(self._read_ahead)
        self._handlers: dict[str, Callable[[Fields], Awaitable[None]]] = {
            "session.update": self._update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
            "conversation.item.create": self._create_item,
            "conversation.item.delete": self._delete_item,
            "conversation.item.truncate": self._truncate_item,
            "conversation.item.retrieve": self._retrieve_item,
            "response.create": self._create_response,
            "response.cancel": self._cancel_response,
        }

    def open(self) -> None:
        """The first event."""
        self._emit({"type": "session.created", "session": self._described()})

    async def handle(self, values: Any) -> None:
        """Do what an event asks for.

        Raises:
            EventError: it is not allowed; nothing was changed.
        """
        event = Fields(values)
        name = event.text("type")
        handler = self._handlers.get(name)
        if handler is None:
            raise EventError(
                f"there is no event {name[:80]!r}; allowed: {', '.join(self._handlers)}", "unknown_event", "type"
            )
        await handler(event)

    def close(self) -> None:
        """Stop everything; the client is gone."""
        if self._answering is not None:
            self._answering.cancel()
        self._transcripts.close()
        if self._response is not None:
            self._response.abandon()
        self._ahead.stop()

    # session

    async def _update(self, event: Fields) -> None:
        event.only(("type", "event_id", "session"))
        given = event.inner("session")
        settings = self._settings.updated(given)
        self._check_options(settings, "session")
        self._settings = settings
        self._dialect = "ga" if "type" in given else self._dialect
        self._listening.choose(settings.turn_detection)
        self._emit({"type": "session.updated", "session": self._described()})

    def _check_options(self, settings: Settings, place: str) -> None:
        try:
            self._worker.model.check(**settings.options)
        except FlamingoError as error:
            raise EventError(str(error), param=place) from error

    def _described(self) -> dict[str, Any]:
        return {"id": self.id, **self._settings.described(self._dialect)}

    # sound that comes in

    async def _append(self, event: Fields) -> None:
        event.only(("type", "event_id", "audio"))
        pcm = decoded(event.text("audio"), "audio")
        if not self._listening.detects:
            self._listening.keep(pcm)
            return
        for number, piece in enumerate(self._listening.slices(pcm)):
            if number:
                await asyncio.sleep(0)  # others' turn
            for action in self._listening.hear(piece):
                self._do(action)

    def _do(self, action: Action) -> None:
        if action.kind == "begin_turn":
            self._begin_turn(action)
        elif action.kind == "end_turn":
            self._end_turn(action)
        elif action.kind == "window" or (action.kind == "listen" and self._answers_turns):
            self._ahead.read(self._listening.sound(action), action.kind == "listen")

    def _begin_turn(self, action: Action) -> None:
        self._turn_id = new_id("item")
        self._emit(
            {
                "type": "input_audio_buffer.speech_started",
                "audio_start_ms": action.start_ms,
                "item_id": self._turn_id,
            }
        )
        detection = self._settings.turn_detection
        if detection is not None and detection.interrupt_response:
            self._stop_response("turn_detected")

    def _end_turn(self, action: Action) -> None:
        self._emit(
            {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": action.end_ms, "item_id": self._turn_id}
        )
        self._take_turn(self._listening.sound(action), self._turn_id)
        if self._answers_turns:
            try:
                self._respond(self._settings)
            except EventError as error:  # the sound behind the turn must still be heard
                self._emit(error_event(str(error), code=error.code, param=error.param))

    async def _commit(self, event: Fields) -> None:
        event.only(("type", "event_id"))
        if self._listening.detects:
            self._end_turn(self._listening.end_turn())
        else:
            self._take_turn(self._listening.commit(), new_id("item"))

    async def _clear(self, event: Fields) -> None:
        event.only(("type", "event_id"))
        self._listening.clear()
        self._emit({"type": "input_audio_buffer.cleared"})

    def _take_turn(self, sound: Audio, item_id: str) -> None:
        item = Item("user", (sound,), item_id)
        before = self._conversation.items[-1].id if len(self._conversation) else None
        self._emit({"type": "input_audio_buffer.committed", "previous_item_id": before, "item_id": item.id})
        self._add(item)
        if self._settings.transcription is not None:
            self._transcripts.begin(item, sound)

    @property
    def _answers_turns(self) -> bool:
        detection = self._settings.turn_detection
        return detection is not None and detection.create_response

    def _read_ahead(self, turn: Audio, is_over: bool) -> None:
        """In a thread: read a turn before it is answered."""
        model, settings = self._worker.model, self._settings
        if not is_over:
            model.listen(turn, is_complete=False)
            return
        items = (*self._conversation.items, Item("user", (turn,)))
        messages = messages_of(items, settings.instructions, settings.turn_text)
        model.answer(messages, **{**settings.options, "max_new_tokens": 1})

    # items

    def _add(self, item: Item, after: str | None = None) -> None:
        before = self._conversation.add(item, after)
        self._tell_of(item, before)
        for old in self._conversation.outgrown():
            self._conversation.remove(old)
            self._emit({"type": "conversation.item.deleted", "item_id": old.id})

    def _tell_of(self, item: Item, before: str | None) -> None:
        event = {"previous_item_id": before, "item": item.described(self._dialect)}
        if self._dialect == "beta":
            self._emit({"type": "conversation.item.created", **event})
            return
        self._emit({"type": "conversation.item.added", **event})
        if item.status != "in_progress":
            self._emit({"type": "conversation.item.done", **event})

    async def _create_item(self, event: Fields) -> None:
        event.only(("type", "event_id", "previous_item_id", "item"))
        after = event.text("previous_item_id") if "previous_item_id" in event else None
        self._add(read_item(event.inner("item"), self._bounds), after)

    def _item_of(self, event: Fields) -> Item:
        item = self._conversation.find(event.text("item_id"))
        if item.status == "in_progress":
            raise EventError(
                f"item {item.id!r} is still being written; send response.cancel first, or wait for response.done",
                "item_in_progress",
                "item_id",
            )
        return item

    async def _delete_item(self, event: Fields) -> None:
        event.only(("type", "event_id", "item_id"))
        item = self._item_of(event)
        self._conversation.remove(item)
        self._emit({"type": "conversation.item.deleted", "item_id": item.id})

    async def _retrieve_item(self, event: Fields) -> None:
        event.only(("type", "event_id", "item_id"))
        item = self._conversation.find(event.text("item_id"))
        self._emit({"type": "conversation.item.retrieved", "item": item.described(self._dialect)})

    async def _truncate_item(self, event: Fields) -> None:
        """What was not heard of an answer leaves the history."""
        event.only(("type", "event_id", "item_id", "content_index", "audio_end_ms"))
        item = self._item_of(event)
        event.number("content_index", 0, low=0, high=0)
        if item.heard_text is None:
            raise EventError(f"item {item.id!r} is no spoken answer; only those can be truncated", param="item_id")
        end_ms = event.number("audio_end_ms", low=0, high=float("inf"))
        if end_ms > item.audio_ms + 1:  # a client may round up
            raise EventError(
                f"audio_end_ms is {end_ms:g}; allowed: 0 to {item.audio_ms:.0f}, which is the sound's length",
                param="audio_end_ms",
            )
        item.content = (item.heard_text(end_ms),)
        item.audio_ms, item.status = min(item.audio_ms, end_ms), "incomplete"
        self._emit(
            {"type": "conversation.item.truncated", "item_id": item.id, "content_index": 0, "audio_end_ms": end_ms}
        )

    # answers

    async def _create_response(self, event: Fields) -> None:
        event.only(("type", "event_id", "response"))
        settings, items, metadata = self._settings, None, None
        is_aside = False
        if "response" in event:
            given = event.inner("response")
            given.only((*RESPONSE_FIELDS, *RESPONSE_SETTINGS))
            own = {key: value for key, value in given.values.items() if key not in RESPONSE_FIELDS}
            settings = settings.updated(Fields(own, given.place))
            self._check_options(settings, "response")
            is_aside = given.one_of("conversation", ("auto", "none"), "auto") == "none"
            metadata = _metadata(given)
            if "input" in given:
                items = tuple(read_item(item, self._bounds) for item in given.items("input"))
        self._respond(settings, items, metadata, is_aside=is_aside)

    def _respond(
        self,
        settings: Settings,
        items: tuple[Item, ...] | None = None,
        metadata: dict[str, str] | None = None,
        *,
        is_aside: bool = False,
    ) -> None:
        """Begin to answer the conversation, or other items."""
        if self._response is not None and not self._response.is_over:
            raise EventError(
                "an answer is on its way; wait for its response.done, or send response.cancel",
                "conversation_already_has_active_response",
            )
        messages = messages_of(
            self._conversation.items if items is None else items, settings.instructions, settings.turn_text
        )
        if not messages or messages[-1].role != "user":
            raise EventError(
                "there is nothing to answer; create an item of the user, or commit sound, first", "nothing_to_answer"
            )
        making = Making(self._worker.model, self._speaker(settings), messages, settings.options)
        conversation_id = None if is_aside else self._conversation.id
        response = Response(settings, self._dialect, self._emit_answer, making, conversation_id, metadata)
        self._response = response
        response.begin()
        if not is_aside:
            self._add(response.item)
        response.open_part()
        self._answering = asyncio.create_task(self._tell(response, making))

    def _speaker(self, settings: Settings) -> Speaker | None:
        try:
            return self._worker.voice_of(settings.voice, settings.speed) if settings.is_spoken else None
        except FlamingoError as error:
            raise EventError(str(error), param="voice") from error

    async def _tell(self, response: Response, making: Making) -> None:
        while not response.is_over:
            piece = await making.bridge.get()
            if isinstance(piece, Ending):
                response.end(piece)
                self._settle(response)
            else:
                response.tell(piece)
                await self._outgoing.room()

    def _settle(self, response: Response) -> None:
        """An answer is over: what it cost is counted, and the second dialect tells of its item once more."""
        metrics, usage = self._worker.metrics, response.usage
        metrics.add("tokens_total", usage.prompt_tokens, kind="prompt")
        metrics.add("tokens_total", usage.completion_tokens, kind="answer")
        metrics.add("audio_seconds_total", usage.audio_s, direction="in")
        metrics.add("audio_seconds_total", response.item.audio_ms / 1000, direction="out")
        if self._dialect == "ga" and response.item in self._conversation.items:
            self._emit({"type": "conversation.item.done", "item": response.item.described(self._dialect)})

    async def _cancel_response(self, event: Fields) -> None:
        event.only(("type", "event_id", "response_id"))
        response = self._response
        asked = event.text("response_id") if "response_id" in event else None
        if response is None or response.is_over or asked not in (None, response.id):
            raise EventError("no such answer is on its way; there is nothing to cancel", "response_cancel_not_active")
        self._stop_response("client_cancelled")

    def _stop_response(self, reason: Literal["turn_detected", "client_cancelled"]) -> None:
        response = self._response
        if response is None or response.is_over:
            return
        if self._answering is not None:
            self._answering.cancel()
        self._outgoing.drop(response.id)
        response.cancel(reason)
        self._settle(response)

    # sending

    def _emit(self, event: Event) -> None:
        self._outgoing.put(named(event, self._dialect))

    def _emit_answer(self, event: Event) -> None:
        """Events of an answer; its text and sound may be dropped before they are sent, the others never."""
        is_delta = event["type"].endswith(".delta")
        self._outgoing.put(named(event, self._dialect), event["response_id"] if is_delta else None)


def _metadata(given: Fields) -> dict[str, str] | None:
    if "metadata" not in given:
        return None
    values = given.inner("metadata").values
    if len(values) > MAX_METADATA or not all(isinstance(value, str) and len(value) <= 512 for value in values.values()):
        raise EventError(
            f"{given.name('metadata')} must hold up to {MAX_METADATA} texts of up to 512 characters",
            param=given.name("metadata"),
        )
    return dict(values)
