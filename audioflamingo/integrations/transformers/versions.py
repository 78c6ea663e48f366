"""Which versions of transformers this integration is tested with."""

from __future__ import annotations

import logging

from audioflamingo.errors import FlamingoError

OLDEST = (5, 16)
NEWEST = (5, 23)

_log = logging.getLogger(__name__)


class TransformersVersionError(FlamingoError, ImportError):
    """transformers is missing, or of a version that lacks what is needed."""


def check_version(version: str) -> None:
    """Refuse a version before the oldest supported one; say once that one after the newest is untested.

    Args:
        version: as in `transformers.__version__`.

    Raises:
        TransformersVersionError: it is too old.
    """
    numbers = version.split(".")
    found = (int(numbers[0]), int("".join(filter(str.isdigit, numbers[1])) or 0))
    if found < OLDEST:
        raise TransformersVersionError(f"transformers {version} is installed; {supported()}")
    if found > NEWEST:
        _log.warning("transformers %s is installed and untested with Audio Flamingo 3; %s", version, supported())


def supported() -> str:
    """The range in words, with the command that gets it."""
    oldest, newest, after = (f"{major}.{minor}" for major, minor in (OLDEST, NEWEST, (NEWEST[0], NEWEST[1] + 1)))
    return f"{oldest} to {newest} are supported: pip install 'transformers>={oldest},<{after}'"
