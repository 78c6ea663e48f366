"""The engine that draws speakers: sound and settings that are asked for, the same every time, and understood."""

import random

import numpy as np
import pytest

from audioflamingo import Audio, Message, load_model
from audioflamingo.errors import FlamingoError
from audioflamingo.eval.metrics import word_error_rate
from audioflamingo.world import cast, tasks
from audioflamingo.world.height import fundamental_hz
from audioflamingo.world.scenes import Dice, Source, speech_scene
from audioflamingo.world.skills.base import Job
from audioflamingo.world.text import normalise
from audioflamingo.world.timeline import World
from audioflamingo.world.tract import (
    ENGINE,
    draw_tract_speaker,
    draw_voice,
    person,
    tract_share,
    whispers,
)
from audioflamingo.world.tract_flite import Segment, segments_of
from audioflamingo.world.tract_phones import NOISES, PHONES
from audioflamingo.world.tract_plan import planned
from audioflamingo.world.tract_sound import NUM_BINS, noise_shapes
from audioflamingo.world.voices import EngineMissingError, Speaker, draw_speaker, open_engine, speak
from audioflamingo.world.word_times import speak_timed

pytestmark = pytest.mark.usefixtures("speech_engines")
TEXT = "The train leaves at half past nine."


def clear_speaker(seed, sex, **settings):
    return Speaker(ENGINE, draw_voice(random.Random(seed), clear=True), sex, **settings)


def median_hz(samples):
    hz = fundamental_hz(samples)
    return float(np.median(hz[hz > 0]))


def test_the_same_seed_and_text_give_the_same_samples():
    speaker = draw_tract_speaker(random.Random(1))
    assert np.array_equal(speak(TEXT, speaker), speak(TEXT, speaker))
    other = speak(TEXT, draw_tract_speaker(random.Random(2)))
    assert len(other) != len(speak(TEXT, speaker))


@pytest.mark.parametrize("seed", range(12))
def test_every_draw_is_finite_and_has_a_level(seed):
    speaker = draw_tract_speaker(random.Random(seed))
    samples = speak(TEXT, speaker)
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= 0.95
    assert 0.005 < np.sqrt(np.mean(samples**2)) < 0.3
    assert 0.9 < len(samples) / 16_000 < 5.0


@pytest.mark.parametrize("seed", range(14))
def test_pitch_is_what_was_asked_for(seed):
    for sex in ("female", "male"):
        for pitch in (0.8, 1.0, 1.3):
            speaker = clear_speaker(seed, sex, pitch=pitch)
            wanted = person(speaker.voice, sex).saying.pitch_hz * pitch
            found = median_hz(speak(TEXT, speaker))
            assert abs(12 * np.log2(found / wanted)) < 1.5, (speaker, found, wanted)


def test_liveliness_widens_the_pitch():
    widths = []
    for liveliness in (0.3, 2.0):
        hz = np.concatenate(
            [fundamental_hz(speak(TEXT, clear_speaker(seed, "male", liveliness=liveliness))) for seed in range(3)]
        )
        semitones = 12 * np.log2(hz[hz > 0])
        widths.append(np.quantile(semitones, 0.9) - np.quantile(semitones, 0.1))
    assert widths[1] > 1.3 * widths[0]


@pytest.mark.parametrize("seed", range(4))
def test_duration_follows_the_rate(seed):
    slow, normal, fast = (len(speak(TEXT, clear_speaker(seed, "female", rate=rate))) for rate in (0.7, 1.0, 1.4))
    assert 1.25 < slow / normal < 1.6
    assert 0.62 < fast / normal < 0.82


def test_women_have_smaller_throats_than_men():
    second = {
        sex: np.mean([person(f"tract-{seed}", sex).saying.scale[1] for seed in range(30)]) for sex in ("female", "male")
    }
    assert second["female"] > 1.1 * second["male"]


def test_seeds_are_different_people_and_some_whisper():
    people = {person(f"tract-{seed}", "male").saying.scale for seed in range(50)}
    assert len(people) == 50
    share = np.mean([whispers(f"tract-{seed}") for seed in range(2_000)])
    assert 0.01 < share < 0.04
    rng = random.Random(0)
    assert not any(whispers(draw_voice(rng, clear=True)) for _ in range(300))


def test_a_whisper_has_no_pitch():
    voice = next(f"tract-{seed}" for seed in range(1_000) if whispers(f"tract-{seed}"))
    whispered = fundamental_hz(speak(TEXT, Speaker(ENGINE, voice, "male")))
    spoken = fundamental_hz(speak(TEXT, clear_speaker(3, "male")))
    assert np.mean(whispered > 0) < 0.15 < np.mean(spoken > 0)


def test_words_come_with_their_times():
    samples, words = speak_timed(TEXT, clear_speaker(5, "female"))
    assert words is not None
    assert " ".join(word.text for word in words) == normalise(TEXT)
    starts = [word.start_s for word in words]
    assert starts == sorted(starts)
    assert words[-1].end_s <= len(samples) / 16_000
    # "half" ends in the noise of f: there is less below 1 kHz than in its vowel.
    half = samples[round(words[4].start_s * 16_000) : round(words[4].end_s * 16_000)]
    thirds = [np.abs(np.fft.rfft(third, 16_000))[:1_000].mean() for third in np.array_split(half, 3)]
    assert thirds[1] > 3 * thirds[2]


