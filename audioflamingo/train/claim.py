"""One run at a time writes to a folder: two would take each other's files away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from audioflamingo.errors import OptionError

try:
    import fcntl
except ImportError:  # a system without such locks goes without
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".lock"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """While this is entered no other process can claim the folder; one that is killed gives it up.

    The lock belongs to this process alone: neither workers nor programs that it starts hold it.

    Args:
        folder: made if it is not there.

    Raises:
        OptionError: another process has it.
        OSError: nothing can be written there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_FILE
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _locked(handle):
            raise OptionError(
                f"another run is writing to {folder} (process {_holder(handle)}); wait for its end, end it, or choose "
                "another --out"
            )
        try:
            os.ftruncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    """Whether this process has it now; a file that its holder has removed meanwhile is nobody's to take."""
    if fcntl is None:
        return True
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True  # a file system without locks
    return os.fstat(handle).st_nlink > 0


def _holder(handle: int) -> str:
    return os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "unknown"
