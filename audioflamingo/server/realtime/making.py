"""An answer in the making: a thread asks the model and speaks; its pieces cross a bounded bridge to the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

from audioflamingo.api import AudioFlamingo
from audioflamingo.conversation.fit import fitted
from audioflamingo.prompt.messages import is_measurable
from audioflamingo.speech.speaker import Speaker, SpeechStream
from audioflamingo.types import Delta, Message, Usage

MAX_PIECES = 64


@dataclass(frozen=True)
class Piece:
    """Something new of an answer: text, or sound as 16-bit PCM at 24 kHz."""

    text: str = ""
    pcm: bytes = b""


@dataclass(frozen=True)
class Ending:
    """How an answer ended.

    Attributes:
        is_whole: it was not cut at the most tokens that were allowed.
        error: why it failed; None where it did not.
    """

    is_whole: bool = True
    error: BaseException | None = None


class Bridge:
    """From one thread to one event loop. The thread waits while it is full."""

    def __init__(self) -> None:
        self._pieces: deque[Piece | Ending] = deque()
        self._condition = threading.Condition()
        self._is_closed = False
        self._loop = asyncio.get_running_loop()
        self._has_come = asyncio.Event()

    def put(self, piece: Piece | Ending) -> bool:
        """For the thread: hand on a piece; False where nobody wants it any more."""
        with self._condition:
            self._condition.wait_for(lambda: self._is_closed or len(self._pieces) < MAX_PIECES)
            if self._is_closed:
                return False
            self._pieces.append(piece)
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server is gone, and so is who waits
            self._loop.call_soon_threadsafe(self._has_come.set)
        return True

    async def get(self) -> Piece | Ending:
        """For the loop: the next piece."""
        while True:
            with self._condition:
                if self._pieces:
                    self._condition.notify_all()
                    return self._pieces.popleft()
                self._has_come.clear()
            await self._has_come.wait()

    def close(self) -> None:
        """Nothing more is wanted; the thread is told at its next piece."""
        with self._condition:
            self._is_closed = True
            self._pieces.clear()
            self._condition.notify_all()


class _UnwantedError(Exception):
    """The answer was cancelled."""


class Making:
    """One answer.

    Args:
        model: what answers.
        speaker: who speaks it; None for text alone.
        messages: the whole conversation; what does not fit the context is left out, oldest first.
        options: of the model.

    Attributes:
        bridge: where its pieces come from, the last of them an `Ending`.
        usage: so far; complete at the end.
    """

    def __init__(
        self, model: AudioFlamingo, speaker: Speaker | None, messages: tuple[Message, ...], options: dict[str, Any]
    ) -> None:
        self._model, self._messages, self._options = model, messages, options
        self._speaker = speaker
        self._speech: SpeechStream | None = None
        self._is_whole = True
        self.bridge = Bridge()
        self.usage = Usage(0, 0, 0, 0.0)
        threading.Thread(target=self._run, name="realtime answer", daemon=True).start()

    def heard_text(self, text: str) -> Callable[[float], str] | None:
        """What tells which part of the text is heard in so many ms; None where nothing is spoken."""
        return None if self._speech is None else partial(self._speech.log.heard_text, text)

    def _run(self) -> None:
        try:
            self._make()
            self.bridge.put(Ending(self._is_whole))
        except _UnwantedError:
            return
        except BaseException as error:  # told to the client, who else would wait for ever
            self.bridge.put(Ending(error=error))

    def _make(self) -> None:
        texts = self._texts()
        try:
            if self._speaker is None:
                for _ in texts:
                    pass
                return
            self._speech = self._speaker.stream(texts)
            for packet in self._speech:
                self._hand_on(Piece(pcm=packet.pcm))
        finally:
            texts.close()

    def _texts(self) -> Generator[str, None, None]:
        num_pinned = 1 if self._messages[0].role == "system" else 0
        sent, _ = fitted(self._messages, num_pinned, self._fits)
        size = self._model.measure(sent, **self._options)
        audio_s = 0.0
        self.usage = Usage(size.num_tokens, size.num_audio_tokens, 0, audio_s)
        with self._model.stream(sent, **self._options) as stream:
            for delta in stream:
                self._count(delta)
                if delta.text:
                    self._hand_on(Piece(text=delta.text))
                    yield delta.text

    def _fits(self, messages: tuple[Message, ...]) -> bool:
        return is_measurable(messages) and self._model.measure(messages, **self._options).fits

    def _count(self, delta: Delta) -> None:
        before = self.usage
        so_far = Usage(
            before.prompt_tokens, before.audio_tokens, before.completion_tokens + len(delta.token_ids), before.audio_s
        )
        self.usage = delta.usage or so_far
        self._is_whole = delta.finish_reason != "length"

    def _hand_on(self, piece: Piece) -> None:
        if not self.bridge.put(piece):
            raise _UnwantedError
