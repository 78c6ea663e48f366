"""The pronouncer of a voice alone, on a CPU: what the teacher says of many words, learnt from the present weights on.

The words are those of our sentences and word lists, and the headwords of the engine's own lexicon as festival installs
it; of that lexicon nothing but the spelling is read, and how a word is said is always asked of the teacher.

python -m audioflamingo.train.pronouncer --voice out/voice --train-s 600
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import torch

from audioflamingo.speech.known_words import known_words
from audioflamingo.speech.pronounce import Pronouncer
from audioflamingo.speech.storage import as_stored, load_voice, replace_pronouncer
from audioflamingo.train.voice import teacher_words
from audioflamingo.train.voice_data import FliteTeacher
from audioflamingo.train.voice_words import (
    ALONE_VOICE,
    held_out,
    lexicon_of,
    pronouncer_loss,
    said_by_layers,
    spoken_alone,
    wrong_words,
)
from audioflamingo.world.lexicon import word_classes
from audioflamingo.world.text import SentenceGenerator, normalise

DICTIONARIES = Path("/usr/share/festival/dicts")
NUM_SENTENCES = 8_000  # nearly every word of ours occurs
WARM_UP = 0.03  # share of the time
MAX_EXCEPTIONS = 600
LOG_EVERY_STEPS = 100
SEED = 20261125
_HEADWORD = re.compile(r'\("([a-z][a-z\']{2,13})" ')


@dataclass(frozen=True)
class PronouncerRecipe:
    """How the pronouncer learns.

    Attributes:
        train_s: seconds of training.
        words: a step, of about equal length.
        rate: peak learning rate.
        our_weight: how often a word of ours is learnt for each time that one of the dictionary is.
        max_norm: of the gradient.
    """

    train_s: float = 600.0
    words: int = 256
    rate: float = 2e-3
    our_weight: int = 5
    max_norm: float = 1.0

    def rate_at(self, progress: float) -> float:
        """A short rise, then half a cosine down to nothing."""
        if progress < WARM_UP:
            return self.rate * max(progress / WARM_UP, 1e-2)
        return self.rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def our_lexicon(teacher: FliteTeacher, num_sentences: int = NUM_SENTENCES) -> dict[str, str]:
    """Words of our sentences as the teacher says them there; those of our lists that did not occur, by themselves."""
    rng, sentences, counts = random.Random(SEED), SentenceGenerator("train"), Counter[tuple[str, str]]()
    for _ in range(num_sentences):
        phones: dict[tuple[int, str], list[str]] = {}
        for segment in teacher.utterance(sentences.sentence(rng), ALONE_VOICE)[0]:
            if segment.word_key:
                phones.setdefault((segment.word_key, segment.word), []).append(segment.phone)
        counts.update((word, " ".join(said)) for (_, word), said in phones.items())
    in_sentences = lexicon_of(counts) | teacher_words()
    listed = {word for one in word_classes().values() for text in one.words for word in normalise(text).split()}
    return in_sentences | spoken_alone(teacher, sorted(listed - set(in_sentences)))


def headwords(folder: Path) -> list[str]:
    """Spellings, 3 to 14 letters long, of the lexicons in festival's form below a folder."""
    files = sorted(folder.rglob("*.out"))
    return sorted({word for file in files for word in _HEADWORD.findall(file.read_text("latin-1"))})


def train_pronouncer(
    model: Pronouncer, ours: Mapping[str, str], others: Mapping[str, str], recipe: PronouncerRecipe
) -> None:
    """Go on from the model's weights with the words that are not held out; then round the weights as a voice does."""
    lexicon = {**others, **ours}
    batches = _batches(list(ours) * recipe.our_weight + [word for word in others if word not in ours], recipe.words)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.01)
    began, losses = time.monotonic(), list[float]()
    model.train().requires_grad_(True)
    while (progress := (time.monotonic() - began) / recipe.train_s) < 1:
        optimiser.param_groups[0]["lr"] = recipe.rate_at(progress)
        loss = pronouncer_loss(model, lexicon, next(batches))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_norm)
        optimiser.step()
        losses.append(float(loss.detach()))
        if len(losses) % LOG_EVERY_STEPS == 0:
            mean = sum(losses[-LOG_EVERY_STEPS:]) / LOG_EVERY_STEPS
            print(json.dumps({"step": len(losses), "progress": round(progress, 3), "loss": round(mean, 4)}), flush=True)
    model.eval().requires_grad_(False)
    model.load_state_dict(as_stored(model.state_dict()))


