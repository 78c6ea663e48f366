"""The words of a sound of any length, some pieces at once, in an order that can be gone on with."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from audioflamingo.errors import OptionError
from audioflamingo.longform.lengths import Lengths
from audioflamingo.longform.phrases import loud_stretches, phrases_of
from audioflamingo.longform.pieces import Place, pieces_of, stitch
from audioflamingo.longform.resume import Done, Progress
from audioflamingo.longform.transcript import Segment, Transcript
from audioflamingo.model.fingerprint import fingerprint
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.prompt import TRANSCRIBE_PROMPT, no_speech_note, spoken_words
from audioflamingo.types import SAMPLE_RATE_HZ, Audio, Message, Reply

PIECES_AT_ONCE = 8
HASHED_SAMPLES = 600 * SAMPLE_RATE_HZ

Told = Callable[[float, float], None]


class Transcriber(Protocol):
    """Answers many conversations as one batch; `audioflamingo.api.AudioFlamingo` does."""

    @property
    def name(self) -> str:
        """What it was loaded as."""

    @property
    def lengths(self) -> Lengths:
        """How it wants a sound cut."""

    def generate(self, conversations: Sequence[Sequence[Message]], **options: Any) -> list[Reply]:
        """One answer a conversation."""


def transcribe_long(
    model: Transcriber,
    audio: Audio,
    *,
    piece_s: float | None = None,
    overlap_s: float | None = None,
    pieces_at_once: int = PIECES_AT_ONCE,
    resume: str | Path | None = None,
    progress: Told | None = None,
    **options: Any,
) -> Transcript:
    """Write down the words of a sound of any length; a piece of which the model says that nobody speaks has none.

    Args:
        model: what hears the pieces.
        audio: the sound.
        piece_s: length of a piece, in seconds; by default what the model wants.
        overlap_s: what two neighbours share, likewise.
        pieces_at_once: pieces in one batch, which are also what an interruption loses at most.
        resume: a file that keeps what is done, so that the same call goes on after an interruption.
        progress: called with the seconds that are done and all seconds.
        options: of every answer.

    Raises:
        FlamingoError: the sound or an option is not usable, or the file belongs to something else or cannot be written.
    """
    if pieces_at_once < 1:
        raise OptionError(f"pieces_at_once is {pieces_at_once}, allowed: at least 1")
    if piece_s is None:
        alone_s = model.lengths.longest_piece_s
        piece_s = model.lengths.piece_s if audio.duration_s > alone_s else alone_s
    if overlap_s is None:
        overlap_s = model.lengths.overlap_s
    overlap_s = overlap_s if audio.duration_s > piece_s else 0.0
    pieces = list(pieces_of(audio, piece_s, overlap_s))
    key = "" if resume is None else _key(model, audio, piece_s, overlap_s, options)
    done = Progress(resume, key)
    for some in _batches(pieces[len(done) :], pieces_at_once):
        conversations = [(Message("user", (piece, TRANSCRIBE_PROMPT)),) for _, piece in some]
        done.add([_done(reply) for reply in model.generate(conversations, **options)])
        if progress:
            progress(_end_s(some[-1]), audio.duration_s)
    heard = [Segment(piece[0], _end_s(piece), done[number].text) for number, piece in enumerate(pieces)]
    segments = tuple(stitch(heard, place_in(audio)))
    notes = [cut_note(one) for number, one in enumerate(heard) if done[number].is_cut]
    if not notes and not any(one.text for one in segments):
        notes.append(no_speech_note(audio.name))
    return Transcript(segments, audio.duration_s, tuple(notes), tuple(_phrases(audio, segments)))


def _batches(pieces: Sequence[tuple[float, Audio]], size: int) -> Iterator[Sequence[tuple[float, Audio]]]:
    for start in range(0, len(pieces), size):
        yield pieces[start : start + size]


def _done(reply: Reply) -> Done:
    return Done(" ".join(spoken_words(reply.text).split()), reply.finish_reason == "length")


def _end_s(piece: tuple[float, Audio]) -> float:
    return piece[0] + piece[1].duration_s


def cut_note(segment: Segment) -> str:
    """What the author of a transcript should know of a piece whose answer had no room for all of its words."""
    return f"the words from {segment.start_s:.1f} s to {segment.end_s:.1f} s were cut at max_new_tokens; raise it"


def place_in(audio: Audio) -> Place:
    """For `stitch`: when so much of a segment's words is said, if they fill evenly what stands out of its quiet."""

    def place(segment: Segment, share: float) -> float:
        end_s, stretches = segment.start_s, loud_stretches(_samples(audio, segment))
        left_s = share * sum(end - start for start, end in stretches)
        for start, end in stretches:
            end_s = segment.start_s + start + min(left_s, end - start)
            if left_s <= end - start:
                break
            left_s -= end - start
        return end_s

    return place


def _samples(audio: Audio, segment: Segment) -> npt.NDArray[np.float32]:
    return audio.samples[round(segment.start_s * SAMPLE_RATE_HZ) : round(segment.end_s * SAMPLE_RATE_HZ)]


def _phrases(audio: Audio, segments: Sequence[Segment]) -> Iterator[Segment]:
    return itertools.chain.from_iterable(
        phrases_of(segment, loud_stretches(_samples(audio, segment))) for segment in segments if segment.text
    )


def _key(model: Transcriber, audio: Audio, piece_s: float, overlap_s: float, options: dict[str, Any]) -> str:
    weights = getattr(model, "model", None)  # the same name with another adapter is another model
    made_of = fingerprint(weights).dumps() if isinstance(weights, Flamingo) else ""
    parts = [model.name, made_of, piece_s, overlap_s, options]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    for start in range(0, len(audio.samples), HASHED_SAMPLES):  # hours at once would be copied at once
        digest.update(audio.samples[start : start + HASHED_SAMPLES].tobytes())
    return digest.hexdigest()
