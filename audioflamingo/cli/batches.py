"""Many files, one question: read and answered some at a time, so that hundreds of files share the model's steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from audioflamingo.cli.output import show_progress
from audioflamingo.errors import FlamingoError

if TYPE_CHECKING:
    from audioflamingo.api import AudioFlamingo
    from audioflamingo.types import Audio, Reply

Answer: TypeAlias = "Callable[[Sequence[Audio], str], Sequence[Reply | FlamingoError]]"

FILES_AT_ONCE = 32
SECONDS_AT_ONCE = 1_800.0  # of sound: half an hour is 115 MB of samples, and 45,000 tokens at most


def in_batches(
    files: Sequence[str],
    read: Callable[[str], Audio],
    answer: Answer,
) -> Iterator[tuple[str, Reply | FlamingoError]]:
    """Each file in order with its reply, or with why there is none.

    Args:
        files: what to read.
        read: reads one of them.
        answer: answers some sounds as one batch; is told what to show meanwhile.
    """
    done = 0
    for some in _groups(files, read):
        which = "" if len(files) <= FILES_AT_ONCE else f" to {done + 1}-{done + len(some)} of {len(files)}"
        sounds = [sound for _, sound in some if not isinstance(sound, FlamingoError)]
        replies = iter(answer(sounds, f"listening{which}") if sounds else ())
        for file, sound in some:
            yield file, sound if isinstance(sound, FlamingoError) else next(replies)
        done += len(some)


def answers_of(model: Callable[[], AudioFlamingo], question: str, options: dict[str, Any]) -> Answer:
    """What answers a batch of sounds with one question; the model is asked for when the first sound was read."""

    def answer(sounds: Sequence[Audio], progress: str) -> list[Reply | FlamingoError]:
        from audioflamingo.types import Message

        loaded = model()
        show_progress(progress)
        return loaded.generate([(Message("user", (sound, question)),) for sound in sounds], errors="return", **options)

    return answer


def _groups(files: Sequence[str], read: Callable[[str], Audio]) -> Iterator[list[tuple[str, Audio | FlamingoError]]]:
    """Files with their sounds, or why one cannot be read, until a group is full."""
    waiting = iter(files)
    while True:
        group: list[tuple[str, Audio | FlamingoError]] = []
        duration_s = 0.0
        for file in itertools.islice(waiting, FILES_AT_ONCE):
            sound = _tried(read, file)
            group.append((file, sound))
            duration_s += 0.0 if isinstance(sound, FlamingoError) else sound.duration_s
            if duration_s >= SECONDS_AT_ONCE:
                break
        if not group:
            return
        yield group


def _tried(read: Callable[[str], Audio], file: str) -> Audio | FlamingoError:
    try:
        return read(file)
    except FlamingoError as error:
        return error
