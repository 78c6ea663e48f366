"""What the model still sees of a conversation that has outgrown its context. Memory itself loses nothing.

The rule: whole exchanges (a question and its answer) are left out, oldest first, until the rest fits. Never left out
are the system message, the pinned beginning (in-context examples), the last question, and an exchange with a sound that
a later question in the prompt names as ``<sound-k>``. What was left out is said in a note.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from audioflamingo.errors import PromptError
from audioflamingo.types import Audio, Message

_TAG = re.compile(r"<sound-([0-9]{1,6})>", re.IGNORECASE)


@dataclass(frozen=True)
class _Exchange:
    """A question with what follows it until the next one.

    Attributes:
        indices: its messages.
        own: numbers, from 1, of the sounds that are said in it.
        named: how often it names each sound.
    """

    indices: tuple[int, ...]
    own: frozenset[int]
    named: Counter[int]


def fitted(
    messages: tuple[Message, ...], num_pinned: int, fits: Callable[[tuple[Message, ...]], bool]
) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """The messages that are sent, and a note where some are left out.

    Args:
        messages: a whole conversation whose last message is the user's.
        num_pinned: messages at the beginning that always stay.
        fits: whether the model takes a conversation; it takes what is left of one that it takes.

    Raises:
        PromptError: it does not fit even with all left out that may be.
    """
    if fits(messages):
        return messages, ()
    order = [exchange.indices for exchange in _in_order(messages, num_pinned)]

    def without(num_dropped: int) -> tuple[Message, ...]:
        dropped = {index for indices in order[:num_dropped] for index in indices}
        return _selected(messages, [index for index in range(len(messages)) if index not in dropped])

    # Measuring is dear and the answer is monotonic: the fewest that must go are found by bisection.
    num_dropped = bisect.bisect_left(range(1, len(order) + 1), True, key=lambda number: fits(without(number))) + 1
    if num_dropped > len(order):
        raise PromptError(
            "the conversation does not fit the context even without its earlier exchanges; "
            "shorten the question or its sounds, lower max_new_tokens, or begin a new conversation"
        )
    dropped = [index for indices in order[:num_dropped] for index in indices]
    return without(num_dropped), _note(messages, dropped, num_pinned)


def num_sounds(messages: Sequence[Message]) -> int:
    """Sounds in the messages, in all places where they were said."""
    return sum(isinstance(part, Audio) for message in messages for part in message.content)


def _in_order(messages: tuple[Message, ...], num_pinned: int) -> Iterator[_Exchange]:
    """The exchanges that may be left out, each time the oldest one whose sounds no other message still names."""
    exchanges = _exchanges(messages, num_pinned)
    in_exchanges = {index for exchange in exchanges for index in exchange.indices}
    others = [index for index in range(len(messages)) if index not in in_exchanges]
    named = sum((exchange.named for exchange in exchanges), _named(messages, others))
    while True:
        free = (one for one in exchanges if all(named[sound] == one.named[sound] for sound in one.own))
        exchange = next(free, None)
        if exchange is None:
            return
        yield exchange
        exchanges.remove(exchange)
        named.subtract(exchange.named)


def _exchanges(messages: tuple[Message, ...], num_pinned: int) -> list[_Exchange]:
    """All that begin with a question behind the pinned messages, but for the last question."""
    starts = [index for index in range(num_pinned, len(messages)) if messages[index].role == "user"]
    sounds = [0, *itertools.accumulate(num_sounds([message]) for message in messages)]
    return [
        _Exchange(
            tuple(range(start, end)),
            frozenset(range(sounds[start] + 1, sounds[end] + 1)),
            _named(messages, range(start, end)),
        )
        for start, end in itertools.pairwise(starts)
    ]


def _named(messages: tuple[Message, ...], indices: Iterable[int]) -> Counter[int]:
    """How often each sound is named by number in these messages."""
    texts = (
        part for index in indices if messages[index].role != "assistant"
        for part in messages[index].content if isinstance(part, str)
    )  # fmt: skip
    return Counter(int(number) for text in texts for number in _TAG.findall(text))


def _selected(messages: tuple[Message, ...], kept: list[int]) -> tuple[Message, ...]:
    """These messages, their ``<sound-k>`` counted anew."""
    if len(kept) == len(messages):
        return messages
    sounds = [0, *itertools.accumulate(num_sounds([message]) for message in messages)]
    old_numbers = [number for index in kept for number in range(sounds[index] + 1, sounds[index + 1] + 1)]
    new_number = {old: new for new, old in enumerate(old_numbers, start=1)}

    def renumbered(part: str | Audio, role: str) -> str | Audio:
        if isinstance(part, Audio) or role == "assistant":
            return part
        return _TAG.sub(lambda tag: f"<sound-{new_number.get(int(tag[1]), tag[1])}>", part)

    return tuple(
        Message(messages[index].role, tuple(renumbered(part, messages[index].role) for part in messages[index].content))
        for index in kept
    )


def _note(messages: tuple[Message, ...], dropped: list[int], num_pinned: int) -> tuple[str, ...]:
    if not dropped:
        return ()
    turns = [index for index, message in enumerate(messages) if message.role == "user" and index >= num_pinned]
    number_of = {index: number for number, index in enumerate(turns, start=1)}
    numbers = sorted(number_of[index] for index in dropped if index in number_of)
    sounds = num_sounds([messages[index] for index in dropped])
    return (
        f"the context is full: question {_ranges(numbers)} of this conversation, with answer and "
        f"{sounds} sound(s), left out of the prompt (oldest first)",
    )


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers in order as "1 to 40, 43"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
