"""What is lost where a recording is coded: G.711's two laws, IMA's ADPCM, and a transform codec (`transform_codec`).

Everything takes and gives (N,) float32 mono samples at 16 kHz within [-1, 1] and keeps N; nothing is drawn and nothing
is moved in time. The laws and the ADPCM are those of the standards to the last bit, over the 16-bit samples that a file
would hold, but at our rate: a narrow band is `rooms.band_limit`'s business.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from audioflamingo.errors import OptionError
from audioflamingo.world.rooms import codec_like
from audioflamingo.world.transform_codec import LEAST_KBPS, MOST_KBPS, transform_coded

Samples = npt.NDArray[np.float32]
Pcm = npt.NDArray[np.int16]
Codes = npt.NDArray[np.uint8]

FULL = 32_767  # as `export.pcm16`
ANY, TRANSFORM, AT = "any", "transform", "@"
RATES_KBPS = (16, 20, 24, 32, 48)  # of the transform codec where none is asked for; at lower ones birds are not heard

A_LAW_INVERTED = 0x55  # every other bit of a code, so that silence has edges on the line

# Of the IMA's recommended practices (1992): each step about a tenth larger than the one before; a code of four bits is
# a sign and how many halves, quarters and eighths of a step there are, and moves the place in the table.
STEPS = np.array([
    7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23, 25, 28, 31, 34, 37, 41, 45, 50, 55, 60, 66, 73, 80, 88, 97, 107,
    118, 130, 143, 157, 173, 190, 209, 230, 253, 279, 307, 337, 371, 408, 449, 494, 544, 598, 658, 724, 796, 876, 963,
    1060, 1166, 1282, 1411, 1552, 1707, 1878, 2066, 2272, 2499, 2749, 3024, 3327, 3660, 4026, 4428, 4871, 5358, 5894,
    6484, 7132, 7845, 8630, 9493, 10442, 11487, 12635, 13899, 15289, 16818, 18500, 20350, 22385, 24623, 27086, 29794,
    32767,
], np.int32)  # fmt: skip
MOVES = np.array([-1, -1, -1, -1, 2, 4, 6, 8], np.int32)
SIGN = 8
BLOCK_BYTES, HEADER_BYTES = 256, 4  # as in WAV files: the first sample, the place in the table, nothing; then codes
BLOCK_SAMPLES = 1 + 2 * (BLOCK_BYTES - HEADER_BYTES)
BEGINNING = 16  # samples by which a block's first step is chosen


def a_law_encode(pcm: Pcm) -> Codes:
    """(N,) 16-bit samples as G.711's codes of A-law: sign, one of eight segments, one of sixteen steps in it.

    Steps are 16 units of 16 bits in the first two segments, and twice as wide in each one that follows.
    """
    magnitude = np.where(pcm >= 0, pcm, ~pcm).astype(np.int32) >> 4
    segment = np.maximum(np.frexp(magnitude)[1].astype(np.int32) - 4, 0)  # the number of bits, above four
    step = (magnitude >> np.maximum(segment - 1, 0)) & 15
    positive = np.where(pcm >= 0, 0x80, 0)
    return np.asarray((positive | segment << 4 | step) ^ A_LAW_INVERTED, np.uint8)


def a_law_decode(codes: Codes) -> Pcm:
    """(N,) codes as the 16-bit middles of their steps; there is no zero."""
    code = codes.astype(np.int32) ^ A_LAW_INVERTED
    segment, step = code >> 4 & 7, code & 15
    magnitude = (16 * (step + 16 * (segment > 0)) + 8) << np.maximum(segment - 1, 0)
    return np.asarray(np.where(code & 0x80, magnitude, -magnitude), np.int16)


def adpcm_encode(pcm: Pcm) -> Codes:
    """(N,) 16-bit samples as (B, 256) bytes: blocks of WAVE's form 0x11, the last one filled up with its last sample.

    A block names its first step itself. Encoders commonly carry it over from the block before; ours takes the step that
    is nearest to the mean difference of the block's beginning, so that all blocks are made at once.
    """
    num_blocks = -(-len(pcm) // BLOCK_SAMPLES)
    if not num_blocks:
        return np.zeros((0, BLOCK_BYTES), np.uint8)
    samples = np.pad(pcm, (0, num_blocks * BLOCK_SAMPLES - len(pcm)), "edge").reshape(num_blocks, -1).astype(np.int32)
    difference = np.abs(np.diff(samples[:, : BEGINNING + 1], axis=1)).mean(axis=1)
    place = np.searchsorted((STEPS[:-1] + STEPS[1:]) / 2, difference).astype(np.int32)
    heard = samples[:, 0].copy()
    blocks = np.zeros((num_blocks, BLOCK_BYTES), np.uint8)
    blocks[:, :2] = heard.astype("<i2").view(np.uint8).reshape(num_blocks, 2)
    blocks[:, 2] = place
    codes = np.empty((BLOCK_SAMPLES - 1, num_blocks), np.uint8)
    columns = np.ascontiguousarray(samples.T[1:])
    changes, places = _adpcm_tables()
    for row, wanted in enumerate(columns):
        code = _adpcm_code(wanted - heard, STEPS[place])
        codes[row] = code
        entry = 16 * place + code
        heard = _within_pcm(heard + changes[entry])
        place = places[entry]
    blocks[:, HEADER_BYTES:] = (codes[::2] | codes[1::2] << 4).T
    return blocks


def _adpcm_code(difference: npt.NDArray[np.int32], step: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The code of each difference: what fits of a step, its half and its quarter, one after another."""
    left = np.abs(difference)
    code = np.where(difference < 0, SIGN, 0)
    for bit in (4, 2, 1):
        fits = left >= step
        code += bit * fits
        left -= step * fits
        step = step >> 1
    return code