def test_what_flite_said_before_changes_nothing():
    before = segments_of(TEXT)
    speak(TEXT, Speaker("flite", "cmu_us_kal", "male", rate=1.5))
    assert segments_of(TEXT) == before


def test_every_sound_of_the_rules_is_in_the_table():
    text = "The joyful boy thought vision would charge a young zebra. Hot soup, put foods aside, bird; sing how!"
    assert {segment.phone for segment in segments_of(text)} <= set(PHONES)
    assert "ah" in {segment.phone for segment in segments_of("sunny")}


def test_noises_have_the_level_of_the_table():
    shapes = noise_shapes(person("tract-1", "female").throat)
    assert shapes.shape == (len(NOISES), NUM_BINS)
    assert np.allclose(np.mean(shapes**2, axis=1), 1.0, rtol=1e-3)


def test_characters_that_nobody_can_say_are_passed_over():
    assert segments_of("yes 漢") == segments_of("yes ")
    assert len(speak("yes 漢", clear_speaker(1, "male"))) > 3_000


def test_a_word_without_voice_has_no_pitch_to_be_centred():
    segments = [Segment("pau", 0.1), Segment("p", 0.1, word=0, spelling="pst"), Segment("s", 0.15, word=0),
                Segment("t", 0.1, word=0), Segment("pau", 0.1)]  # fmt: skip
    speaker = clear_speaker(1, "male")
    saying = person(speaker.voice, speaker.sex).saying
    plan = planned(segments, "pst", speaker, saying, np.random.default_rng(0))
    assert np.isfinite(plan.tracks.f0).all()
    assert [name for name, _ in plan.phones][1:4] == ["p", "s", "t"]


@pytest.mark.parametrize("text", ["...", "漢字", "?!"])
def test_nothing_to_say_is_an_error(text):
    with pytest.raises(FlamingoError, match="no sound"):
        speak(text, clear_speaker(1, "male"))


def test_empty_text_is_an_error():
    with pytest.raises(FlamingoError, match="0 characters cannot be spoken"):
        speak("", clear_speaker(1, "male"))


@pytest.mark.parametrize("voice", ["slt", "tract-", "tract-x", "tract--1", "tract-²"])
def test_a_voice_without_a_number_is_an_error(voice):
    with pytest.raises(EngineMissingError, match="has no voice"):
        speak(TEXT, Speaker(ENGINE, voice, "male"))


def test_a_long_text_is_spoken_to_its_end():
    text = " ".join([TEXT] * 50)
    samples = speak(text, clear_speaker(2, "male"))
    assert len(samples) > 40 * len(speak(TEXT, clear_speaker(2, "male"))) * 0.8
    assert np.isfinite(samples).all()


def test_only_training_with_variety_draws_them():
    rng = random.Random(0)
    assert not any(draw_speaker(rng).engine == ENGINE for _ in range(300))
    assert tract_share("train", ("espeak-ng", "flite"), 1.0) > 0
    for split, engines, variety in (
        ("test", ("espeak-ng", "flite"), 1.0),
        ("test_known", ("espeak-ng", "flite"), 1.0),
        ("train", ("espeak-ng",), 1.0),
        ("train", ("espeak-ng", "flite"), 0.0),
    ):
        assert tract_share(split, engines, variety) == 0


def test_scenes_and_casts_of_training_have_some():
    assert open_engine(ENGINE) is open_engine(ENGINE)
    rng = random.Random(3)
    voices = [cast.draw_cast(rng, ("espeak-ng", "flite"), ("female", "male"), tract_share=0.2) for _ in range(200)]
    drawn = [voice for pair in voices for voice in pair if voice.speaker.engine == ENGINE]
    assert 50 < len(drawn) < 110
    assert all((first.sex, second.sex) == ("female", "male") for first, second in voices)
    assert not any(whispers(voice.speaker.voice) for voice in drawn)


def test_worlds_hand_their_share_to_the_cast():
    def engines(world):
        casts = [Job(world, Dice.of(seed), random.Random(seed), random.Random(seed)).cast(None) for seed in range(60)]
        return {one.speaker.engine for (one,) in casts}

    assert ENGINE in engines(World("train", variety=1.0))
    assert ENGINE not in engines(World("train")) | engines(World("test_known", variety=1.0))


def test_a_scene_by_such_a_speaker_tells_sex_text_and_heights(monkeypatch):
    monkeypatch.setattr("audioflamingo.world.tract.TRACT_SHARE", 1.0)
    scene = speech_scene(Source("train", strength=0.0, variety=1.0), Dice.of(5))
    (event,) = scene.events
    assert event.text
    assert event.sex in ("female", "male")
    assert max(event.heights) >= 0


def test_the_embedded_model_understands_several_speakers():
    texts = ["She flew from Dubai to Frankfurt.", "The orange one or the red one?", "Both of them went to the station."]
    speakers = [clear_speaker(seed, sex) for seed in range(3) for sex in ("female", "male")]
    spoken = [(text, speak(text, speaker)) for speaker in speakers for text in texts]
    conversations = [[Message("user", (Audio(x, "a"), tasks.TRANSCRIBE[0]))] for _, x in spoken]
    replies = load_model("nano").generate(conversations, max_new_tokens=40)
    figure = word_error_rate([normalise(text) for text, _ in spoken], [reply.text for reply in replies])
    assert figure.value < 0.45
