"""Asking several questions about one sound as a batch, and reading what comes back; what cannot be read is an error."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from audioflamingo.errors import AnswerError, OptionError
from audioflamingo.facts.questions import Question
from audioflamingo.types import Audio, Message, Reply

MAX_SHOWN_CHARS = 60
_NO_ANSWER = re.compile(
    r"\W*(?:$|(?:unknown|unclear|n/?a|yes|no)\W*$|i (?:do not|don't|cannot|can't)\b|(?:it )?(?:cannot|can't) be\b|"
    r"the (?:recording|audio|clip) does not say|nothing\b|none\b|there is nothing)",
    re.IGNORECASE,
)
_NOTHING = re.compile(r"\W*(?:$|nothing\b|none\b|there is nothing|silence\W*$)", re.IGNORECASE)
_SPLIT = re.compile(r"\s*(?:,|;|\n|\b(?:and|then|with|over|while|followed by)\b)\s*", re.IGNORECASE)
_FILLER = re.compile(
    r"^(?:i (?:can )?hear|there (?:is|are)|it is|this is|it's|the sounds? of|a|an|the|some|[-*])\s+"
    r"|\s+in the background$",
    re.IGNORECASE,
)

# Of the words for music those that name nothing else: birds have songs, and a single note has its instrument.
_MUSIC = re.compile(r"\b(?:music|musical|melody|melodies|orchestra)\b", re.IGNORECASE)
# Those for speech; a voice may sing.
_SPEECH = re.compile(r"\b(?:speak(?:s|ing)|talk(?:s|ing)|speech|conversation)\b", re.IGNORECASE)
_DENIED = re.compile(r"\b(?:no|not|without)\b[^,.;]*", re.IGNORECASE)


class Asked(Protocol):
    """Answers many conversations as one batch; `audioflamingo.api.AudioFlamingo` does."""

    def generate(self, conversations: Sequence[Any], **options: Any) -> list[Reply]:
        """One answer a conversation."""


def answers(model: Asked, sound: Audio, questions: Iterable[Question], options: dict[str, Any]) -> dict[str, str]:
    """The answer to each question by its name; of a question with choices, what the chosen one means.

    Args:
        model: what hears the sound.
        sound: the sound.
        questions: asked as one batch, each by itself.
        options: of all answers, see `Options`.

    Raises:
        AnswerError: an answer is empty, was cut, or says that the model cannot tell.
        OptionError: an option says what the answers must be, which the questions do.
    """
    return {one.name: _read(one, reply, sound) for one, reply in _asked(model, sound, questions, options)}


def told(
    model: Asked, sound: Audio, questions: Iterable[Question], options: dict[str, Any]
) -> tuple[dict[str, str | None], tuple[str, ...]]:
    """Like `answers`, with None where the model does not tell, and a line for each of these that says what it answered.

    Raises:
        OptionError: an option says what the answers must be, which the questions do.
    """
    found: dict[str, str | None] = {}
    untold: list[str] = []
    for question, reply in _asked(model, sound, questions, options):
        try:
            found[question.name] = _read(question, reply, sound)
        except AnswerError as error:
            found[question.name] = None
            untold.append(str(error))
    return found, tuple(untold)


def _asked(
    model: Asked, sound: Audio, questions: Iterable[Question], options: dict[str, Any]
) -> Iterator[tuple[Question, Reply]]:
    if taken := [name for name in ("schema", "choices") if name in options]:
        raise OptionError(f"{taken[0]} came, but these questions have their own; ask or extract takes it")
    asked = list(questions)
    replies = model.generate(
        [(Message("user", (sound, question.text)),) for question in asked],
        each=[_own_options(question, options) for question in asked],
        **options,
    )
    return zip(asked, replies, strict=True)


def listed(text: str) -> tuple[str, ...]:
    """The things that an answer lists, lower case, without articles and introductions, none twice.

    "A dog, then rain in the background." gives dog and rain, "Nothing but noise." nothing.
    """
    found: dict[str, None] = {}
    if _NOTHING.match(text):
        return ()
    for part in _SPLIT.split(text.strip().rstrip(".")):
        label = part.strip(" .!?\n").lower()
        while (shorter := _FILLER.sub("", label)) != label:
            label = shorter
        if not _NOTHING.match(label):
            found[label] = None
    return tuple(found)


def names_music(text: str) -> bool:
    """Whether an answer to "What do you hear?" has music in it: "Music, then a man speaking." but not "No music."."""
    return bool(_MUSIC.search(_DENIED.sub("", text)))


def names_speech(text: str) -> bool:
    """Whether an answer to "What do you hear?" has speech in it: "A man speaking." but not "There is no speech."."""
    return bool(_SPEECH.search(_DENIED.sub("", text)))


def hears_speech(is_affirmed: bool, named: str) -> bool:
    """Whether somebody speaks, by an answer to "Is anyone speaking?" and what is named by one to "What do you hear?".

    Small models affirm speech in music at times; they name it where it is.
    """
    return names_speech(named) or (is_affirmed and listed(named) != ("music",))


def _own_options(question: Question, options: dict[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {} if "max_new_tokens" in options else {"max_new_tokens": question.max_new_tokens}
    return own if question.choices is None else own | {"choices": tuple(question.choices)}


def _read(question: Question, reply: Reply, sound: Audio) -> str:
    if question.choices is not None:
        return question.choices[reply.text]
    text = reply.text.strip()
    if reply.finish_reason == "length":
        raise AnswerError(f"the {question.name} of {sound.name} was cut, at {_shown(text)}; raise max_new_tokens")
    if _NO_ANSWER.match(text) and not (text and question.may_be_nothing):
        raise AnswerError(
            f"the model does not tell the {question.name} of {sound.name}, it answers {_shown(text)}; ask in your own "
            "words, or use a larger model"
        )
    return text


def _shown(text: str) -> str:
    return repr(text if len(text) <= MAX_SHOWN_CHARS else f"{text[: MAX_SHOWN_CHARS - 3]}...")
