"""From a conversation to prompts, usually one, several where a long sound is split; and back to one answer."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from collections.abc import Sequence as Rows
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from audioflamingo.audio import limit
from audioflamingo.engine.options import Options
from audioflamingo.errors import FlamingoError, OptionError, PromptError
from audioflamingo.prompt import ChatTemplate, build
from audioflamingo.tokenizer import Tokenizer
from audioflamingo.types import Audio, Delta, FinishReason, Message, Prompt, Reply, Sampling, Usage


@dataclass(frozen=True)
class Part:
    """One prompt of a request, and what its answer begins with: a range of time, or nothing where all was heard."""

    prompt: Prompt
    heading: str = ""


@dataclass(frozen=True)
class Request:
    """A conversation ready for the engine.

    Attributes:
        parts: at least one, in the order of time.
        sampling: the same for all parts.
        notes: what was done to its sounds that the author should know of.
    """

    parts: tuple[Part, ...]
    sampling: Sampling
    notes: tuple[str, ...] = ()


def check_batch(conversations: Any, errors: str, each: Rows[Any] | None) -> None:
    """Check what a batch of conversations is asked with, before any of them is looked at.

    Raises:
        PromptError: it is a single conversation.
        OptionError: there is no such way with errors, or there are too few or too many mappings of options.
    """
    if errors not in ("raise", "return"):
        raise OptionError(f"errors is {errors!r}, allowed: 'raise' or 'return'")
    if isinstance(conversations, str | Message | Mapping):
        raise PromptError("generate takes a list of conversations, and one alone came; put it into a list")
    if each is not None and len(each) != len(conversations):
        raise OptionError(f"each has {len(each)} mappings for {len(conversations)} conversations; allowed: one each")


def prepare(
    messages: tuple[Message, ...],
    options: Options,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    max_positions: int,
) -> Request:
    """Make the sounds fit and build the prompts.

    Raises:
        AudioError: a sound is too long and `options.long_audio` is "error".
        PromptError: the messages do not make a prompt that fits, or more than one sound would have to be split.
    """
    variants, notes = _fit_sounds(messages, options)
    budget = options.budget(max_positions)
    parts = (
        Part(build(variant, tokenizer, template, style=options.style, budget=budget), heading)
        for heading, variant in variants
    )
    return Request(tuple(parts), options.sampling, notes)


def _fit_sounds(
    messages: tuple[Message, ...], options: Options
) -> tuple[list[tuple[str, tuple[Message, ...]]], tuple[str, ...]]:
    """The conversation once for each part of its long sound, each with its heading; and the notes."""
    sounds, place_of = _distinct(messages)
    fitted = [limit(sound, max_windows=options.max_windows, long_audio=options.long_audio) for sound in sounds]
    notes = tuple(note for one in fitted for note in one.notes)
    split = [place for place, one in enumerate(fitted) if len(one.parts) > 1]
    if len(split) > 1:
        raise PromptError(
            f"{len(split)} sounds are too long ({', '.join(sounds[place].name for place in split)}); "
            "long_audio='split' takes one of them a conversation. Ask about each by itself, or pass "
            "long_audio='truncate'."
        )
    shown = [one.parts[0][0] for one in fitted]
    if not split:
        return [("", _with_sounds(messages, place_of, shown))], notes
    variants = []
    for part, start_s in fitted[split[0]].parts:
        shown[split[0]] = part
        variants.append((_heading(part, start_s), _with_sounds(messages, place_of, shown)))
    return variants, notes


def _distinct(messages: tuple[Message, ...]) -> tuple[list[Audio], dict[Audio, int]]:
    """The sounds of a conversation, equal ones once, and which of them each object is."""
    sounds: list[Audio] = []
    place_of: dict[Audio, int] = {}
    for sound in (part for message in messages for part in message.content if isinstance(part, Audio)):
        place = next((place for place, one in enumerate(sounds) if one.equals(sound)), len(sounds))
        place_of[sound] = place
        if place == len(sounds):
            sounds.append(sound)
    return sounds, place_of


def _with_sounds(messages: tuple[Message, ...], place_of: dict[Audio, int], shown: list[Audio]) -> tuple[Message, ...]:
    """The messages with the sound that is to be shown in the place of each."""
    return tuple(
        replace(
            message,
            content=tuple(shown[place_of[one]] if isinstance(one, Audio) else one for one in message.content),
        )
        for message in messages
    )


def _heading(part: Audio, start_s: float) -> str:
    return f"[{clock(start_s)} - {clock(start_s + part.duration_s)}] "


def clock(time_s: float) -> str:
    """Seconds as "9:59" or "1:02:03"."""
    minutes, seconds = divmod(round(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def flatten(requests: Rows[Request]) -> tuple[list[Prompt], list[Sampling], list[tuple[int, int]]]:
    """Prompts and samplings of all parts for the engine, and each one's (request, part)."""
    places = [(number, part) for number, request in enumerate(requests) for part in range(len(request.parts))]
    prompts = [requests[number].parts[part].prompt for number, part in places]
    return prompts, [requests[number].sampling for number, _ in places], places


