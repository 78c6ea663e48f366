"""The command `flamingo`. Nothing but the standard library is imported until a verb has real work to do.

Until the command is imported, Ctrl-C ends the process by its signal: nothing has begun, and nobody could catch it.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Any

_before: Any = None
with suppress(ValueError):  # imported in a thread: signals are not ours
    _before = signal.signal(signal.SIGINT, signal.SIG_DFL)


def catch_interrupts_again() -> None:
    """Put back what became of Ctrl-C before this package was imported."""
    if _before is not None:
        signal.signal(signal.SIGINT, _before)
