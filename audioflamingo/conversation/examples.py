"""In-context examples: sounds with the answers that were wanted for them, said before the real question."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from audioflamingo.audio import Source
from audioflamingo.audio import load as load_audio
from audioflamingo.errors import PromptError
from audioflamingo.types import Message

Example = tuple[Source, str]


def with_examples(question: str, examples: Iterable[Example]) -> tuple[Message, ...]:
    """Turns that ask `question` about each example's sound and answer as the example does.

    Raises:
        PromptError: an example is no pair of a sound and a text.
        AudioError: a sound cannot be read.
    """
    messages: list[Message] = []
    for number, example in enumerate(examples, start=1):
        if not isinstance(example, Sequence) or len(example) != 2 or not isinstance(example[1], str) or not example[1]:
            raise PromptError(f"example {number} is not a pair of a sound and its answer: (sound, 'answer')")
        messages.append(Message("user", (load_audio(example[0]), question)))
        messages.append(Message("assistant", (example[1],)))
    return tuple(messages)
