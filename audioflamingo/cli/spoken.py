"""The words of many files as one batch: what is longer than a piece is heard in pieces, as hours are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from audioflamingo.cli.answering import Answerer
from audioflamingo.cli.batches import Answer, answers_of
from audioflamingo.cli.pace import Pace
from audioflamingo.errors import FlamingoError
from audioflamingo.longform import Spoken, as_values, spoken_at_once, spoken_in_pieces
from audioflamingo.prompt import TRANSCRIBE_PROMPT
from audioflamingo.types import Audio, Reply


def words_of(answerer: Answerer) -> Answer:
    """What writes down the words of some sounds; the model is loaded when the first sound was read."""
    at_once = answers_of(lambda: answerer.model, TRANSCRIBE_PROMPT, answerer.options)

    def answer(sounds: Sequence[Audio], progress: str) -> list[Reply | FlamingoError]:
        at_once_s = answerer.model.lengths.at_once_s
        short = [sound for sound in sounds if sound.duration_s <= at_once_s]
        replies = iter(at_once(short, progress) if short else ())
        return [
            _tidy(next(replies), sound) if sound.duration_s <= at_once_s else _in_pieces(answerer, sound)
            for sound in sounds
        ]

    return answer


def values_of(reply: Reply) -> dict[str, Any]:
    """What the JSON of a transcript holds beside the answer: what is said when."""
    return {"segments": as_values(reply.transcript)["segments"]} if isinstance(reply, Spoken) else {}


def _tidy(reply: Reply | FlamingoError, sound: Audio) -> Reply | FlamingoError:
    return reply if isinstance(reply, FlamingoError) else spoken_at_once(reply, sound)


def _in_pieces(answerer: Answerer, sound: Audio) -> Reply | FlamingoError:
    model = answerer.model
    pace = Pace(sound.duration_s)
    try:
        return spoken_in_pieces(
            model, sound, max_windows=model.defaults.max_windows, progress=pace.show, **answerer.options
        )
    except FlamingoError as error:
        return error
