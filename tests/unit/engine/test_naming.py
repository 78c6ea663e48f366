"""Keys that are taken over from an earlier sequence are those that would be digested; and little is remembered."""

import random

import pytest
from tiny_engine import CONFIG, MAX_POSITIONS, sound, tokenizer

from audioflamingo.audio import num_audio_tokens
from audioflamingo.engine import prefix
from audioflamingo.engine.blocks import BLOCK_TOKENS
from audioflamingo.engine.prefix import BlockNames, extend
from audioflamingo.engine.sequence import Sequence
from audioflamingo.engine.sounds import pieces_of
from audioflamingo.types import Prompt, Sampling, Span

MUSIC, SPEECH, CLICK = sound(65, 1), sound(31, 2), sound(2, 3)
LONG = 20 * BLOCK_TOKENS


def text(num_tokens, first=0):
    """Ids of words, none of them a placeholder."""
    return [5 + (first + place) % 300 for place in range(num_tokens)]


def sequence_of(ids, *sounds, use_adapter=False, said=(), are_numbered=False):
    """A prompt of ids in which None is where the next sound stands, and what was said after it."""
    expanded, spans, rest = [], [], list(sounds)
    for token in ids:
        if token is None:
            num_tokens = num_audio_tokens(len(rest[0].samples))
            spans.append(Span(len(expanded), num_tokens, sounds.index(rest.pop(0))))
            expanded += [tokenizer.sound] * num_tokens
        else:
            expanded.append(token)
    prompt = Prompt(tuple(expanded), tuple(spans), sounds)
    pieces = pieces_of(prompt, CONFIG.audio_token_id, are_numbered=are_numbered)
    return Sequence(0, prompt, Sampling(use_adapter=use_adapter), MAX_POSITIONS, pieces, list(said))


def named(names, sequence):
    return names.of(sequence, sequence.num_tokens // BLOCK_TOKENS)


def digested(sequence):
    twin = Sequence(0, sequence.prompt, sequence.sampling, MAX_POSITIONS, sequence.pieces, sequence.generated)
    extend(twin, sequence.num_tokens // BLOCK_TOKENS)
    return twin.block_keys


def test_a_second_question_takes_over_every_key_of_the_first():
    names, words = BlockNames(), [5, 6, 7]
    first = sequence_of([*words, None, 8], MUSIC)
    keys = named(names, first)
    second = sequence_of([*words, None, 8, *range(10, 60)], MUSIC)
    again = named(names, second)
    assert again == digested(second)
    assert all(mine is theirs for mine, theirs in zip(again, keys, strict=False)), "digested anew"
    assert len(again) > len(keys)


CHANGES = {
    "adapter": lambda ids: sequence_of(ids, MUSIC, use_adapter=True),
    "number": lambda ids: sequence_of(ids, MUSIC, are_numbered=True),
    "sound": lambda ids: sequence_of(ids, sound(65, 4)),
    "first word": lambda ids: sequence_of([9, *ids[1:]], MUSIC),
    "later": lambda ids: sequence_of([5, *ids], MUSIC),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_another_prompt_takes_over_nothing(change):
    names, ids = BlockNames(), [5, 6, 7, None, *range(8, 100)]
    keys = named(names, sequence_of(ids, MUSIC))
    other = CHANGES[change](ids)
    assert named(names, other) == digested(other)
    assert not set(other.block_keys) & set(keys)


@pytest.mark.parametrize("place", [0, 1, 31, 32, 255, 256, 600, LONG - 1])
def test_keys_are_shared_up_to_the_block_of_the_first_other_token(place):
    names, ids = BlockNames(), text(LONG)
    keys = named(names, sequence_of(ids))
    other = sequence_of([*ids[:place], 4, *ids[place + 1 :]])
    assert named(names, other) == digested(other)
    num_shared = sum(mine == theirs for mine, theirs in zip(other.block_keys, keys, strict=True))
    assert num_shared == place // BLOCK_TOKENS


def test_the_last_window_alone_is_another():
    names = BlockNames()
    keys = named(names, sequence_of([None], MUSIC))
    other = sequence_of([None], type(MUSIC)(MUSIC.samples.copy()))
    other.prompt.audios[0].samples[-1] += 0.5
    assert named(names, other) == digested(other)
    num_shared = sum(mine == theirs for mine, theirs in zip(other.block_keys, keys, strict=True))
    assert num_shared == 1500 // BLOCK_TOKENS


@pytest.mark.parametrize("order", [1, -1])
def test_a_placeholder_that_the_model_said_is_no_sound(order):
    """Ids are the same, and yet what stands there is another."""
    words = text(9 * BLOCK_TOKENS)
    num_tokens = num_audio_tokens(len(CLICK.samples))
    heard = sequence_of([None, *words, None], MUSIC, CLICK)
    said = sequence_of([None, *words], MUSIC, said=[tokenizer.sound] * num_tokens)
    assert heard.ids(0, heard.num_tokens) == said.ids(0, said.num_tokens)
    names = BlockNames()
    for one in (heard, said)[::order]:
        assert named(names, one) == digested(one)
    assert heard.block_keys != said.block_keys


def test_any_mixture_has_the_keys_that_are_digested():
    chance = random.Random(0)
    sounds = (MUSIC, SPEECH, CLICK)
    names, num_taken_over = BlockNames(), 0
    stock = [[chance.randrange(5, 8) for _ in range(400)] for _ in range(3)]
    before = set()
    for _ in range(120):
        chosen = chance.sample(sounds, chance.randrange(3))
        ids = list(chance.choice(stock)[: chance.randrange(1, 400)])
        for place in sorted(chance.choice((0, 40, 300)) for _ in chosen)[::-1]:
            ids.insert(min(place, len(ids)), None)
        if chance.random() < 0.3:
            ids[chance.randrange(len(ids))] = 8 if len(chosen) == 0 else ids[0]
        if ids.count(None) != len(chosen):
            continue
        one = sequence_of(ids, *chosen, use_adapter=chance.random() < 0.3)
        assert named(names, one) == digested(one)
        num_taken_over += sum(id(key) in before for key in one.block_keys)
        before |= {id(key) for known in names._remembered.values() for key in known.keys}
    assert num_taken_over > 500


def test_keys_go_on_behind_what_was_named_first():
    names, ids = BlockNames(), text(LONG)
    one = sequence_of(ids, said=range(50, 50 + 70))
    assert names.of(one, 3) == digested(one)[:3]
    assert named(names, one) == digested(one)
    assert names.of(one, 2) == digested(one)[:2]


def test_beginnings_are_forgotten_when_they_are_many_or_long(monkeypatch):
    monkeypatch.setattr(prefix, "MOST_REMEMBERED", 3)
    names = BlockNames()
    chosen = [sequence_of([start, *text(LONG - 1)]) for start in range(10, 20)]
    for one in chosen:
        named(names, one)
    assert names.num_blocks == 3 * LONG // BLOCK_TOKENS
    assert all(named(names, sequence_of(one.prompt.ids)) == digested(one) for one in chosen)
    monkeypatch.setattr(prefix, "MOST_REMEMBERED_BLOCKS", LONG // BLOCK_TOKENS + 1)
    named(names, sequence_of([4, *text(LONG - 1)]))
    assert names.num_blocks == LONG // BLOCK_TOKENS
    named(names, sequence_of(text(2 * LONG)))  # alone more than all that is remembered
    assert names.num_blocks == 0


def test_short_prompts_are_not_remembered():
    names = BlockNames()
    named(names, sequence_of(text(4 * BLOCK_TOKENS)))
    assert names.num_blocks == 0
