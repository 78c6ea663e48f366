"""The words in an answer that should be a transcript: none where the model says that nobody speaks."""

from __future__ import annotations

from dataclasses import replace

from audioflamingo.prompt.phrases import strip_transcription
from audioflamingo.types import Reply

# Whole answers, bare: the embedded model's own, and what others would say. "Silence." is none: people say it, too.
_ABSENT = ("there is no speech", "there is no spoken content", "there are no spoken words", "no speech")
_THINGS = ("audio", "recording", "clip")
_PLACES = ("", *(f" in {which} {thing}" for which in ("the", "this") for thing in _THINGS))
NO_SPEECH = frozenset(
    {
        *(absent + place for absent in _ABSENT for place in _PLACES),
        *(f"the {thing} contains no speech" for thing in _THINGS),
        *(f"the {thing} does not contain any speech" for thing in _THINGS),
        "no speech detected", "no speech is heard", "no speech can be heard", "no speech was detected",
        "no one is speaking", "nobody is speaking",
        "nothing recognisable only noise",  # what the embedded model says of noise and silence, whatever is asked
    }
)  # fmt: skip


def spoken_words(text: str) -> str:
    """The bare transcript of an answer, as `strip_transcription` gives it; empty if it says that nobody speaks.

    The whole answer is compared, without case and signs. Someone who says just such a sentence is not told from it.
    """
    words = strip_transcription(text)
    return "" if _bare(words) in NO_SPEECH else words


def may_say_no_speech(text: str) -> bool:
    """Whether the beginning of an answer may become one that says that nobody speaks."""
    begun = _bare(text)
    return any(one.startswith(begun) for one in NO_SPEECH)


def no_speech_note(name: str) -> str:
    """What the author of an empty transcript is told; `name` is the sound's."""
    return f"no speech is heard in {name}"


def with_note(reply: Reply, name: str) -> Reply:
    """A transcript with a note where it has no words, and had room for them; `name` is the sound's."""
    if reply.text.strip() or reply.finish_reason == "length":
        return reply
    return replace(reply, notes=(*reply.notes, no_speech_note(name)))


def _bare(text: str) -> str:
    return " ".join("".join(letter for letter in text.casefold() if letter.isalnum() or letter.isspace()).split())
