"""The part of a loaded model that answers in typed values. Every method takes the options of `Options` as keywords."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from audioflamingo.audio import Source
from audioflamingo.audio import load as load_audio
from audioflamingo.errors import AnswerError, OptionError
from audioflamingo.facts import questions
from audioflamingo.facts.asking import Asked, answers, hears_speech, listed, names_music, told
from audioflamingo.facts.results import Emotion, Pace, SongFacts, Tags
from audioflamingo.types import Audio

MAX_LABELS = 1_000
_NUMBER = re.compile(r"\d+|one|two|three|four|five|six|seven|eight|nine|ten")  # how many, where which was asked


class FactsModel:
    """What a model inherits that answers conversations by `generate`."""

    def emotion(self, audio: Source, *, sample_rate_hz: int | None = None, **options: Any) -> Emotion:
        """How someone speaks: a label, the tone of voice, and the evidence heard.

        Raises:
            AnswerError: nobody speaks, or the model cannot tell the label.
            FlamingoError: the sound or an option is not usable.
        """
        sound = load_audio(audio, sample_rate_hz=sample_rate_hz)
        if not self._hears_speech(sound, options):
            raise _absent(questions.IS_SPEECH, sound)
        found, untold = told(self._model, sound, (questions.EMOTION, questions.TONE), options)
        label, tone = _chosen(found, questions.EMOTION), found[questions.TONE.name]
        if label == questions.UNCLEAR:
            raise AnswerError(f"the model cannot tell the emotion in {sound.name}; give more of the voice")
        why = questions.Question("evidence", questions.EVIDENCE.format(label=label), None, questions.LONG_TOKENS)
        try:
            return Emotion(label, tone, answers(self._model, sound, (why,), options)[why.name], untold)
        except AnswerError as error:
            return Emotion(label, tone, None, (*untold, str(error)))

    def tags(
        self, audio: Source, *, among: Sequence[str] | None = None, sample_rate_hz: int | None = None, **options: Any
    ) -> Tags:
        """What is heard.

        Args:
            audio: the sound.
            among: the labels that may come, such as "a dog barking"; each is asked for by itself. None lets the model
                name what it hears.
            sample_rate_hz: rate of an array.
            options: see `Options`.

        Raises:
            AnswerError: the answer was cut.
            FlamingoError: the sound, a label or an option is not usable.
        """
        sound = load_audio(audio, sample_rate_hz=sample_rate_hz)
        if among is None:
            return Tags(listed(answers(self._model, sound, (questions.SOUNDS,), options)[questions.SOUNDS.name]))
        labels = tuple(among)
        if isinstance(among, str) or len(set(labels)) < len(labels) or not 0 < len(labels) <= MAX_LABELS:
            raise OptionError(f"among is {str(among)[:60]!r}, allowed: a list of 1 to {MAX_LABELS:,} different labels")
        asked = [questions.yes_or_no(label, questions.PRESENT.format(label=label)) for label in labels]
        found = answers(self._model, sound, asked, options)
        return Tags(tuple(label for label in labels if found[label] == "yes"))

    def song(self, audio: Source, *, sample_rate_hz: int | None = None, **options: Any) -> SongFacts:
        """Genre, mood, instruments, tempo, key and structure of music.

        Raises:
            AnswerError: there is no music.
            FlamingoError: the sound or an option is not usable.
        """
        sound = load_audio(audio, sample_rate_hz=sample_rate_hz)
        if not self._hears_music(sound, options):
            raise _absent(questions.IS_MUSIC, sound)
        found, untold = told(self._model, sound, questions.SONG, options)
        instruments = found[questions.INSTRUMENTS.name]
        names = tuple(name for name in listed(instruments or "") if not _NUMBER.fullmatch(name))
        if instruments and not names:
            untold = (*untold, f"the model names no instrument in {sound.name}; ask in your own words")
        return SongFacts(
            genre=_bare(found[questions.GENRE.name]),
            mood=_bare(found[questions.MOOD.name]),
            instruments=names,
            tempo_bpm=int(_chosen(found, questions.TEMPO)),
            pace=cast(Pace, _chosen(found, questions.PACE)),
            key=_chosen(found, questions.KEY),
            structure=found[questions.STRUCTURE.name],
            untold=untold,
        )

    @property
    def _model(self) -> Asked:
        return cast(Asked, self)

    def _hears_speech(self, sound: Audio, options: dict[str, Any]) -> bool:
        """Whether the model says so, asked in both ways."""
        found, _ = told(self._model, sound, (questions.IS_SPEECH, questions.SOUNDS), options)
        return hears_speech(found[questions.IS_SPEECH.name] == "yes", found[questions.SOUNDS.name] or "")

    def _hears_music(self, sound: Audio, options: dict[str, Any]) -> bool:
        """Whether the model says so, asked in either way: small models name it, but do not always affirm it."""
        found, _ = told(self._model, sound, (questions.IS_MUSIC, questions.SOUNDS), options)
        is_affirmed = found[questions.IS_MUSIC.name] == "yes"
        return is_affirmed or names_music(found[questions.SOUNDS.name] or "")


def _absent(question: questions.Question, sound: Audio) -> AnswerError:
    return AnswerError(f"the model hears no {question.name} in {sound.name}; give a sound with {question.name}")


def _chosen(found: Mapping[str, str | None], question: questions.Question) -> str:
    value = found[question.name]
    assert value is not None, "a question with choices always has an answer"
    return value


def _bare(text: str | None) -> str | None:
    return text.rstrip(".") if text else None
