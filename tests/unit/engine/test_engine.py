"""The loop on a tiny random model: batch equals single, streamed equals whole, and every way an answer can end."""

import gc

import numpy as np
import pytest
import torch
from tiny_engine import MAX_POSITIONS, is_clean, make_model, prompt, run, sound, tokenizer

from audioflamingo.engine.engine import Engine
from audioflamingo.engine.plain import AudioEmbedder
from audioflamingo.engine.scheduler import Limits
from audioflamingo.errors import OptionError
from audioflamingo.model.attention import Packing
from audioflamingo.model.decoder import CausalContext
from audioflamingo.types import Audio, Prompt, Sampling, Span


@pytest.fixture(scope="module")
def engine():
    return Engine(make_model(), tokenizer)


@pytest.fixture(scope="module")
def prompts(engine):
    rain, dog, music = sound(0.5, 1), sound(2, 2), sound(31, 3)
    return [
        prompt(rain, "What is it?"),
        prompt("Which came first? ", dog, " or ", rain, "?"),
        prompt("no sound"),
        prompt(music, "Describe it."),
        prompt(dog, dog, "Twice."),
        prompt("x"),
    ]


def plainest(engine, prompt, num_tokens):
    """Greedy tokens by running the whole sequence again for every token, without any cache."""
    embedder, ids = AudioEmbedder(engine.model, 1), list(prompt.ids)
    with torch.no_grad():
        embedder.add(prompt.audios)
        audio = embedder.of_prompt(prompt)
        for _ in range(num_tokens):
            packing = Packing.of([len(ids)], engine.model.device)
            merged = engine.model.merge(torch.tensor(ids), torch.cat(audio) if audio else None)
            hidden = engine.model.hidden_states(merged, packing.positions, CausalContext(packing))
            ids.append(int(engine.model.logits(hidden[-1]).argmax()))
    return tuple(ids[prompt.num_tokens :])


def test_tokens_are_those_of_the_model_without_a_cache(engine, prompts):
    answers = run(engine, prompts[:3], [Sampling(max_new_tokens=6)] * 3)
    for one, (token_ids, _, _) in zip(prompts[:3], answers, strict=True):
        assert token_ids == plainest(engine, one, len(token_ids))


SAMPLINGS = [
    Sampling(max_new_tokens=30),
    Sampling(max_new_tokens=3, temperature=1.5, seed=1),
    Sampling(max_new_tokens=25, temperature=0.8, top_k=20, top_p=0.9, repetition_penalty=1.2, seed=2),
    Sampling(max_new_tokens=12, repetition_penalty=1.5),
    Sampling(max_new_tokens=20, temperature=1.0, seed=3),
    Sampling(max_new_tokens=1),
]


@pytest.mark.parametrize(
    "limits",
    [
        Limits(),
        Limits(max_sequences=2, prefill_tokens=40, encoder_windows=1),
        Limits(max_sequences=3, max_cache_tokens=832, encoder_windows=2, prefill_tokens=100),
    ],
    ids=["together", "two by two", "little cache"],
)
def test_every_prompt_gets_what_it_gets_alone(engine, prompts, limits):
    together = run(Engine(engine.model, engine.tokenizer, limits), prompts, SAMPLINGS)
    alone = [run(engine, [one], [how])[0] for one, how in zip(prompts, SAMPLINGS, strict=True)]
    assert [one[:2] for one in together] == [one[:2] for one in alone]
    assert [one[2].usage for one in together] == [one[2].usage for one in alone]


def test_streamed_text_is_the_text_of_the_tokens(engine, prompts):
    for token_ids, text, _ in run(engine, prompts, [Sampling(max_new_tokens=40, temperature=2.0)] * len(prompts)):
        assert text == engine.tokenizer.decode(token_ids)


def test_seeds(engine, prompts):
    def texts(seed):
        return [
            one[1] for one in run(engine, prompts[:2], [Sampling(max_new_tokens=20, temperature=1.0, seed=seed)] * 2)
        ]

    assert texts(7) == texts(7) != texts(8)


def test_ends_at_the_limit_of_new_tokens(engine, prompts):
    token_ids, _, last = run(engine, prompts[:1], [Sampling(max_new_tokens=5)])[0]
    assert (len(token_ids), last.finish_reason) == (5, "length")
    assert last.usage.completion_tokens == 5
    assert (last.usage.prompt_tokens, last.usage.audio_tokens) == (prompts[0].num_tokens, prompts[0].num_audio_tokens)
    assert last.usage.audio_s == pytest.approx(0.5)


