"""Is somebody speaking? Two detectors behind one small interface: by energy (core), and silero-vad (an extra).

Both take 16 kHz mono float32 in pieces of any size and give one verdict every `step_ms`.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np
import numpy.typing as npt

from audioflamingo.errors import FlamingoError, OptionError
from audioflamingo.types import SAMPLE_RATE_HZ

Samples = npt.NDArray[np.float32]

ENERGY_STEP_MS = 20
SILERO_STEP_SAMPLES = 512  # the only block that its 16 kHz model takes
NOISE_MEMORY_S = 3.0
MIN_LEVEL_DB = -90.0
MIN_LOUD_STEPS = 3  # of a run before its gaps are bridged: else a click and its hangover pass for speech
VOICE_BAND_HZ = (150, 4_000)
_BLOCK_SAMPLES = SAMPLE_RATE_HZ * ENERGY_STEP_MS // 1000
_BAND = slice(*(hz * _BLOCK_SAMPLES // SAMPLE_RATE_HZ for hz in VOICE_BAND_HZ))


class DetectorMissingError(FlamingoError):
    """A detector's package is not installed."""


class SpeechDetector(Protocol):
    """Sound in, verdicts out."""

    @property
    def step_ms(self) -> int:
        """How much sound one verdict is about."""
        ...

    @property
    def hangover_ms(self) -> int:
        """Silence that has passed within speech when the first verdict of silence comes."""
        ...

    def feed(self, samples: Samples) -> list[bool]:
        """Verdicts that are due after these samples, (N,) float32 at 16 kHz; the rest is kept for the next call."""
        ...


class _Blocks:
    """Samples of any number to blocks of one size."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._pending = np.zeros(0, np.float32)

    def feed(self, samples: Samples) -> list[Samples]:
        joined = np.concatenate([self._pending, samples.astype(np.float32, copy=False)])
        cut = len(joined) // self._size * self._size
        self._pending = joined[cut:]
        return list(joined[:cut].reshape(-1, self._size))


class EnergyDetector:
    """Speech is what stands out of the noise: a level above an adaptive floor, within the band of voices.

    The floor is the lowest smoothed level of the last seconds, so that it follows the room up and down but not a
    sentence; a hangover bridges the closures within words, not those after a click.

    Args:
        margin_db: how far speech stands above the floor.
        min_level_db: below it nothing is speech, however quiet the room; relative to full scale.
        hangover_ms: silence shorter than this within speech counts as speech.

    Raises:
        OptionError: a value that cannot work.
    """

    def __init__(self, margin_db: float = 9.0, min_level_db: float = -52.0, hangover_ms: int = 60) -> None:
        if margin_db <= 0 or hangover_ms < 0:
            raise OptionError(
                f"margin_db is {margin_db} and hangover_ms {hangover_ms}; allowed: above 0, and 0 or more"
            )
        self.margin_db, self._min_level_db = margin_db, min_level_db
        self._hangover_steps = hangover_ms // ENERGY_STEP_MS
        self._blocks = _Blocks(_BLOCK_SAMPLES)
        self._levels: deque[float] = deque(maxlen=round(1000 * NOISE_MEMORY_S / ENERGY_STEP_MS))
        self._smoothed_db: float | None = None
        self._steps_since_speech = self._hangover_steps + 1
        self._num_loud = 0  # loud steps of the run that is going on
        self._window = np.hanning(_BLOCK_SAMPLES)

    @property
    def step_ms(self) -> int:
        """See `SpeechDetector`."""
        return ENERGY_STEP_MS

    @property
    def hangover_ms(self) -> int:
        """See `SpeechDetector`."""
        return self._hangover_steps * ENERGY_STEP_MS

    def feed(self, samples: Samples) -> list[bool]:
        """See `SpeechDetector`."""
        return [self._verdict(block) for block in self._blocks.feed(samples)]

    @property
    def floor_db(self) -> float:
        """The noise's level at present, in dB of full scale."""
        return min(self._levels, default=MIN_LEVEL_DB)

    def _verdict(self, block: Samples) -> bool:
        level_db = self._level_db(block)
        before = level_db if self._smoothed_db is None else self._smoothed_db
        self._smoothed_db = 0.7 * before + 0.3 * level_db
        self._levels.append(self._smoothed_db)
        is_loud = level_db > max(self.floor_db + self.margin_db, self._min_level_db)
        self._steps_since_speech = 0 if is_loud else self._steps_since_speech + 1
        if self._steps_since_speech > self._hangover_steps:
            self._num_loud = 0
        self._num_loud += is_loud
        return is_loud or self._num_loud >= MIN_LOUD_STEPS

    def _level_db(self, block: Samples) -> float:
        """Level within the band of voices: rumble, hum and hiss beyond it weigh nothing."""
        spectrum = np.fft.rfft(block * self._window)[_BAND]
        power = 2 * float(np.sum(np.square(np.abs(spectrum)))) / float(len(block) * np.sum(self._window**2))
        return max(10 * float(np.log10(power + 1e-30)), MIN_LEVEL_DB)


class SileroDetector:
    """silero-vad, a small neural detector that is not fooled by noises (`pip install silero-vad`).

    Args:
        threshold: probability above which a block is speech.

    Raises:
        DetectorMissingError: the package is not installed.
        OptionError: the threshold is not between 0 and 1.
    """

    def __init__(self, threshold: float = 0.5) -> None:
        if not 0 < threshold < 1:
            raise OptionError(f"threshold is {threshold}; allowed: above 0 and below 1")
        try:
            from silero_vad import load_silero_vad  # type: ignore[import-untyped,import-not-found,unused-ignore]
        except ImportError as error:
            raise DetectorMissingError(
                "the silero detector needs its package: pip install silero-vad, or choose 'energy'"
            ) from error
        self._model = load_silero_vad()
        self._threshold = threshold
        self._blocks = _Blocks(SILERO_STEP_SAMPLES)

    @property
    def step_ms(self) -> int:
        """See `SpeechDetector`."""
        return 1000 * SILERO_STEP_SAMPLES // SAMPLE_RATE_HZ

    @property
    def hangover_ms(self) -> int:
        """See `SpeechDetector`."""
        return 0

    def feed(self, samples: Samples) -> list[bool]:
        """See `SpeechDetector`."""
        return [self._verdict(block) for block in self._blocks.feed(samples)]

    def _verdict(self, block: Samples) -> bool:
        import torch

        with torch.inference_mode():
            return float(self._model(torch.from_numpy(block.copy()), SAMPLE_RATE_HZ)) > self._threshold


DETECTORS = {"energy": EnergyDetector, "silero": SileroDetector}


def open_detector(name: str = "energy") -> SpeechDetector:
    """A new detector by name.

    Raises:
        OptionError: there is no such detector.
        DetectorMissingError: its package is not installed.
    """
    if name not in DETECTORS:
        raise OptionError(f"detector {name!r} is not one of {', '.join(DETECTORS)}")
    detector: SpeechDetector = DETECTORS[name]()
    return detector
