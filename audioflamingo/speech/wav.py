"""The header of a WAV file or stream of speech: 16-bit mono PCM at the speaker's rate. No torch in here."""

from __future__ import annotations

import struct

from audioflamingo.speech.stream import BYTES_PER_SAMPLE, SPEECH_RATE_HZ

UNKNOWN_BYTES = 0xFFFFFFFF  # what the header of a stream says
HEADER_BYTES = 36  # behind its first length


def wav_header(num_bytes: int = UNKNOWN_BYTES) -> bytes:
    """What stands before so many bytes of PCM."""
    rate_bytes = SPEECH_RATE_HZ * BYTES_PER_SAMPLE
    form = struct.pack("<IHHIIHH", 16, 1, 1, SPEECH_RATE_HZ, rate_bytes, BYTES_PER_SAMPLE, 8 * BYTES_PER_SAMPLE)
    whole = min(num_bytes + HEADER_BYTES, UNKNOWN_BYTES)
    return b"RIFF" + struct.pack("<I", whole) + b"WAVEfmt " + form + b"data" + struct.pack("<I", num_bytes)