def _batches(words: list[str], size: int) -> Iterator[list[str]]:
    """For ever: all words that are not held out, in a new order, each batch of about one length."""
    rng, known = random.Random(SEED), [word for word in words if not held_out(word)]
    while True:
        rng.shuffle(known)
        known.sort(key=len)
        batches = [known[start : start + size] for start in range(0, len(known), size)]
        rng.shuffle(batches)
        yield from batches


def accuracy(model: Pronouncer, lexicon: Mapping[str, str]) -> dict[str, float]:
    """Shares of words that the layers alone say exactly so, and so but for the stress."""
    said = said_by_layers(model, lexicon)
    exact = sum(phones == lexicon[word] for word, phones in said.items())
    unstressed = sum(_without_stress(phones) == _without_stress(lexicon[word]) for word, phones in said.items())
    total = max(len(said), 1)
    return {"words": len(said), "exact": round(exact / total, 4), "but_for_stress": round(unstressed / total, 4)}


def new_exceptions(
    model: Pronouncer, ours: Mapping[str, str], was_right: AbstractSet[str]
) -> dict[str, tuple[str, ...]]:
    """Words of ours that the layers get wrong, as the teacher says them, those that were right before first.

    Short ones come before long ones, as they are the common ones. At most `MAX_EXCEPTIONS`; none that is in the list
    by hand.
    """
    wrong = wrong_words(model, {word: phones for word, phones in ours.items() if word not in known_words()})
    first = sorted(wrong, key=lambda word: (word not in was_right, len(word), word))[:MAX_EXCEPTIONS]
    return {word: tuple(wrong[word].split()) for word in first}


def _without_stress(phones: str) -> str:
    return phones.replace("0", "").replace("1", "")


def _measured(model: Pronouncer, ours: Mapping[str, str], others: Mapping[str, str]) -> dict[str, dict[str, float]]:
    found = {}
    for name, lexicon in (("ours", ours), ("dictionary", others)):
        tested = {word: phones for word, phones in lexicon.items() if held_out(word)}
        found[f"{name}_held_out"] = accuracy(model, tested)
        found[f"{name}_trained"] = accuracy(model, {word: lexicon[word] for word in lexicon if word not in tested})
    return found


def main() -> None:
    """Train, measure, and write into the voice."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--voice", type=Path, required=True, metavar="DIR", help="a saved voice, which is changed")
    parser.add_argument("--dictionary", type=Path, default=DICTIONARIES, metavar="DIR", help="whose headwords are used")
    parser.add_argument("--train-s", type=float, default=PronouncerRecipe.train_s, metavar="S")
    options = parser.parse_args()
    model, teacher = load_voice(options.voice).pronouncer, FliteTeacher()
    # Exceptions are words of the sentences that the voice was trained by: they stay as they are.
    listed = {word: " ".join(phones) for word, phones in model.exceptions.items()}
    ours = our_lexicon(teacher) | listed
    was_right = (ours.keys() - wrong_words(model, ours).keys()) | listed.keys()
    others = spoken_alone(teacher, [word for word in headwords(options.dictionary) if word not in ours])
    print(json.dumps({"before": _measured(model, ours, others), "exceptions": len(model.exceptions)}), flush=True)
    train_pronouncer(model, ours, others, PronouncerRecipe(options.train_s))
    model.exceptions = new_exceptions(model, ours, was_right)
    print(json.dumps({"after": _measured(model, ours, others), "exceptions": len(model.exceptions)}), flush=True)
    replace_pronouncer(options.voice, model)


if __name__ == "__main__":
    main()
