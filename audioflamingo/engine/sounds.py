"""Sounds of a prompt as windows with keys: what is encoded once, however often and wherever it is heard."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from audioflamingo.audio import num_audio_tokens, split_windows
from audioflamingo.engine.content import Samples, SoundKeys
from audioflamingo.engine.sequence import Piece
from audioflamingo.errors import PromptError
from audioflamingo.types import Audio, Prompt

_known: WeakKeyDictionary[Audio, SoundKeys] = WeakKeyDictionary()


def audible_windows(samples: Samples) -> list[Samples]:
    """The 30 s windows of (N,) samples, without a last one that is too short for an audio token."""
    return [window for window in split_windows(samples) if num_audio_tokens(len(window))]


def pieces_of(prompt: Prompt, sound_id: int, *, are_numbered: bool) -> tuple[Piece, ...]:
    """Windows of all sounds of a prompt where they stand in it.

    Their keys are not taken yet: that is for whoever needs them first.

    Args:
        prompt: ids and sounds.
        sound_id: the placeholder's id.
        are_numbered: whether the model hears a window otherwise by its number within its sound.

    Raises:
        PromptError: placeholders and audio tokens do not agree.
    """
    pieces: list[Piece] = []
    for span in prompt.spans:
        pieces += pieces_of_sound(prompt.audios[span.audio_index], span.start, are_numbered=are_numbered)
    _check(prompt, pieces, sound_id)
    return tuple(pieces)


def pieces_of_sound(audio: Audio, start: int = 0, *, are_numbered: bool) -> list[Piece]:
    """Windows of one sound whose first audio token stands at position `start`; see `pieces_of`."""
    pieces = []
    windows = audible_windows(audio.samples)
    keys = _known.get(audio) or _known.setdefault(audio, SoundKeys(windows))  # kept as long as the sound is
    for number, window in enumerate(windows):
        pieces.append(Piece(start, num_audio_tokens(len(window)), window, number, are_numbered, keys))
        start = pieces[-1].end
    return pieces


def _check(prompt: Prompt, pieces: list[Piece], sound_id: int) -> None:
    num_placeholders = prompt.ids.count(sound_id)
    num_heard = sum(piece.num_tokens for piece in pieces)
    are_in_place = all(prompt.ids[piece.start] == prompt.ids[piece.end - 1] == sound_id for piece in pieces)
    if num_placeholders != num_heard or not are_in_place:
        raise PromptError(
            f"{num_placeholders} audio placeholders stand in the prompt but {num_heard} audio tokens came; "
            "build prompts with audioflamingo.prompt so that the two agree"
        )
