"""How a model wants a sound cut for its transcript: a small one writes down less of a long piece."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

from audioflamingo.config import WINDOW_S
from audioflamingo.engine.options import GENERATION_CONFIG, read_settings
from audioflamingo.errors import CheckpointError

KEY = "transcription"


@dataclass(frozen=True)
class Lengths:
    """Seconds.

    Attributes:
        at_once_s: the longest sound that is heard in one piece where nobody asks for pieces; infinite: what it takes.
        piece_s: of a piece of a longer one.
        overlap_s: what two neighbours share.
    """

    at_once_s: float = math.inf
    piece_s: float = float(WINDOW_S)
    overlap_s: float = 5.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
                raise ValueError(f"{name} is {value!r}, allowed: more than 0 s")
        if not self.overlap_s < self.piece_s <= self.at_once_s:
            raise ValueError("overlap_s has to be less than piece_s, and that at most at_once_s")

    @property
    def longest_piece_s(self) -> float:
        """Of a sound that is one piece where pieces are asked for."""
        return self.piece_s if math.isinf(self.at_once_s) else self.at_once_s


def lengths_of(folder: str | Path) -> Lengths:
    """What a checkpoint's generation_config.json says, or the usual.

    Raises:
        CheckpointError: what it says is of no use.
    """
    path = Path(folder) / GENERATION_CONFIG
    if not path.is_file():
        return Lengths()
    try:
        values = read_settings(path)
        stated = values.get(KEY, {}) if isinstance(values, dict) else {}
        if not isinstance(stated, dict):
            raise ValueError(f"{KEY} is {stated!r}, allowed: an object with at_once_s, piece_s and overlap_s")
        unknown = set(stated) - set(asdict(Lengths()))
        if unknown:
            raise ValueError(f"{KEY} has {', '.join(sorted(unknown))}, allowed: at_once_s, piece_s, overlap_s")
        return Lengths(**stated)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be used: {error}; remove it or download it again") from error
