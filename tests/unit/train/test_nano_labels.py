"""What the encoder is told: places, voices, comparisons; and what an answer's tokens count."""

from __future__ import annotations

import copy
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from audioflamingo.model.weights import resolve
from audioflamingo.train.nano_items import ANSWER_WEIGHT, LETTER_WEIGHT, Ask, PlainTokenizer, conversation
from audioflamingo.train.nano_labels import FRAME_INDEX, FRAME_NAMES, frames_of, level_step, spans_of_timeline
from audioflamingo.train.nano_plan import Picked, Shape, make_plan
from audioflamingo.train.nano_words import AFTER, BEFORE, reworded
from audioflamingo.train.optim import MasterAdamW, MasterMuon, orthogonalised
from audioflamingo.world.music.compose import compose, draw_facts
from audioflamingo.world.skills import make
from audioflamingo.world.skills.base import CHOOSE
from audioflamingo.world.timeline import Heard, Timeline, World

VOICE = {"sex": "male", "mood": "calm", "pace": "normal", "engine": "flite", "voice": "cmu_us_kal", "pitch": 1.0}


def timeline(*events: Heard) -> Timeline:
    return Timeline(np.zeros(16_000 * 12, np.float32), events)


def sound(kind: str, start_s: float, end_s: float, level_db: float = 0.0) -> Heard:
    return Heard(kind, start_s, end_s, level_db=level_db)


def names_at(clip: Timeline, at_s: float) -> set[str]:
    return {name for name, start_s, end_s in spans_of_timeline(clip) if start_s <= at_s < end_s}


def test_places_count_all_events_and_those_of_a_kind():
    clip = timeline(sound("dog_bark", 0, 1), sound("cat_meow", 2, 3), sound("dog_bark", 4, 5))
    assert {"nth 1", "again 1", "kinds 1", "dog_bark"} <= names_at(clip, 0.5)
    assert {"nth 2", "again 1", "kinds 2"} <= names_at(clip, 2.5)
    assert {"nth 3", "again 2", "kinds 2"} <= names_at(clip, 4.5)


def test_longest_loudest_and_coming_are_told_where_they_are_clear():
    clip = timeline(sound("wind", 0, 4, -14.0), sound("dog_bark", 5, 6, -14.0), sound("dog_bark", 7, 8, 0.0))
    assert "longest" in names_at(clip, 1.0)
    assert "loudest" not in names_at(clip, 1.0)
    assert {"loudest", "coming"} <= names_at(clip, 7.5)
    assert "loudest" not in names_at(timeline(sound("wind", 0, 4), sound("dog_bark", 5, 6, -2.0)), 1.0)


@pytest.mark.parametrize("seed", range(4))
def test_every_name_of_a_scene_is_known_and_voices_agree_with_the_truth(seed):
    for skill in ("speaker_attributes", "music_reasoning", "emotion"):
        clip = make(skill, World("train", 0.3), seed, 1).clips[0]
        spans = spans_of_timeline(clip)
        assert {name for name, _, _ in spans} <= set(FRAME_NAMES)
        voices = {(e.voice["engine"], e.voice["voice"]) for e in clip.front if e.voice}
        assert len({name for name, _, _ in spans if name.startswith("voice ")}) == min(len(voices), 4)


def test_older_heads_find_their_rows():
    assert FRAME_INDEX["speech"] == 0
    assert FRAME_INDEX["beats 4"] == 189
    assert FRAME_INDEX["about 184 beats"] == 322


def test_a_voice_has_one_height_at_a_time_and_only_where_it_is_voiced():
    heights = (-1, 3, 3, 4, -1, 5)
    clip = timeline(Heard("speech", 1.013, 1.253, voice=VOICE, heights=heights))
    frames = [one for one in frames_of(spans_of_timeline(clip), 0.0, 50) if FRAME_NAMES[one[0]].startswith("height")]
    assert frames == [
        (FRAME_INDEX["height 3"], 26, 28),
        (FRAME_INDEX["height 4"], 28, 29),
        (FRAME_INDEX["height 5"], 30, 31),
    ]


@pytest.mark.parametrize("change", ["steady", "faster"])
def test_phases_fill_every_beat_and_beats_lie_on_the_notes(change):
    rng = random.Random(3)
    score = compose(draw_facts(rng, style="rock", tempo_change=change), rng)
    clip = timeline(Heard("music", 0.5, 0.5 + score.duration_s, piece=score.truth()))
    spans = spans_of_timeline(replace(clip, samples=np.zeros(round(16_000 * (score.duration_s + 1)), np.float32)))
    beats = [start_s for name, start_s, _ in spans if name in ("beat", "downbeat")]
    assert len(beats) == score.facts.num_beats
    assert beats == pytest.approx([0.5 + score.facts.time_s(beat) for beat in range(len(beats))], abs=2e-3)
    for prefix in ("phase ", "in bar "):
        taken = [token for name, first, end in frames_of(spans, 0.0, 1_000) if FRAME_NAMES[name].startswith(prefix)
                 for token in range(first, end)]  # fmt: skip
        assert sorted(taken) == list(range(min(taken), max(taken) + 1))
        assert len(taken) == pytest.approx(25 * score.duration_s, abs=2)


def test_an_options_letter_counts_more():
    tokenizer = PlainTokenizer(resolve("nano") / "tokenizer.json")
    made = conversation([Ask("Which?", "(B) a dog barking"), Ask("Which?", "A dog barking.")], [], tokenizer)
    assert (made.learnt == LETTER_WEIGHT).sum() == 1
    letter = int(made.ids[made.learnt == LETTER_WEIGHT][0])
    assert letter in tokenizer.encode("(B")


