"""A transcript without the model's introduction to it, as it comes: what may be no word of it is held back."""

from __future__ import annotations

from audioflamingo.prompt import may_say_no_speech, spoken_words
from audioflamingo.prompt.phrases import TRANSCRIPT_PREFIXES

ENDS = " \t\n.'\""  # of a transcript's end, any of which `spoken_words` may take away
QUOTES = ("'", '"')


class BareTranscript:
    """Pieces of an answer in, pieces of its transcript out; joined, they are what `spoken_words` gives.

    An opening quote is taken for one of a pair. Where its partner never comes, it stays away all the same.
    """

    def __init__(self) -> None:
        self._raw = ""
        self._said = ""

    def feed(self, text: str) -> str:
        """What is certain to be part of the transcript, and new."""
        self._raw += text
        raw = self._raw.lstrip()
        if any(prefix.startswith(raw) for prefix in TRANSCRIPT_PREFIXES):
            return ""
        for prefix in TRANSCRIPT_PREFIXES:
            if raw.startswith(prefix):
                raw = raw.removeprefix(prefix).lstrip()
                break
        if may_say_no_speech(raw):
            return ""
        return self._new(raw[1:] if raw.startswith(QUOTES) else raw, ENDS)

    def flush(self) -> str:
        """The rest."""
        whole = spoken_words(self._raw)
        return self._new(whole[1:] if whole.startswith(QUOTES) and not whole.startswith(self._said) else whole, "")

    def _new(self, text: str, held: str) -> str:
        certain = " ".join(text.rstrip(held or None).split())
        if not certain.startswith(self._said):
            return ""
        new = certain[len(self._said) :]
        self._said = certain
        return new
