"""Text to token ids and back."""

from audioflamingo.tokenizer.files import MAX_FILE_BYTES, QWEN2_WORDS
from audioflamingo.tokenizer.text import END_OF_TEXT, IM_END, IM_START, PAD, SOUND, Incremental, Tokenizer

__all__ = [
    "END_OF_TEXT",
    "IM_END",
    "IM_START",
    "MAX_FILE_BYTES",
    "PAD",
    "QWEN2_WORDS",
    "SOUND",
    "Incremental",
    "Tokenizer",
]