@pytest.mark.parametrize(("answer", "is_chosen"), [("(C) a dog barking", True), ("Three.", False)])
def test_what_is_answered_after_thoughts_counts_more(answer, is_chosen):
    tokenizer = PlainTokenizer(resolve("nano") / "tokenizer.json")
    text = f"<think>\n[0.0s - 1.0s] a dog barking.\n</think>\n{answer}"
    made = conversation([Ask("Which?", text)], [], tokenizer)
    tail = tokenizer.encode(f"{answer}<|im_end|>")
    assert made.ids[made.learnt > 1].tolist() == tail
    assert made.ids[made.learnt > 0].tolist() == tokenizer.encode(f"{text}<|im_end|>")
    assert (made.learnt == LETTER_WEIGHT * ANSWER_WEIGHT).sum() == int(is_chosen)


def test_each_answer_of_a_conversation_counts_by_the_root_of_its_length():
    learnt = np.array([0, 1, 0, 0, 1, 1, 1, 1, 0, 5], np.uint8)
    one = Picked([], [], [], [], np.arange(10, dtype=np.uint16), learnt)
    shape = Shape(100, 64, 4, 8, 32, 16, 64)
    plan = make_plan([one], shape, np.random.default_rng(0), vocab_size=100, placeholder=99)
    expected = torch.tensor([1.0, 0.5, 0.5, 0.5, 0.5, 5.0])
    torch.testing.assert_close(plan.weights[:6], expected / expected.sum())


def test_rewording_keeps_options_and_later_lines():
    question = f"What is it? {CHOOSE}\n(A) a dog\n(B) a cat"
    for seed in range(200):
        told = reworded(question, random.Random(seed))
        assert told.endswith(f" {CHOOSE}\n(A) a dog\n(B) a cat")
        plain = reworded("What is it?", random.Random(seed))
        assert "hat is it" in plain
    told = {reworded("What is it?", random.Random(seed)) for seed in range(4_000)}
    assert len(told) == 2 + len(BEFORE) + len(AFTER)


def test_orthogonalised_matrices_keep_directions_and_level_sizes():
    torch.manual_seed(0)
    for shape in ((3, 16, 48), (3, 48, 16)):
        matrices = torch.randn(shape)
        found = orthogonalised(matrices)
        u, _, v = torch.linalg.svd(matrices, full_matrices=False)
        sizes = torch.linalg.svdvals(found)
        assert float(sizes.min()) > 0.6
        assert float(sizes.max()) < 1.3
        cosine = torch.nn.functional.cosine_similarity(found.flatten(1), (u @ v).flatten(1))
        assert float(cosine.min()) > 0.97


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8))


def muon(model: nn.Sequential) -> MasterMuon:
    return MasterMuon({"all": list(model.parameters())}, [model[0].weight])


def trained(model: nn.Sequential, optimiser: MasterAdamW, num_steps: int, first: int = 0) -> float:
    loss = torch.zeros(())
    for step in range(first, first + num_steps):
        x = torch.randn(32, 8, generator=torch.Generator().manual_seed(step))
        loss = (model(x) - x.roll(1, 1)).square().mean()
        loss.backward()
        optimiser.step({"all": 0.02})
    return float(loss.detach())


def test_muon_learns_and_goes_on_from_its_state_to_the_last_bit():
    model = network()
    optimiser = muon(model)
    first = trained(model, optimiser, 1)
    assert trained(model, optimiser, 60, 1) < 0.5 * first
    other = network()
    again = muon(other)
    again.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    trained(model, optimiser, 5, 61)
    trained(other, again, 5, 61)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_rate_of_nothing_leaves_matrices_as_they_are():
    model = network()
    optimiser = muon(model)
    before = [p.detach().clone() for p in model.parameters()]
    model(torch.ones(2, 8)).sum().backward()
    optimiser.step({"all": 0.0})
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(("level_db", "step"), [(-90.0, 0), (-57.0, 0), (-40.0, 6), (-26.0, 10), (-9.0, 16), (0.0, 16)])
def test_levels_are_steps_of_3_db(level_db, step):
    tone = np.sin(np.arange(16_000) * 0.3) * np.sqrt(2.0) * 10.0 ** (level_db / 20.0)
    assert level_step(tone.astype(np.float32)) == step


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 0.99])
def test_of_thoughts_that_were_ended_only_the_answer_is_learnt(share):
    tokenizer = PlainTokenizer(resolve("nano") / "tokenizer.json")
    thoughts = "<think>\n[0.0s - 1.0s] a dog barking (1).\n[2.0s - 3.0s] a dog barking (2).\n"
    asked = Ask("How many dogs?", f"{thoughts}</think>\nTwo.", thought=share)
    made = conversation([asked], [], tokenizer)
    answer, closing = tokenizer.encode("Two.<|im_end|>"), tokenizer.encode("\n</think>\n")
    num_before = len(made.ids) - len(answer)
    assert made.ids[num_before:].tolist() == answer
    assert made.learnt.tolist() == [0] * num_before + [ANSWER_WEIGHT] * len(answer)
    assert made.ids[num_before - len(closing) : num_before].tolist() == closing
    whole = conversation([replace(asked, thought=1.0)], [], tokenizer).ids
    before = num_before - len(closing)
    assert made.ids[:before].tolist() == whole[:before].tolist()
    left_out = len(whole) - len(made.ids)
    opening = len(tokenizer.encode("<think>\n"))
    most = len(tokenizer.encode(thoughts)) - opening
    assert left_out == pytest.approx(min(most, (1 - share) * (most + opening)), abs=1.6)
