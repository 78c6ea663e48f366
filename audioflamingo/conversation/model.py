"""What a conversation needs of a model; `audioflamingo.api.AudioFlamingo` has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from audioflamingo.conversation.stream import Stream
from audioflamingo.types import Message, Reply


@dataclass(frozen=True)
class PromptSize:
    """What a conversation takes as a prompt.

    Attributes:
        num_tokens: all of it.
        num_audio_tokens: how many of them are audio tokens.
        limit: most tokens of a prompt under the options that it was measured with.
    """

    num_tokens: int
    num_audio_tokens: int
    limit: int

    @property
    def fits(self) -> bool:
        """Whether the model takes it."""
        return self.num_tokens <= self.limit

    def __str__(self) -> str:
        left = f"{self.limit - self.num_tokens:,} left (25 a second of sound)"
        if not self.fits:
            left = f"{self.num_tokens - self.limit:,} too many, so the oldest questions are left out of the next prompt"
        return (
            f"{self.num_tokens:,} of {self.limit:,} prompt tokens used, {self.num_audio_tokens:,} of them audio; {left}"
        )


class ChatModel(Protocol):
    """Answers conversations, and says how large they are."""

    def answer(self, conversation: Sequence[Message], **options: Any) -> Reply:
        """The whole answer to the last message."""

    def stream(self, conversation: Sequence[Message], **options: Any) -> Stream:
        """The same, piece by piece."""

    def measure(self, conversation: Sequence[Message], **options: Any) -> PromptSize:
        """What the conversation takes as a prompt, even where it does not fit."""

    def check(self, **options: Any) -> None:
        """Refuse options that an answer would refuse."""
