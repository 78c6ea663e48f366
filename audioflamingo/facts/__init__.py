"""What is heard as typed values: captions, tags, the emotion of a speaker, the facts of a piece of music.

Each is a few plain questions in the forms that the released model was trained on (`questions`), asked as one batch
(`asking`) and read into a frozen value (`results`). `model` is what a loaded model inherits.
"""

from audioflamingo.facts.model import FactsModel
from audioflamingo.facts.results import Detail, Emotion, SongFacts, Tags

__all__ = ["Detail", "Emotion", "FactsModel", "SongFacts", "Tags"]
