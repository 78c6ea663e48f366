"""The embedded model's tokenizer: byte-level BPE of Qwen2's form, trained on the words of our own world.

Run as `python -m audioflamingo.train.words FOLDER`.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from audioflamingo.prompt import CHAT_TEMPLATE
from audioflamingo.world import sounds, tasks
from audioflamingo.world.scenes import Dice
from audioflamingo.world.skills import SKILLS, make, there
from audioflamingo.world.skills.base import Job, Turn
from audioflamingo.world.skills.every import every_turn
from audioflamingo.world.text import SentenceGenerator, normalise
from audioflamingo.world.timeline import World

VOCAB_SIZE = 2048
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<sound>", "[BOS]", "[PAD]")
NUM_SENTENCES = 150_000
NUM_SCENES = 60  # of each skill; of the long ones half as many
SHORT_LONG_S = 45.0  # what is said and asked does not depend on how long "long" is
SEED = 20261124
# How Qwen2 cuts text before merging: contractions, words with their space, single digits, punctuation, newlines.
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def corpus(num_sentences: int = NUM_SENTENCES, seed: int = SEED) -> Iterator[str]:
    """Transcripts of the training split, and every question and answer form that names a sound."""
    rng = random.Random(seed)
    sentences = SentenceGenerator("train")
    for _ in range(num_sentences):
        yield normalise(sentences.sentence(rng))
    for _ in range(num_sentences // 2_000):
        for question in tasks.text_only_questions():
            yield from (question.text, question.answer)
        for kind in sounds.KINDS.values():
            yield from (kind.label, kind.sentence, kind.label[:1].upper() + kind.label[1:] + ", then " + kind.label)
        yield "system user assistant You are a helpful assistant."


def skill_texts(num_scenes: int = NUM_SCENES, seed: int = SEED) -> Iterator[str]:
    """Questions and answers of the skills that are as old as the tokenizer; rendered, so this takes minutes."""
    world = World("train", strength=0.0, longest_s=SHORT_LONG_S, engines=("espeak-ng",), exact=False)
    for name, skill in SKILLS.items():
        if not skill.in_tokenizer:
            continue
        for index in range(num_scenes // 2 if skill.is_long else num_scenes):
            made = make(name, world, seed, index)
            turns = [turn for dialogue in made.dialogues for turn in dialogue]
            asking = random.Random(repr((seed, name, index)))
            job = Job(world, Dice.of(seed, index), asking, asking)
            turns += [turn for clip in made.clips for turn in every_turn(clip, job) if not _is_younger(turn)]
            for turn in turns:
                yield from (turn.question, turn.answer)


def _is_younger(turn: Turn) -> bool:
    """Whether a turn asks, as any scene is asked since, for speech or music."""
    return turn.rule == "present" and turn.about["kind"] in there.BOTH


def train_tokenizer(
    folder: Path,
    *,
    num_sentences: int = NUM_SENTENCES,
    num_scenes: int = NUM_SCENES,
    vocab_size: int = VOCAB_SIZE,
) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja, in the released checkpoint's form.

    The first version knew no skills: `num_scenes=0` gives its tokenizer.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = chain(corpus(num_sentences), skill_texts(num_scenes))
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": "[PAD]",
        "model_max_length": 32768,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)


if __name__ == "__main__":
    train_tokenizer(Path(sys.argv[1]))
