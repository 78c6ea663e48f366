"""The phrases that the released model was trained on, and its habit of wrapping a transcript."""

from __future__ import annotations

SYSTEM_PROMPT = "You are a helpful assistant."
TRANSCRIBE_PROMPT = "Transcribe the input speech."
CAPTION_PROMPT = "Please describe the audio in detail"
THINK_SUFFIX = "Please think and reason about the input audio before you respond."

TRANSCRIPT_PREFIXES = (
    "The spoken content of the audio is",
    "The transcription of the audio is",
    "The content of the input audio is",
)
_QUOTES = ("'", '"')


def strip_transcription(text: str) -> str:
    """The bare transcript of an answer: without the model's introduction, one final full stop, one pair of quotes.

    Same rule as `strip_prefix` of the reference's processor.
    """
    text = text.strip()
    for prefix in TRANSCRIPT_PREFIXES:
        if text.startswith(prefix):
            text = text.removeprefix(prefix).strip()
            break
    if text.endswith("."):
        text = text[:-1].strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in _QUOTES:
        text = text[1:-1].strip()
    return text
