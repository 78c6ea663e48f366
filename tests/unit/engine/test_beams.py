"""Hypotheses against all answers that there are; beams beside the engine; memory, adapters' neighbours, bad logits."""

import itertools
import resource
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parent))
from tiny_engine import CONFIG, make_model, prompt, sound, tokenizer

from audioflamingo.engine.beams import Hypotheses, generated, search
from audioflamingo.engine.contiguous import KVCache
from audioflamingo.engine.engine import Engine
from audioflamingo.engine.memory import MemoryExhaustedError
from audioflamingo.engine.sampling import OverflowedError
from audioflamingo.errors import FlamingoError
from audioflamingo.types import Beams, Sampling

PAGE_BYTES = resource.getpagesize()
model = make_model()
engine = Engine(model, tokenizer)


class Language:
    """Random probabilities of what follows each beginning, always the same."""

    def __init__(self, vocab_size, seed):
        self.vocab_size, self._seed, self._known = vocab_size, seed, {}

    def logs(self, ids):
        if ids not in self._known:
            generator = torch.Generator().manual_seed(hash((self._seed, ids)) % 2**40)
            self._known[ids] = (3 * torch.randn(self.vocab_size, generator=generator)).log_softmax(-1)
        return self._known[ids]

    def score(self, ids, length_penalty):
        total = sum(float(self.logs(ids[:place])[token]) for place, token in enumerate(ids))
        return total / len(ids) ** length_penalty


def found_by(language, beams, eos_ids, most_tokens):
    hypotheses = Hypotheses(beams, eos_ids, most_tokens)
    while not hypotheses.is_done:
        before = hypotheses.going
        parents = hypotheses.advance(torch.stack([language.logs(ids) for ids in before]))
        assert [before[row] for row in parents] == [ids[:-1] for ids in hypotheses.going]
    return hypotheses.best


def all_answers(vocab_size, eos_ids, most_tokens):
    for length in range(1, most_tokens + 1):
        for ids in itertools.product(range(vocab_size), repeat=length):
            if not set(ids[:-1]) & set(eos_ids) and (length == most_tokens or ids[-1] in eos_ids):
                yield ids


@settings(max_examples=60)
@given(
    vocab_size=st.integers(2, 4),
    most_tokens=st.integers(1, 4),
    eos_ids=st.sets(st.integers(0, 1), max_size=1),
    length_penalty=st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.5]),
    seed=st.integers(0, 10_000),
)
def test_as_many_beams_as_answers_find_the_best_of_all(vocab_size, most_tokens, eos_ids, length_penalty, seed):
    language = Language(vocab_size, seed)
    beams = Beams(vocab_size**most_tokens + 1, length_penalty)
    found = found_by(language, beams, eos_ids, most_tokens)
    best = max(all_answers(vocab_size, eos_ids, most_tokens), key=lambda ids: language.score(ids, length_penalty))
    assert language.score(found, length_penalty) == pytest.approx(language.score(best, length_penalty), abs=1e-5)


@settings(max_examples=60)
@given(num=st.integers(2, 5), length_penalty=st.sampled_from([0.0, 1.0]), seed=st.integers(0, 10_000))
def test_few_beams_find_an_answer_that_there_is(num, length_penalty, seed):
    found = found_by(Language(4, seed), Beams(num, length_penalty), {1}, 5)
    assert found in set(all_answers(4, {1}, 5))


def by_whole_sequences(asked, num, most_tokens):
    """The same search, every beginning read from its first token on, without a cache to move."""
    hypotheses = Hypotheses(Beams(num), tokenizer.eos_ids, most_tokens)
    while not hypotheses.is_done:
        rows = []
        for ids in hypotheses.going:
            longer = replace(asked, ids=(*asked.ids, *ids))
            sampling = Sampling(max_new_tokens=1)
            rows.append(next_logs(longer, sampling))
        hypotheses.advance(torch.stack(rows))
    return hypotheses.best