def in_order(
    requests: Rows[Request], places: Rows[tuple[int, int]], deltas: Generator[Delta, None, None]
) -> Iterator[Delta]:
    """One stream of deltas a request from those of its parts: a later part waits until the one before is complete."""
    joiners = [_Joiner(number, request) for number, request in enumerate(requests)]
    with closing(deltas):
        for delta in deltas:
            number, part = places[delta.index]
            yield from joiners[number].feed(part, delta)


class _Joiner:
    """Parts of one answer as one stream."""

    def __init__(self, index: int, request: Request) -> None:
        self._index = index
        self._headings = [part.heading for part in request.parts]
        self._waiting: list[list[Delta]] = [[] for _ in request.parts]
        self._ends: list[Delta] = []
        self._is_at_start = True

    def feed(self, part: int, delta: Delta) -> Iterator[Delta]:
        self._waiting[part].append(delta)
        while len(self._ends) < len(self._waiting) and self._waiting[len(self._ends)]:
            yield self._joined(self._waiting[len(self._ends)].pop(0))

    def _joined(self, delta: Delta) -> Delta:
        part = len(self._ends)
        text = delta.text
        if self._is_at_start:
            text = ("\n" if part else "") + self._headings[part] + text
        self._is_at_start = delta.finish_reason is not None
        if delta.finish_reason is None:
            return Delta(self._index, text, delta.token_ids, thoughts=delta.thoughts)
        self._ends.append(delta)
        if len(self._ends) < len(self._headings):
            return Delta(self._index, text, delta.token_ids, thoughts=delta.thoughts)
        return Delta(
            self._index, text, delta.token_ids, _reason(self._ends), _usage(self._ends), thoughts=delta.thoughts,
            notes=_notes(self._ends),
        )  # fmt: skip


def collect(
    requests: Rows[Request],
    places: Rows[tuple[int, int]],
    deltas: Iterable[Delta],
) -> list[Reply | FlamingoError]:
    """Whole answers, one a request, or why there is none."""
    of_part: dict[tuple[int, int], list[Delta]] = {place: [] for place in places}
    for delta in deltas:
        of_part[places[delta.index]].append(delta)
    replies: list[Reply | FlamingoError] = []
    for number, request in enumerate(requests):
        parts = [of_part[number, part] for part in range(len(request.parts))]
        failed = next((answer[-1].error for answer in parts if answer[-1].error is not None), None)
        if failed is not None:
            replies.append(failed)
            continue
        said = ["".join(delta.text for delta in answer) for answer in parts]
        texts = (part.heading + text for part, text in zip(request.parts, said, strict=True))
        token_ids = tuple(token for answer in parts for delta in answer for token in delta.token_ids)
        thoughts = "\n".join(filter(None, ("".join(delta.thoughts for delta in answer).strip() for answer in parts)))
        ends = [answer[-1] for answer in parts]
        notes = (*request.notes, *_notes(ends))
        replies.append(Reply("\n".join(texts), token_ids, _reason(ends), _usage(ends), notes, thoughts))
    return replies


def _reason(ends: list[Delta]) -> FinishReason:
    """Why the answer ended; of several parts, the first reason that is not the model's own end."""
    reasons = [end.finish_reason for end in ends if end.finish_reason is not None]
    assert len(reasons) == len(ends), "an answer without an end"
    return next((reason for reason in reasons if reason != "stop"), "stop")


def _notes(ends: list[Delta]) -> tuple[str, ...]:
    """What became known while the parts were answered, each once."""
    return tuple(dict.fromkeys(note for end in ends for note in end.notes))


def _usage(ends: list[Delta]) -> Usage:
    usages = [end.usage for end in ends if end.usage is not None]
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        audio_tokens=sum(usage.audio_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        audio_s=sum(usage.audio_s for usage in usages),
    )
