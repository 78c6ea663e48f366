"""When each word of a recording is said: CTC alignment by the embedded model's encoder and its head of letters.

Shapes: N samples at 16 kHz, S encoder frames of 20 ms, C characters of the text, Z = 2 C + 1 places of a CTC path.
Source: Graves et al. 2006 (the path), here the likeliest one by Viterbi.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from audioflamingo.audio import log_mel_batch
from audioflamingo.config import WINDOW_S
from audioflamingo.errors import CheckpointError, FlamingoError
from audioflamingo.model.attention import Packing
from audioflamingo.model.weights import load_flamingo
from audioflamingo.train.nano_items import CTC_ALPHABET
from audioflamingo.types import SAMPLE_RATE_HZ

ASSETS = Path(__file__).parents[1] / "assets"
FRAME_S = 0.02
EDGE_S = 0.03  # a letter's frame is where it is recognised, its sound begins a little before and ends a little after
HOP_S = 0.01
MIN_PAUSE_S = 0.06
FAINT, FAINT_S = "pbtdkgcqfhv", 0.08  # first letters: a stop is silent at first, f, h and th hardly louder
QUIET_DB = 28.0  # below the loudest part: what stands between words is a pause
MIN_LETTER_SCORE = -4.0  # mean log-probability of the letters: below it the text is not what is said
Floats = npt.NDArray[np.float32]


class AlignmentError(FlamingoError):
    """A recording and its text do not fit each other."""


@dataclass(frozen=True)
class WordTime:
    """A word's place in the recording, in seconds. A gap to the next one is a pause."""

    start_s: float
    end_s: float