def adpcm_decode(blocks: Codes, num_samples: int) -> Pcm:
    """(num_samples,) 16-bit samples of (B, 256) bytes as `adpcm_encode` gives them."""
    num_blocks = len(blocks)
    out = np.empty((BLOCK_SAMPLES, num_blocks), np.int16)
    heard = np.ascontiguousarray(blocks[:, :2]).view("<i2")[:, 0].astype(np.int32)
    place = blocks[:, 2].astype(np.int32)
    pairs = blocks[:, HEADER_BYTES:].T
    codes = np.stack([pairs & 15, pairs >> 4], axis=1).reshape(BLOCK_SAMPLES - 1, num_blocks)
    changes, places = _adpcm_tables()
    out[0] = heard
    for row, code in enumerate(codes, start=1):
        entry = 16 * place + code
        heard = _within_pcm(heard + changes[entry])
        place = places[entry]
        out[row] = heard
    return np.ascontiguousarray(out.T).reshape(-1)[:num_samples]


def _within_pcm(samples: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    return np.minimum(np.maximum(samples, -FULL - 1), FULL)


@lru_cache(maxsize=1)
def _adpcm_tables() -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """By 16 x place + code: what is added to the last sample (an eighth of a step always), and the next place."""
    code = np.arange(16)
    step = STEPS[:, None]
    change = (step >> 3) + sum((step >> shift) * (code >> 2 - shift & 1) for shift in range(3))
    change = np.where(code & SIGN, -change, change)
    place = np.clip(np.arange(len(STEPS))[:, None] + MOVES[code & 7], 0, len(STEPS) - 1)
    return change.reshape(-1).astype(np.int32), place.reshape(-1).astype(np.int32)


def _to_pcm(x: Samples) -> Pcm:
    return np.asarray(np.rint(np.clip(x, -1.0, 1.0) * np.float32(FULL)), np.int16)


def _from_pcm(pcm: Pcm) -> Samples:
    return np.asarray(np.maximum(pcm / np.float32(FULL), -1.0), np.float32)


CODECS: dict[str, Callable[[Samples], Samples]] = {
    "alaw": lambda x: _from_pcm(a_law_decode(a_law_encode(_to_pcm(x)))),
    "mulaw": codec_like,
    "adpcm": lambda x: _from_pcm(adpcm_decode(adpcm_encode(_to_pcm(x)), len(x))),
}
ALLOWED = f"{', '.join(CODECS)}, {TRANSFORM} (or {TRANSFORM}{AT}KBPS, {LEAST_KBPS} to {MOST_KBPS}), {ANY}"


def check_codec(codec: str) -> None:
    """Whether `drawn` and `coded` know this.

    Raises:
        OptionError: they do not.
    """
    name, at, rate = codec.partition(AT)
    has_rate = name == TRANSFORM and rate.isdecimal() and LEAST_KBPS <= int(rate) <= MOST_KBPS
    if not (has_rate if at else codec in (*CODECS, TRANSFORM, ANY)):
        raise OptionError(f"codec is {codec!r}; allowed: {ALLOWED}.")


def drawn(codec: str, rng: random.Random) -> str:
    """A codec with all that decides its sound: one of all for "any", and a rate where the transform codec has none."""
    name = rng.choice((*CODECS, TRANSFORM)) if codec == ANY else codec
    return f"{TRANSFORM}{AT}{rng.choice(RATES_KBPS)}" if name == TRANSFORM else name


def coded(x: Samples, codec: str) -> Samples:
    """(N,) samples as they come out of a codec, within [-1, 1]; what is beyond clips.

    Raises:
        OptionError: there is no such codec, or it leaves something to be drawn.
    """
    check_codec(codec)
    if codec in CODECS:
        return CODECS[codec](x)
    _, at, rate = codec.partition(AT)
    if not at:
        raise OptionError(f"codec is {codec!r}, which leaves something open; draw it first.")
    return transform_coded(x, int(rate))
