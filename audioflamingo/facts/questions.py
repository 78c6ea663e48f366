"""The questions that are asked of the model, word for word, and what may be answered to each.

Multiple choices have the form of AudioSkills-XL ("(A) ..." lines behind the question, the answer repeats one of them),
which the released and the embedded model were trained on. The emotions are those of the corpora that the released one
learned from (RAVDESS, CREMA-D, IEMOCAP), and what the embedded model's voices are rendered with.
"""

from __future__ import annotations

import string
from dataclasses import dataclass

from audioflamingo.prompt import CAPTION_PROMPT

SHORT_CAPTION_PROMPT = "Describe the audio in one sentence."
CHOOSE = "Choose the correct option from the following options:"

EMOTIONS = ("neutral", "calm", "happy", "excited", "sad", "angry", "fearful", "disgusted", "surprised")
UNCLEAR = "unclear"
PACES = ("slow", "moderate", "fast")
SLOWEST_BPM, FASTEST_BPM = 30, 260
NATURALS = "CDEFGAB"

SHORT_TOKENS, LONG_TOKENS = 64, 192
CAPTIONS = {"short": SHORT_CAPTION_PROMPT, "long": CAPTION_PROMPT}


@dataclass(frozen=True)
class Question:
    """One question of the model.

    Attributes:
        name: what errors call its answer.
        text: as it is asked.
        choices: what may be answered, each text with what it means; None leaves the answer free.
        max_new_tokens: room for the answer, if the caller gives no other.
        may_be_nothing: whether "nothing" is an answer, and not the lack of one.
    """

    name: str
    text: str
    choices: dict[str, str] | None = None
    max_new_tokens: int = SHORT_TOKENS
    may_be_nothing: bool = False


def yes_or_no(name: str, text: str) -> Question:
    """A question that is answered by "Yes." or "No."."""
    return Question(name, text, {"Yes.": "yes", "No.": "no"})


def multiple_choice(name: str, text: str, options: tuple[str, ...]) -> Question:
    """A question with lettered options, answered by one of its lines."""
    lines = {f"({letter}) {option}": option for letter, option in zip(string.ascii_uppercase, options, strict=False)}
    assert len(lines) == len(options), "more options than letters"
    return Question(name, "\n".join([f"{text} {CHOOSE}", *lines]), lines)


def _keys() -> dict[str, str]:
    """Names of keys as they may be spelled, each with the one that we give: sharps as "#", flats as "b"."""
    signs = {"": "", "#": "#", " sharp": "#", "b": "b", " flat": "b"}
    return {
        f"{letter}{sign} {mode}": f"{letter}{written} {mode}"
        for letter in NATURALS
        for sign, written in signs.items()
        for mode in ("major", "minor")
    }


IS_SPEECH = yes_or_no("speech", "Is anyone speaking?")
IS_MUSIC = yes_or_no("music", "Is there music?")
EMOTION = multiple_choice("emotion", "How does the speaker sound?", (*EMOTIONS, UNCLEAR))
TONE = Question("tone", "Describe the speaker's tone of voice in a few words.")
EVIDENCE = "The speaker sounds {label}. What in the voice and in the words shows it? Name pitch, pace and loudness."

SOUNDS = Question("tags", "What do you hear?", may_be_nothing=True)
PRESENT = "Can you hear {label}?"

GENRE = Question("genre", "What is the genre of this music?")
MOOD = Question("mood", "What is the mood of this music?")
INSTRUMENTS = Question("instruments", "Which instruments play in this music?")
TEMPO = Question(
    "tempo",
    "What is the tempo of this music in beats per minute?",
    {f"{number} BPM": str(number) for number in range(SLOWEST_BPM, FASTEST_BPM + 1)},
)
PACE = multiple_choice("pace", "Is the tempo slow, moderate or fast?", PACES)
KEY = Question("key", "What is the key of this music?", _keys())
STRUCTURE = Question(
    "structure", "Describe the structure of this music: its sections, and how they change.", None, LONG_TOKENS
)
SONG = (GENRE, MOOD, INSTRUMENTS, TEMPO, PACE, KEY, STRUCTURE)
