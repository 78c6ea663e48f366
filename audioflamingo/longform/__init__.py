"""Sounds of any length: a transcript with times, stitched where its pieces overlap, and resumable.

`pieces` cuts and stitches, `lengths` says how a model wants it, `phrases` says when within a piece something is said,
`resume` keeps what is done, `forms` writes subtitles and values, `transcribe` puts them together, and `reply` makes an
answer of it.
"""

from audioflamingo.longform.forms import as_srt, as_values, as_vtt
from audioflamingo.longform.lengths import Lengths, lengths_of
from audioflamingo.longform.phrases import loud_stretches, phrases_of
from audioflamingo.longform.pieces import pieces_of, stitch
from audioflamingo.longform.reply import Spoken, spoken_at_once, spoken_in_pieces
from audioflamingo.longform.transcribe import PIECES_AT_ONCE, Transcriber, cut_note, place_in, transcribe_long
from audioflamingo.longform.transcript import Segment, Transcript

__all__ = [
    "PIECES_AT_ONCE",
    "Lengths",
    "Segment",
    "Spoken",
    "Transcriber",
    "Transcript",
    "as_srt",
    "as_values",
    "as_vtt",
    "cut_note",
    "lengths_of",
    "loud_stretches",
    "phrases_of",
    "pieces_of",
    "place_in",
    "spoken_at_once",
    "spoken_in_pieces",
    "stitch",
    "transcribe_long",
]