class CtcAligner:
    """The embedded model as a judge of when letters are said.

    Args:
        checkpoint: folder of the model.
        heads: the file of heads that were trained with it.

    Raises:
        CheckpointError: they are missing, damaged, or do not belong together.
    """

    def __init__(self, checkpoint: Path = ASSETS / "nano", heads: Path = ASSETS / "nano_training/heads.safetensors"):
        self._encoder = load_flamingo(checkpoint, dtype=torch.float32).encoder.eval().requires_grad_(False)
        width = self._encoder.config.width
        self._norm, self._head = nn.LayerNorm(width), nn.Linear(width, len(CTC_ALPHABET) + 1)
        try:
            stored = load_file(heads)
            for name, module in (("ctc_norm", self._norm), ("ctc", self._head)):
                module.load_state_dict({key: stored[f"{name}.{key}"].float() for key in ("weight", "bias")})
        except (OSError, KeyError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(f"{heads} holds no letters' head for {checkpoint}: {error}") from error

    @torch.inference_mode()
    def letter_scores(self, samples: Floats) -> npt.NDArray[np.float32]:
        """(N,) samples to (S, 1 + letters) log-probabilities; the blank is first.

        Raises:
            AlignmentError: the recording is empty or longer than a window.
        """
        if not 0 < len(samples) <= WINDOW_S * SAMPLE_RATE_HZ:
            raise AlignmentError(
                f"the recording takes {len(samples) / SAMPLE_RATE_HZ:.1f} s; a voice learns from up to {WINDOW_S} s. "
                "Cut it at sentences"
            )
        mel, num_mel_frames = log_mel_batch([samples])
        x, lengths = self._encoder.embed_frames(mel, list(num_mel_frames))
        packing = Packing.of(lengths, x.device)
        for layer in self._encoder.layers:
            x = layer(x, packing)
        scores: Tensor = functional.log_softmax(self._head(self._norm(x)), -1)
        return scores.numpy()

    def word_times(self, samples: Floats, words: list[str]) -> list[WordTime]:
        """When each word is said.

        Args:
            samples: (N,) float32 at 16 kHz, up to 30 s.
            words: of letters a-z and inner apostrophes, all that is said and nothing else.

        Raises:
            AlignmentError: too long, too short for its text, or another text is said.
        """
        letters = [CTC_ALPHABET.index(letter) + 1 for letter in " ".join(words)]
        frames, score = letter_frames(self.letter_scores(samples), letters)
        if score < MIN_LETTER_SCORE:
            raise AlignmentError(f"the text does not seem to be what is said (letters score {score:.1f})")
        ends = np.cumsum([len(word) + 1 for word in words]) - 2  # of each word, in letters with blanks
        starts = ends + 1 - np.array([len(word) for word in words])
        spans = [
            (frames[start] * FRAME_S, (frames[end] + 1) * FRAME_S) for start, end in zip(starts, ends, strict=True)
        ]
        return _bordered(spans, [word[0] in FAINT for word in words], _levels_db(samples))


def letter_frames(scores: Floats, letters: list[int]) -> tuple[npt.NDArray[np.int64], float]:
    """The likeliest frame of each letter, and the mean log-probability of the letters there.

    Args:
        scores: (S, V) log-probabilities; column 0 is the blank.
        letters: (C,) columns in the order of the text.

    Raises:
        AlignmentError: there are more letters than frames.
    """
    labels = np.zeros(2 * len(letters) + 1, np.int64)
    labels[1::2] = letters
    num_frames, num_places = len(scores), len(labels)
    may_skip = np.zeros(num_places, bool)
    may_skip[3::2] = labels[3::2] != labels[1:-2:2]
    best = np.full(num_places, -np.inf, np.float32)
    best[:2] = scores[0, labels[:2]]
    came = np.zeros((num_frames, num_places), np.int8)
    for frame in range(1, num_frames):
        ways = np.stack([best, _moved(best, 1), np.where(may_skip, _moved(best, 2), -np.inf)])
        came[frame] = ways.argmax(0)
        best = ways.max(0) + scores[frame, labels]
    place = num_places - 1 if best[-1] >= best[-2] else num_places - 2
    if not np.isfinite(best[place]):
        raise AlignmentError(f"{len(letters)} letters do not fit into {num_frames * FRAME_S:.1f} s of sound")
    path = np.empty(num_frames, np.int64)
    for frame in range(num_frames - 1, -1, -1):
        path[frame] = place
        place -= int(came[frame, place])
    chosen = np.empty(len(letters), np.int64)
    for number in range(len(letters)):
        at = np.flatnonzero(path == 2 * number + 1)
        chosen[number] = at[scores[at, letters[number]].argmax()]
    return chosen, float(scores[chosen, letters].mean())


def _moved(row: Floats, by: int) -> Floats:
    return np.concatenate([np.full(by, -np.inf, np.float32), row[:-by]])


def _levels_db(samples: Floats) -> Floats:
    """(hops of 10 ms,) smoothed level."""
    size = round(HOP_S * SAMPLE_RATE_HZ)
    padded = np.pad(samples, (0, -len(samples) % size)).reshape(-1, size)
    power = np.square(padded).mean(1)
    smooth = np.convolve(power, np.ones(3) / 3, "same")
    return (10 * np.log10(smooth + 1e-10)).astype(np.float32)


def _bordered(spans: list[tuple[float, float]], are_faint: list[bool], levels: Floats) -> list[WordTime]:
    """Letters' frames to words' sound: what lies between two words is shared, or is a pause.

    A word that begins with a stop or a faint consonant begins before it is loud.
    """
    quiet = levels < np.max(levels) - QUIET_DB
    loud = np.flatnonzero(~quiet)
    starts = [min(float(loud[0]) * HOP_S, spans[0][0])]
    ends = []
    for ((_, end), (start, _)), is_faint in zip(pairwise(spans), are_faint[1:], strict=True):
        first, last = _border(levels, quiet, end - EDGE_S, max(start, end))
        last = max(first, last - FAINT_S) if is_faint and last > first else last
        ends.append(first)
        starts.append(last)
    ends.append(max(float(loud[-1] + 1) * HOP_S, spans[-1][1]))
    return [WordTime(start, end) for start, end in zip(starts, ends, strict=True)]


def _border(levels: Floats, quiet: npt.NDArray[np.bool_], begin_s: float, end_s: float) -> tuple[float, float]:
    """Where the word before ends and the word after begins, within the sound between their letters."""
    begin, end = round(begin_s / HOP_S), max(round(end_s / HOP_S), round(begin_s / HOP_S) + 1)
    hushed = np.flatnonzero(quiet[begin:end])
    if len(hushed) * HOP_S >= MIN_PAUSE_S:
        return (begin + int(hushed[0])) * HOP_S, (begin + int(hushed[-1]) + 1) * HOP_S
    # A letter is recognised after it has begun: the next word begins before its first letter's frame.
    middle = (begin_s + end_s) / 2
    return middle, middle