def test_ends_where_the_positions_end(engine):
    long = Prompt((5,) * (MAX_POSITIONS - 3))
    token_ids, _, last = run(engine, [long], [Sampling(max_new_tokens=50)])[0]
    assert (len(token_ids), last.finish_reason) == (3, "length")


@pytest.mark.parametrize("end", ["im_end", "endoftext"])
def test_ends_at_an_end_token_which_is_counted_but_not_shown(engine, prompts, end):
    token_ids, text, _ = run(engine, prompts[:1], [Sampling(max_new_tokens=8)])[0]
    row = token_ids[4]
    assert row not in token_ids[:4]
    with _swapped_rows(engine.model, row, getattr(engine.tokenizer, end)):
        stopped, shown, last = run(engine, prompts[:1], [Sampling(max_new_tokens=8)])[0]
    assert stopped == (*token_ids[:4], getattr(engine.tokenizer, end))
    assert shown == engine.tokenizer.decode(token_ids[:4])
    assert text.startswith(shown)
    assert last.finish_reason == "stop"


class _swapped_rows:  # noqa: N801
    """Two tokens trade places at the model's end, so that it says the one where it said the other."""

    def __init__(self, model, one, other):
        self.weight, self.pair = model.decoder.lm_head.weight, [one, other]

    def __enter__(self):
        with torch.no_grad():
            self.weight[self.pair] = self.weight[self.pair[::-1]].clone()

    def __exit__(self, *_):
        self.__enter__()


def test_ends_before_a_stop_string_that_is_never_shown(engine, prompts):
    _, whole, _ = run(engine, prompts[:1], [Sampling(max_new_tokens=30)])[0]
    stop = whole[7:10]
    deltas = list(engine.generate(prompts[:1], [Sampling(max_new_tokens=30, stop=("@never@", stop))]))
    assert "".join(one.text for one in deltas) == whole[: whole.find(stop)]
    assert deltas[-1].finish_reason == "stop_string"
    assert deltas[-1].usage.completion_tokens == len(deltas) < 30


def test_closing_frees_the_cache_and_leaves_no_inference_mode_behind(engine, prompts):
    deltas = engine.generate(prompts, [Sampling(max_new_tokens=500)] * len(prompts))
    next(deltas)
    assert not torch.is_inference_mode_enabled()
    assert engine.counts.num_held_blocks > 0
    deltas.close()
    assert is_clean(engine)


def test_a_generator_that_is_forgotten_frees_its_share(engine, prompts):
    deltas = engine.generate(prompts, [Sampling(max_new_tokens=500)] * len(prompts))
    next(deltas)
    del deltas
    gc.collect()
    assert is_clean(engine)


def test_a_generator_that_was_never_begun_takes_nothing(engine, prompts):
    deltas = engine.generate(prompts, [Sampling()] * len(prompts))
    assert not engine.has_work
    deltas.close()
    assert is_clean(engine)


def test_equal_sounds_are_encoded_once(engine, monkeypatch):
    encoded = []
    encoder_forward = engine.model.encoder.forward
    engine = Engine(engine.model, engine.tokenizer)
    monkeypatch.setattr(
        engine.model.encoder, "forward", lambda mel, frames: encoded.extend(frames) or encoder_forward(mel, frames)
    )
    same = [prompt(Audio(sound(1, 4).samples, name), f"{name}?") for name in "abc"]
    run(engine, same, [Sampling(max_new_tokens=2)] * 3)
    assert encoded == [100]


def test_a_last_window_too_short_for_a_token_is_no_trouble(engine):
    one = prompt(sound(30 + 0.01, 5), "What?")
    assert one.num_audio_tokens == 750
    alone = run(Engine(engine.model, engine.tokenizer, Limits(encoder_windows=1)), [one], [Sampling(max_new_tokens=2)])
    assert alone[0][:2] == run(engine, [one], [Sampling(max_new_tokens=2)])[0][:2]


def test_no_prompts_no_deltas(engine):
    assert list(engine.generate([], [])) == []


def test_wrong_options_are_refused_before_any_work(engine, prompts):
    with pytest.raises(OptionError, match="temperature"):
        engine.generate(prompts[:1], [Sampling(temperature=-1)])


def test_a_sound_too_short_for_a_token_changes_nothing(engine):
    """`prompt.build` refuses one; the engine takes what it is given."""
    ids = tuple(engine.tokenizer.encode("What is it?"))
    short = Audio(np.zeros(320, np.float32), "short")
    with_it = Prompt(ids, (Span(1, 0, 0),), (short,))
    found, expected = (list(engine.generate([one], [Sampling(max_new_tokens=3)])) for one in (with_it, Prompt(ids)))
    assert [delta.token_ids for delta in found] == [delta.token_ids for delta in expected]
