"""A conversation with memory: every question and answer, and every sound, stay for the turns that follow.

>>> chat = model.chat()
>>> chat.ask("What do you hear?", "dog.wav").text
>>> chat.ask("And is <sound-1> louder than this?", "rain.wav").text
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from audioflamingo.conversation.file import load_messages, save_messages
from audioflamingo.conversation.fit import fitted
from audioflamingo.conversation.model import ChatModel, PromptSize
from audioflamingo.conversation.sounds import Sources, check_order, loaded
from audioflamingo.conversation.stream import Stream
from audioflamingo.errors import PromptError
from audioflamingo.prompt.messages import is_measurable
from audioflamingo.types import Audio, Delta, Message, Reply

_NAME_TAG = re.compile(r"<sound:([^<>\n]{1,255})>", re.IGNORECASE)


class Chat:
    """A conversation with memory.

    Sounds may come with any question, several at once. In a question, ``<sound-k>`` stands for the k-th sound of the
    conversation and ``<sound:NAME>`` for the one of that name. Thoughts are not remembered, only answers are.

    Attributes:
        messages: all that was said so far, whether or not it still fits the context.
        options: of every answer; those given with a question go before them.
    """

    def __init__(
        self,
        model: ChatModel,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
        examples: Sequence[Message] = (),
    ) -> None:
        """Begin a conversation.

        Args:
            model: what answers.
            system: the system message, or None for the model's own.
            options: of every answer; see `Options`.
            examples: messages that stand before it and always stay, see `with_examples`.
        """
        opening = () if system is None else (Message("system", (system,)),)
        self.messages: tuple[Message, ...] = (*opening, *examples)
        self.options = dict(options or {})
        self._num_pinned = len(self.messages)
        self._model = model

    @property
    def sounds(self) -> tuple[Audio, ...]:
        """All sounds in the order in which they were said: number k is ``<sound-k>``."""
        return tuple(part for message in self.messages for part in message.content if isinstance(part, Audio))

    def ask(self, question: str, audio: Sources = None, *, sample_rate_hz: int | None = None, **options: Any) -> Reply:
        """Say the next turn, with new sounds or none, and get the whole answer.

        A question that fails leaves the conversation as it was.

        Raises:
            FlamingoError: a sound, the question or an option is not usable.
        """
        asked, sent, notes = self._next(question, audio, sample_rate_hz, options)
        reply = self._model.answer(sent, **self.options | options)
        self.messages = (*asked, Message("assistant", (reply.text,)))
        return replace(reply, notes=(*notes, *reply.notes))

    def stream(
        self, question: str, audio: Sources = None, *, sample_rate_hz: int | None = None, **options: Any
    ) -> Stream:
        """Like `ask`, piece by piece. What was said until the stream ends or is closed becomes part of the memory.

        A stream that is closed before a word of the answer came leaves the conversation as it was.
        """
        asked, sent, notes = self._next(question, audio, sample_rate_hz, options)
        stream = self._model.stream(sent, **self.options | options)
        return Stream(self._remembered(asked, stream), (*notes, *stream.notes))

    def check_sounds(self, audio: Sources, *, sample_rate_hz: int | None = None) -> None:
        """Refuse sounds that could not come with the next question, whatever it asks; nothing is said or computed.

        Raises:
            FlamingoError: one is not usable or too long, or they do not fit the context together.
        """
        self._next("?", audio, sample_rate_hz, {})

    def choose(self, **options: Any) -> None:
        """Options of all answers from now on, beside or instead of those that were chosen before.

        Raises:
            FlamingoError: one is not usable, such as thinking by a model that cannot; nothing is changed.
        """
        self._model.check(**self.options | options)
        self.options |= options

    def undo(self) -> bool:
        """Forget the last question with its sounds and its answer; False where there is none."""
        for index in range(len(self.messages) - 1, self._num_pinned - 1, -1):
            if self.messages[index].role == "user":
                self.messages = self.messages[:index]
                return True
        return False

    def fork(self) -> Chat:
        """A second conversation that goes on from here by itself; the sounds are shared, not copied."""
        fork = Chat(self._model, options=self.options)
        fork.messages, fork._num_pinned = self.messages, self._num_pinned
        return fork

    def budget(self, **options: Any) -> PromptSize:
        """What the conversation takes of the context so far, before the next question."""
        messages = self.messages
        if not messages or messages[-1].role != "user":
            messages = (*messages, Message("user", ("?",)))
        return self._model.measure(messages, **self.options | options)

    def save(self, path: str | Path) -> None:
        """Write the conversation as JSON, and its sounds to a folder beside it; options are not written.

        Raises:
            PromptError: the place cannot be written to.
        """
        save_messages(path, self.messages, self._num_pinned)

    def load(self, path: str | Path) -> None:
        """Go on with a conversation that was saved, instead of this one.

        Raises:
            FlamingoError: the file is not usable; the conversation stays as it was.
        """
        self.messages, self._num_pinned = load_messages(path)

    def _next(
        self, question: str, audio: Sources, sample_rate_hz: int | None, options: Mapping[str, Any]
    ) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[str, ...]]:
        """The conversation with the question, what of it is sent, and notes."""
        check_order(audio, question, "ask(question, audio)")
        new = loaded(audio, sample_rate_hz)
        text = _with_numbers(question, (*self.sounds, *new))
        asked = (*self.messages, Message("user", (*new, text)))
        chosen = self.options | dict(options)

        def fits(some: tuple[Message, ...]) -> bool:
            return is_measurable(some) and self._model.measure(some, **chosen).fits

        sent, notes = fitted(asked, self._num_pinned, fits)
        return asked, sent, notes

    def _remembered(self, asked: tuple[Message, ...], stream: Stream) -> Iterator[Delta]:
        text, is_over = "", False
        try:
            with stream:
                for delta in stream:
                    text += delta.text
                    is_over = delta.finish_reason is not None
                    yield delta
        finally:
            if text or is_over:
                self.messages = (*asked, Message("assistant", (text,)))


def _with_numbers(question: str, sounds: Sequence[Audio]) -> str:
    return _NAME_TAG.sub(lambda tag: f"<sound-{_number_of(tag[1].strip(), sounds)}>", question)


def _number_of(name: str, sounds: Sequence[Audio]) -> int:
    """Number, from 1, of the sound of this name, with or without folder and suffix; the last of several equal ones."""
    for spelled in (str, lambda given: PurePath(given).name, lambda given: PurePath(given).stem):
        found = {sound.key: number for number, sound in enumerate(sounds, start=1) if spelled(sound.name) == name}
        if len(found) > 1:
            raise PromptError(f"{len(found)} sounds are called {name!r}; point at one of them by <sound-k>")
        if found:
            return found.popitem()[1]
    known = ", ".join(f"{number} {sound.name}" for number, sound in enumerate(sounds, start=1)) or "none yet"
    raise PromptError(f"no sound is called {name!r}; the sounds of this conversation: {known}")
