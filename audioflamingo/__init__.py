"""Audio Flamingo 3, independently: one model that hears speech, sounds and music and answers in words.

Only names are resolved here, when first used, so that importing the package costs nothing beyond Python itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from audioflamingo.version import __version__

if TYPE_CHECKING:
    from audioflamingo.api import AudioFlamingo, load_audio, load_model
    from audioflamingo.errors import AnswerError, AudioError, CheckpointError, FlamingoError, OptionError, PromptError
    from audioflamingo.types import Audio, Delta, Message, Prompt, Reply, Sampling, Usage

_HOMES = {
    "audioflamingo.api": ("AudioFlamingo", "load_audio", "load_model"),
    "audioflamingo.errors": (
        "AnswerError", "AudioError", "CheckpointError", "FlamingoError", "OptionError", "PromptError",
    ),
    "audioflamingo.types": ("Audio", "Delta", "Message", "Prompt", "Reply", "Sampling", "Usage"),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AnswerError",
    "Audio",
    "AudioError",
    "AudioFlamingo",
    "CheckpointError",
    "Delta",
    "FlamingoError",
    "Message",
    "OptionError",
    "Prompt",
    "PromptError",
    "Reply",
    "Sampling",
    "Usage",
    "__version__",
    "load_audio",
    "load_model",
]


def __getattr__(name: str) -> Any:
    """Import a name's module on first use (PEP 562)."""
    if name in _HOME_OF:
        return getattr(import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'audioflamingo' has no attribute {name!r}")
