"""Audio Flamingo 3, independently: one model that hears speech, sounds and music and answers in words.

Only names are resolved here, when first used, so that importing the package costs nothing beyond Python itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from audioflamingo.errors import AudioError, CheckpointError, FlamingoError, OptionError, PromptError
from audioflamingo.types import Audio, Delta, Message, Prompt, Reply, Sampling, Usage
from audioflamingo.version import __version__

_LAZY = {"AudioFlamingo": "audioflamingo.api", "load_model": "audioflamingo.api", "load_audio": "audioflamingo.api"}

__all__ = [
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
    """Import the heavy names on first use (PEP 562)."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'audioflamingo' has no attribute {name!r}")
