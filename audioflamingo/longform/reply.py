"""A transcript as one answer: what is longer than a piece is heard in pieces, and what that cost is added up."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from audioflamingo.audio.windows import limit
from audioflamingo.longform.phrases import loud_stretches, phrases_of
from audioflamingo.longform.transcribe import Told, Transcriber, transcribe_long
from audioflamingo.longform.transcript import Segment, Transcript
from audioflamingo.prompt import spoken_words, with_note
from audioflamingo.types import Audio, Message, Reply, Usage


@dataclass(frozen=True)
class Spoken(Reply):
    """A transcript as an answer.

    Attributes:
        transcript: its words with times.
    """

    transcript: Transcript = field(default=Transcript((), 0.0), kw_only=True)


def spoken_at_once(reply: Reply, sound: Audio) -> Spoken:
    """The answer to a whole sound as its transcript, without the model's introduction."""
    whole = Segment(0.0, sound.duration_s, spoken_words(reply.text))
    phrases = tuple(phrases_of(whole, loud_stretches(sound.samples)) if whole.text.strip() else ())
    bare = with_note(replace(reply, text=whole.text), sound.name)
    return _spoken(bare, Transcript((whole,), sound.duration_s, bare.notes, phrases))


def spoken_in_pieces(
    model: Transcriber, sound: Audio, *, max_windows: int, progress: Told | None = None, **options: Any
) -> Spoken:
    """The words of a sound that is heard in pieces.

    Args:
        model: what hears them.
        sound: the sound; longer than so many windows it is refused or cut, if `long_audio` is not "split".
        max_windows: windows of 30 s.
        progress: called with the seconds that are done and all seconds.
        options: of every answer.

    Raises:
        FlamingoError: the sound is too long, or an option is not usable.
    """
    is_long = options.pop("long_audio", "error")
    notes: tuple[str, ...] = ()
    if is_long != "split":
        fitting = limit(sound, max_windows=max_windows, long_audio=is_long)
        ((sound, _),), notes = fitting.parts, fitting.notes
    counting = _Counting(model)
    transcript = transcribe_long(counting, sound, progress=progress, **options)
    together = counting.together(sound)
    return _spoken(replace(together, text=transcript.text, notes=(*notes, *transcript.notes)), transcript)


def _spoken(reply: Reply, transcript: Transcript) -> Spoken:
    return Spoken(reply.text, reply.token_ids, reply.finish_reason, reply.usage, reply.notes, transcript=transcript)


class _Counting:
    """A model, and what its answers were together."""

    def __init__(self, model: Transcriber) -> None:
        self.name, self.lengths = model.name, model.lengths
        self._model = model
        self._replies: list[Reply] = []

    def generate(self, conversations: Sequence[Sequence[Message]], **options: Any) -> list[Reply]:
        """One answer a conversation."""
        found = self._model.generate(conversations, **options)
        self._replies += found
        return found

    def together(self, sound: Audio) -> Reply:
        """All answers as one without words; the sound's seconds count once, whatever its pieces share."""
        reasons = [reply.finish_reason for reply in self._replies]
        used = [reply.usage for reply in self._replies]
        usage = Usage(
            sum(one.prompt_tokens for one in used),
            sum(one.audio_tokens for one in used),
            sum(one.completion_tokens for one in used),
            sound.duration_s,
        )
        tokens = tuple(itertools.chain.from_iterable(reply.token_ids for reply in self._replies))
        return Reply("", tokens, "length" if "length" in reasons else reasons[-1], usage)
