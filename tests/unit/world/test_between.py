"""Speakers between two others: the first one's words and melody, another throat, the same every time."""

import random

import numpy as np
import pytest

from audioflamingo.errors import FlamingoError
from audioflamingo.world import between, scenes
from audioflamingo.world.between import ENGINE, Between, between_share, draw_between_speaker, person
from audioflamingo.world.height import fundamental_hz
from audioflamingo.world.scenes import Dice, Source, speech_scene
from audioflamingo.world.voices import FLITE_VOICES, EngineMissingError, Speaker, speak

pytestmark = pytest.mark.usefixtures("speech_engines")
TEXT = "The last scene was a gnome in the local meadow."


def speaker_of(first, second, sex, share, monkeypatch, apart=0.0):
    monkeypatch.setattr(between, "APART", apart)
    monkeypatch.setattr(between, "person", lambda voice, sex: between.Person(first, second, share, 1))
    return Speaker(ENGINE, "between-1", sex)


def envelope(samples):
    """Mean log spectrum in 32 bands."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 512)[::128] * np.hanning(512)
    power = np.square(np.abs(np.fft.rfft(frames, axis=1))).mean(0)
    return np.log10(power[: 32 * 8].reshape(32, 8).mean(1))


def test_the_same_seed_and_text_give_the_same_samples_and_another_seed_others():
    one, other = (draw_between_speaker(random.Random(seed)) for seed in (1, 2))
    assert np.array_equal(speak(TEXT, one), speak(TEXT, one))
    assert len(speak(TEXT, one)) != len(speak(TEXT, other))


def test_without_a_share_it_is_the_first_one(monkeypatch):
    speaker = speaker_of("cmu_us_awb", "cmu_us_rms", "male", 0.0, monkeypatch)
    mine = Between().speak(TEXT, speaker)[0]
    plain = speak(TEXT, Speaker("flite", "cmu_us_awb", "male"))
    whole = between._said(TEXT, "cmu_us_awb", speaker)[0]
    assert len(plain) <= len(whole) == len(mine)
    np.testing.assert_allclose(mine[512:-512], whole[512:-512], atol=2e-3)


@pytest.mark.parametrize("second", ["cmu_us_rms", "tract-7"])
def test_the_spectrum_becomes_the_other_s_and_the_melody_stays(monkeypatch, second):
    speaker = speaker_of("cmu_us_awb", second, "male", 1.0, monkeypatch)
    mine, first, other = (
        Between().speak(TEXT, speaker)[0],
        *(between._said(TEXT, voice, speaker)[0] for voice in ("cmu_us_awb", second)),
    )
    assert len(mine) == len(first)
    shapes = [envelope(one / np.sqrt(np.mean(np.square(one)))) for one in (mine, first, other)]
    assert np.abs(shapes[0] - shapes[2]).mean() < 0.7 * np.abs(shapes[1] - shapes[2]).mean()
    heights = [fundamental_hz(one) for one in (mine, first)]
    voiced = (heights[0] > 0) & (heights[1] > 0)
    assert voiced.mean() > 0.3
    assert np.median(np.abs(np.log2(heights[0][voiced] / heights[1][voiced]))) < 0.02


def test_phones_differ_in_how_far_they_go_and_pauses_stay():
    who = between.Person("cmu_us_awb", "cmu_us_rms", 0.5, 3)
    shares = {who.share_in(phone) for phone in ("m", "n", "s", "t", "aa", "iy")}
    assert len(shares) == 6
    assert all(0.0 <= share <= 1.1 for share in shares)
    assert who.share_in("pau") == 0.0
    assert who.share_in("m") == who.share_in("m")


def test_the_second_one_of_the_other_sex_is_not_reached():
    for seed in range(60):
        for sex in ("female", "male"):
            who = person(f"between-{seed}", sex)
            assert FLITE_VOICES[who.first] == sex
            assert who.first != who.second
            if FLITE_VOICES.get(who.second, sex) != sex:
                assert who.share <= between.FARTHEST_OTHER_SEX


@pytest.mark.parametrize("voice", ["between", "between-x", "rms"])
def test_a_voice_that_is_none_is_told(voice):
    with pytest.raises(EngineMissingError, match="its voices are between-0"):
        speak(TEXT, Speaker(ENGINE, voice, "male"))


def test_nothing_to_say_is_told():
    with pytest.raises(FlamingoError):
        speak("...", Speaker(ENGINE, "between-1", "male"))


def test_training_alone_hears_them(monkeypatch):
    assert between_share("train", ("espeak-ng", "flite"), 1.0) > 0
    for split, engines, variety in (("test", ("espeak-ng", "flite"), 1.0), ("train", ("espeak-ng",), 1.0),
                                    ("train", ("espeak-ng", "flite"), 0.0)):  # fmt: skip
        assert between_share(split, engines, variety) == 0
    monkeypatch.setattr(between, "BETWEEN_SHARE", 1.0)
    monkeypatch.setattr("audioflamingo.world.tract.TRACT_SHARE", 0.0)
    asked = []
    monkeypatch.setattr(scenes, "speak", lambda text, speaker: asked.append(speaker.engine) or speak(text, speaker))
    speech_scene(Source("train", variety=1.0), Dice.of(1))
    speech_scene(Source("test", variety=0.0), Dice.of(1))
    assert asked[0] == ENGINE
    assert ENGINE not in asked[1:]
