"""From any sound to what the encoder hears: load, cut into 30 s windows, count audio tokens, take log-mels.

`load` -> `limit` -> `split_windows` -> `log_mel_batch`. Files are decoded in `decode`; the rest is plain
arithmetic.
"""

from audioflamingo.audio.load import MAX_DURATION_S, Source, load, stated_duration_s
from audioflamingo.audio.mel import NUM_MEL_BINS, log_mel, log_mel_batch, mel_filters
from audioflamingo.audio.windows import (
    MIN_SAMPLES,
    WINDOW_SAMPLES,
    Parts,
    check_length,
    limit,
    num_audio_tokens,
    num_computed_frames,
    num_encoder_frames,
    num_mel_frames,
    num_windows,
    split_windows,
)

__all__ = [
    "MAX_DURATION_S",
    "MIN_SAMPLES",
    "NUM_MEL_BINS",
    "WINDOW_SAMPLES",
    "Parts",
    "Source",
    "check_length",
    "limit",
    "load",
    "log_mel",
    "log_mel_batch",
    "mel_filters",
    "num_audio_tokens",
    "num_computed_frames",
    "num_encoder_frames",
    "num_mel_frames",
    "num_windows",
    "split_windows",
    "stated_duration_s",
]