def next_logs(asked, sampling):
    from audioflamingo.engine.plain import AudioEmbedder, prefill

    embedder = AudioEmbedder(model, 4)
    embedder.add(asked.audios)
    with torch.inference_mode():
        return prefill(model, KVCache(CONFIG.decoder, model.dtype, model.device), [asked], embedder)[0].log_softmax(-1)


@pytest.mark.parametrize("num", [2, 4, 7])
@pytest.mark.parametrize("asked", [prompt("What is"), prompt(sound(1.3, 1), "a dog", sound(0.4, 2), "?")])
def test_a_cache_whose_rows_change_places_gives_what_whole_sequences_give(num, asked):
    found = search(
        model, asked, Beams(num), eos_ids=tokenizer.eos_ids, most_tokens=10, repetition_penalty=1.0, windows_at_once=4
    )
    assert found == by_whole_sequences(asked, num, 10)


def whole(deltas):
    """Texts, tokens and ends by index."""
    found = {}
    for delta in deltas:
        text, ids, _ = found.get(delta.index, ("", (), None))
        found[delta.index] = (text + delta.text, ids + delta.token_ids, delta.finish_reason or delta.error)
    return found


def test_answers_with_and_without_beams_in_one_batch():
    prompts = [prompt("one"), prompt(sound(0.5, 3), "two"), prompt("three")]
    samplings = [Sampling(max_new_tokens=6)] * 3
    alone = whole(engine.generate(prompts, samplings))
    mixed = whole(generated(engine, prompts, samplings, [None, Beams(3), None]))
    assert sorted(mixed) == [0, 1, 2]
    assert (mixed[0], mixed[2]) == (alone[0], alone[2])
    assert whole(generated(engine, prompts[1:2], samplings[:1], [Beams(3)]))[0] == mixed[1]
    assert tokenizer.decode([token for token in mixed[1][1] if token not in tokenizer.eos_ids]) == mixed[1][0]
    assert whole(generated(engine, prompts, samplings, [None] * 3)) == alone


def test_an_answer_with_beams_is_one_delta_with_what_it_cost():
    asked = prompt(sound(0.5, 3), "two")
    (delta,) = generated(engine, [asked], [Sampling(max_new_tokens=6)], [Beams(3)])
    assert delta.usage.prompt_tokens == asked.num_tokens
    assert delta.usage.completion_tokens == len(delta.token_ids) <= 6
    assert delta.finish_reason == ("stop" if delta.token_ids[-1] in tokenizer.eos_ids else "length")


def test_the_decoders_positions_end_an_answer():
    asked = replace(prompt("x"), ids=prompt("x").ids * (CONFIG.decoder.max_positions - 3))
    asked = replace(asked, ids=asked.ids[: CONFIG.decoder.max_positions - 3])
    (delta,) = generated(engine, [asked], [Sampling(max_new_tokens=50)], [Beams(2)])
    assert len(delta.token_ids) <= 3


@pytest.mark.parametrize("errors", ["raise", "return"])
def test_logits_that_are_no_numbers_are_told(errors):
    broken = make_model()
    with torch.no_grad():
        broken.decoder.norm.weight.fill_(torch.nan)
    deltas = generated(Engine(broken, tokenizer), [prompt("a")], [Sampling()], [Beams(2)], errors)
    if errors == "raise":
        with pytest.raises(OverflowedError, match="not finite"):
            list(deltas)
    else:
        (delta,) = deltas
        assert delta.finish_reason == "error"
        assert isinstance(delta.error, OverflowedError)


def test_too_many_beams_for_the_memory_are_told_in_one_line():
    """A row of the cache takes 32 MB, and 32 of them more than this process may have."""
    decoder = replace(CONFIG.decoder, num_layers=1, num_heads=1, num_kv_heads=1, head_dim=1 << 14)
    wide = make_model(replace(CONFIG, decoder=decoder))
    asked = prompt("a dog")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE_BYTES
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (512 << 20), limits[1]))
    try:
        with pytest.raises(MemoryExhaustedError) as caught:
            list(generated(Engine(wide, tokenizer), [asked], [Sampling(max_new_tokens=4)], [Beams(32)]))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert "num_beams=32" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, FlamingoError)
