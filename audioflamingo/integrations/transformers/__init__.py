"""Audio Flamingo 3 in Hugging Face transformers, running on this package's model and engine.

Importing this module is all that is needed: transformers' Auto classes then find the classes below.
"""

from audioflamingo.integrations.transformers.versions import TransformersVersionError, check_installed

check_installed()

from audioflamingo.integrations.transformers.configuration import AudioFlamingo3Config  # noqa: E402
from audioflamingo.integrations.transformers.encoder import AudioFlamingo3Encoder  # noqa: E402
from audioflamingo.integrations.transformers.model import (  # noqa: E402
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3Model,
)
from audioflamingo.integrations.transformers.processor import AudioFlamingo3Processor  # noqa: E402
from audioflamingo.integrations.transformers.register import register  # noqa: E402
from audioflamingo.model.weights import resolve  # noqa: E402

register()

__all__ = [
    "AudioFlamingo3Config",
    "AudioFlamingo3Encoder",
    "AudioFlamingo3ForConditionalGeneration",
    "AudioFlamingo3Model",
    "AudioFlamingo3Processor",
    "TransformersVersionError",
    "resolve",
]
