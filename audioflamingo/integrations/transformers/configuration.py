"""The configuration class by which transformers' Auto classes tell ours from their own; it adds nothing."""

from __future__ import annotations

from audioflamingo.integrations.transformers.reference import ReferenceConfig

MODEL_TYPE = "audioflamingo3"


class AudioFlamingo3Config(ReferenceConfig):  # type: ignore[misc]
    """transformers' configuration of Audio Flamingo 3, read and written as it is there."""
