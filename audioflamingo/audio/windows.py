"""Windows of 30 s and what they count: mel frames, encoder frames, audio tokens (paper, section 3.1).

One window of n samples has L = ceil(n / 160) mel frames of 10 ms, (L - 1) // 2 + 1 encoder frames of 20 ms (conv2 has
stride 2) and half as many audio tokens of 40 ms, rounded down. A whole sound has the sum over its windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, get_args

import numpy as np
import numpy.typing as npt
import torch

from audioflamingo.config import HOP_SAMPLES, MAX_WINDOWS, MEL_FRAMES_PER_WINDOW, WINDOW_S
from audioflamingo.errors import AudioError, OptionError
from audioflamingo.types import SAMPLE_RATE_HZ, Audio, LongAudio

WINDOW_SAMPLES = WINDOW_S * SAMPLE_RATE_HZ
MIN_SAMPLES = 2 * HOP_SAMPLES + 1  # three mel frames, the fewest that make one audio token
CONV_REACH_FRAMES = 2  # valid encoder frames see this many mel frames past the valid ones, no more

Samples = TypeVar("Samples", npt.NDArray[np.float32], torch.Tensor)


@dataclass(frozen=True)
class Parts:
    """A sound made to fit the model.

    Attributes:
        parts: the sounds to be heard, in order, each with the second at which it starts in the original.
        notes: what its author should know of: what was cut off, dropped, or split.
    """

    parts: tuple[tuple[Audio, float], ...]
    notes: tuple[str, ...] = ()


def num_windows(num_samples: int) -> int:
    """Windows of a sound of `num_samples`; the last may be short."""
    return -(-num_samples // WINDOW_SAMPLES)


def num_mel_frames(num_samples: int) -> int:
    """Valid mel frames of one window of `num_samples`."""
    return -(-num_samples // HOP_SAMPLES)


def num_computed_frames(num_samples: int) -> int:
    """Mel frames of one window that can differ from its floor and that its encoder frames can see."""
    return min(num_mel_frames(num_samples) + CONV_REACH_FRAMES, MEL_FRAMES_PER_WINDOW)


def num_encoder_frames(num_mel_frames: int) -> int:
    """Valid encoder frames of one window with `num_mel_frames` valid mel frames."""
    return (num_mel_frames - 1) // 2 + 1


def num_audio_tokens(num_samples: int) -> int:
    """Audio tokens of a sound of `num_samples`, be it one window or many."""
    full, rest = divmod(num_samples, WINDOW_SAMPLES)
    return full * _tokens_of_window(WINDOW_SAMPLES) + _tokens_of_window(rest)


def _tokens_of_window(num_samples: int) -> int:
    return num_encoder_frames(num_mel_frames(num_samples)) // 2


def split_windows(samples: Samples) -> list[Samples]:
    """Cut (N,) samples into windows of 30 s without copying; the last holds the rest and is not padded."""
    return [samples[start : start + WINDOW_SAMPLES] for start in range(0, len(samples), WINDOW_SAMPLES)]


def check_length(audio: Audio) -> None:
    """Refuse a sound without a single audio token.

    Raises:
        AudioError: it has fewer than `MIN_SAMPLES` samples.
    """
    if len(audio.samples) < MIN_SAMPLES:
        raise AudioError(
            f"{audio.name} is {seconds(len(audio.samples))} ({len(audio.samples)} samples at {SAMPLE_RATE_HZ} Hz); "
            f"one audio token needs more than {seconds(MIN_SAMPLES - 1)}. Give a longer sound."
        )


def limit(audio: Audio, *, max_windows: int = MAX_WINDOWS, long_audio: LongAudio = "error") -> Parts:
    """Make a sound fit into `max_windows` windows.

    Args:
        audio: the sound.
        max_windows: the most windows that one part may have.
        long_audio: for a sound that is longer: "error" refuses it, "truncate" keeps its beginning, "split" gives
            consecutive parts, each of them full but the last. A last part too short for one audio token is dropped.

    Raises:
        AudioError: the sound is too long and `long_audio` is "error".
        OptionError: an option has a value that is not allowed.
    """
    _check_options(max_windows, long_audio)
    max_samples = max_windows * WINDOW_SAMPLES
    if len(audio.samples) <= max_samples:
        return Parts(((audio, 0.0),))
    length, most = seconds(len(audio.samples)), seconds(max_samples)
    if long_audio == "error":
        raise AudioError(
            f"{audio.name} is {length}; the model takes at most {most} ({max_windows} windows of {WINDOW_S} s). "
            "Pass long_audio='truncate' or 'split', or cut the file."
        )
    if long_audio == "truncate":
        first = Audio(audio.samples[:max_samples], audio.name)
        return Parts(((first, 0.0),), (f"{audio.name} is {length}; only its first {most} were kept.",))
    return _split(audio, max_samples)


def _check_options(max_windows: int, long_audio: str) -> None:
    if long_audio not in get_args(LongAudio):
        raise OptionError(f"long_audio is {long_audio!r}; allowed are {', '.join(map(repr, get_args(LongAudio)))}.")
    if max_windows < 1:
        raise OptionError(f"max_windows is {max_windows}; it must be at least 1.")


def _split(audio: Audio, max_samples: int) -> Parts:
    starts = list(range(0, len(audio.samples), max_samples))
    notes = []
    rest = len(audio.samples) - starts[-1]
    if rest < MIN_SAMPLES:
        starts.pop()
        notes.append(f"The last {seconds(rest)} of {audio.name} were dropped: too short for one audio token.")
    if len(starts) > 1:
        length, most = seconds(len(audio.samples)), seconds(max_samples)
        notes.insert(0, f"{audio.name} is {length}; it was split into {len(starts)} parts of at most {most}.")
    parts = tuple(
        (Audio(audio.samples[start : start + max_samples], f"{audio.name} from {seconds(start)}"), start_s)
        for start, start_s in ((start, start / SAMPLE_RATE_HZ) for start in starts)
    )
    return Parts(parts, tuple(notes))


def seconds(num_samples: int) -> str:
    """`num_samples` as seconds in words, to the millisecond: "912.4 s"."""
    return f"{num_samples / SAMPLE_RATE_HZ:.3f}".rstrip("0").rstrip(".") + " s"
