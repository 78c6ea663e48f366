"""The user's own words, for clients that want to read them: made beside the answer, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from audioflamingo.errors import FlamingoError
from audioflamingo.prompt import TRANSCRIBE_PROMPT, spoken_words
from audioflamingo.server.realtime.events import Event
from audioflamingo.server.realtime.items import Item
from audioflamingo.server.realtime.response import told
from audioflamingo.server.worker import Worker
from audioflamingo.types import Audio, Message

NAME = "conversation.item.input_audio_transcription"
MAX_AT_ONCE = 8  # of one session


class Transcripts:
    """Transcripts of one session, each told when it is there.

    Args:
        worker: the model.
        emit: sends an event.
    """

    def __init__(self, worker: Worker, emit: Callable[[Event], None]) -> None:
        self._worker, self._emit = worker, emit
        self._running: set[asyncio.Task[None]] = set()

    def begin(self, item: Item, sound: Audio) -> None:
        """Write down the words of a turn."""
        task = asyncio.create_task(self._transcribe(item, sound))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def close(self) -> None:
        """Stop all work."""
        for task in self._running:
            task.cancel()

    async def _transcribe(self, item: Item, sound: Audio) -> None:
        event = {"item_id": item.id, "content_index": 0}
        try:
            if len(self._running) > MAX_AT_ONCE:
                raise FlamingoError(f"{MAX_AT_ONCE} turns are being transcribed; commit fewer at once")
            text = await self._words(sound)
        except Exception as error:
            self._emit({"type": f"{NAME}.failed", **event, "error": {**told(error, "a transcription"), "param": None}})
            return
        item.transcript = text
        usage = {"type": "duration", "seconds": round(sound.duration_s, 3)}
        if text:
            self._emit({"type": f"{NAME}.delta", **event, "delta": text})
        self._emit({"type": f"{NAME}.completed", **event, "transcript": text, "usage": usage})

    async def _words(self, sound: Audio) -> str:
        prepared = await self._worker.prepare((Message("user", (sound, TRANSCRIBE_PROMPT)),))
        async with self._worker.answer(prepared) as answer:
            return spoken_words("".join([delta.text async for delta in answer]))
