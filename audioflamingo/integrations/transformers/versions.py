"""Which versions of transformers this integration is tested with."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging

from audioflamingo.errors import FlamingoError

OLDEST = (5, 16)
NEWEST = (5, 24)
PACKAGE = "transformers"

_log = logging.getLogger(__name__)


class TransformersVersionError(FlamingoError, ImportError):
    """transformers is missing, cannot be imported, or is of a version that lacks what is needed."""


def check_installed() -> None:
    """Check that a supported transformers is here and can be imported.

    Its version is read before it is imported: an old one may not get on with what else is installed, and the error that
    it gives then is of that, and not of its age.

    Raises:
        TransformersVersionError: it is missing, too old, or cannot be imported.
    """
    try:
        version = importlib.metadata.version(PACKAGE)
        check_version(version)
    except importlib.metadata.PackageNotFoundError:
        version = ""
    try:
        found = importlib.import_module(PACKAGE)
    except ImportError as error:
        why = "is not installed"
        if version:
            why = f"{version} is installed but cannot be imported ({_first_line(error)})"
        raise TransformersVersionError(f"{PACKAGE} {why}; {supported()}") from error
    if not version:  # on the path without having been installed
        check_version(str(found.__version__))


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
        raise TransformersVersionError(f"{PACKAGE} {version} is installed; {supported()}")
    if found > NEWEST:
        _log.warning("%s %s is installed and untested with Audio Flamingo 3; %s", PACKAGE, version, supported())


def supported() -> str:
    """The range in words, with the command that gets it."""
    oldest, newest, after = (f"{major}.{minor}" for major, minor in (OLDEST, NEWEST, (NEWEST[0], NEWEST[1] + 1)))
    return f"{oldest} to {newest} are supported: pip install '{PACKAGE}>={oldest},<{after}'"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
