"""Sounds of any length: a transcript with times, stitched where its pieces overlap, and resumable.

`pieces` cuts and stitches, `phrases` says when within a piece something is said, `resume` keeps what is done, `forms`
writes subtitles and values, and `transcribe` puts them together.
"""

from audioflamingo.longform.forms import as_srt, as_values, as_vtt
from audioflamingo.longform.phrases import loud_stretches, phrases_of
from audioflamingo.longform.pieces import pieces_of, stitch
from audioflamingo.longform.transcribe import PIECES_AT_ONCE, Transcriber, transcribe_long
from audioflamingo.longform.transcript import Segment, Transcript

__all__ = [
    "PIECES_AT_ONCE",
    "Segment",
    "Transcriber",
    "Transcript",
    "as_srt",
    "as_values",
    "as_vtt",
    "loud_stretches",
    "phrases_of",
    "pieces_of",
    "stitch",
    "transcribe_long",
]
