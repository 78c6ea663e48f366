import random
import shutil
import subprocess

import numpy as np
import pytest
from scipy.io import wavfile

from audioflamingo.errors import FlamingoError
from audioflamingo.world import festival, voices
from audioflamingo.world.voices import EngineMissingError, Speaker, draw_speaker, speak, trim_silence

TEXT = "The train leaves at half past nine."


@pytest.mark.parametrize("engine", voices.TRAIN_ENGINES)
def test_speaks_at_16_khz_without_silent_ends(engine, speech_engines):
    first = speak(TEXT, draw_speaker(random.Random(3), (engine,)))
    assert first.dtype == np.float32
    assert 1.0 < len(first) / 16_000 < 6.0
    threshold = 0.004 * np.abs(first).max()
    assert np.abs(first[:160]).max() > threshold
    assert np.abs(first[-160:]).max() > threshold


def test_trimming_keeps_all_that_is_loud():
    samples = np.zeros(1_000, np.float32)
    samples[100:200] = 0.5
    assert len(trim_silence(samples)) == 100
    assert len(trim_silence(np.zeros(10, np.float32))) == 0


def test_flite_says_the_same_twice(speech_engines):
    speaker = Speaker("flite", "cmu_us_slt", "female")
    assert np.array_equal(speak(TEXT, speaker), speak(TEXT, speaker))


@pytest.mark.parametrize("engine", voices.TRAIN_ENGINES)
def test_rate_shortens(engine, speech_engines):
    voice = "en-us+f3" if engine == "espeak-ng" else "cmu_us_slt"
    slow, fast = (speak(TEXT, Speaker(engine, voice, "female", rate=rate)) for rate in (0.8, 1.3))
    assert len(fast) < 0.75 * len(slow)


@pytest.mark.parametrize("engine", voices.TRAIN_ENGINES)
def test_pitch_rises(engine, speech_engines):
    voice = "en-us+m3" if engine == "espeak-ng" else "cmu_us_awb"
    low, high = (median_pitch_hz(speak(TEXT, Speaker(engine, voice, "male", pitch=p))) for p in (0.8, 1.25))
    assert high > 1.15 * low


def median_pitch_hz(samples):
    found = []
    for start in range(0, len(samples) - 800, 800):
        frame = samples[start : start + 800]
        if np.square(frame).mean() < 1e-4:
            continue
        correlation = np.correlate(frame, frame, "full")[799:]
        lag = 40 + int(correlation[40:260].argmax())
        found.append(16_000 / lag)
    return float(np.median(found))


def test_every_voice_of_every_engine_speaks(speech_engines):
    espeak = [f"{voices.ESPEAK_ACCENTS[i % 8]}+{v}" for i, v in enumerate(voices.ESPEAK_FEMALE + voices.ESPEAK_MALE)]
    for voice in espeak:
        assert len(speak("Hello.", Speaker("espeak-ng", voice, "male"))) > 1_600, voice
    for voice in voices.FLITE_VOICES:
        assert len(speak("Hello.", Speaker("flite", voice, "male"))) > 1_600, voice


def test_training_never_draws_a_held_out_engine():
    rng = random.Random(0)
    engines = {draw_speaker(rng).engine for _ in range(200)}
    assert engines == set(voices.TRAIN_ENGINES)
    assert not engines & set(voices.HELD_OUT_ENGINES)


@pytest.mark.skipif(shutil.which("text2wave") is None, reason="festival is not installed")
def test_held_out_engine_speaks():
    samples = speak(TEXT, Speaker("festival", "kal_diphone", "male"))
    assert 1.0 < len(samples) / 16_000 < 6.0


@pytest.mark.parametrize("text", ["", "   ", "a" * 5_000])
def test_text_that_cannot_be_spoken(text):
    with pytest.raises(FlamingoError, match="characters cannot be spoken"):
        speak(text, Speaker("espeak-ng", "en-us", "male"))


def test_unknown_engine_and_voice(speech_engines):
    with pytest.raises(EngineMissingError, match="known: between, espeak-ng, festival, flite, tract"):
        speak("Hello.", Speaker("hal9000", "x", "male"))
    with pytest.raises(EngineMissingError, match="no voice"):
        speak("Hello.", Speaker("espeak-ng", "martian", "male"))


@pytest.mark.skipif(shutil.which("text2wave") is None, reason="festival is not installed")
def test_festival_kept_open_says_what_a_fresh_one_says(tmp_path):
    out = tmp_path / "fresh.wav"
    text = 'Dr. Smith lives at 5 Elm St. She said: "stop!"\nThen she left.'
    commands = f"(begin {festival.BOUNDED} (voice_ked_diphone) (Parameter.set 'Duration_Stretch 1.250))"
    subprocess.run(["text2wave", "-o", out, "-eval", commands], input=text.encode(), check=True, capture_output=True)
    rate_hz, expected = wavfile.read(out)
    for before in ("Hello.", "One, two, three?"):
        festival.speak(before, "kal_diphone", 1.2)
        samples, found_hz = festival.speak(text, "ked_diphone", 0.8)
        assert found_hz == rate_hz
        assert np.array_equal(samples, expected)


@pytest.mark.skipif(shutil.which("text2wave") is None, reason="festival is not installed")
def test_festival_speaks_again_after_it_failed():
    with pytest.raises(EngineMissingError, match="festival failed"):
        speak(TEXT, Speaker("festival", "nobody_diphone", "male"))
    festival._engine().kill()
    with pytest.raises(EngineMissingError):
        speak(TEXT, Speaker("festival", "kal_diphone", "male"))
    assert len(speak(TEXT, Speaker("festival", "kal_diphone", "male"))) > 8_000


# The end of each sounded another way at times, before festival's search was bounded.
WAVERING = (
    ("Anna bought nine brown chairs at the hotel shop.", "ked_diphone", 1.402),
    ("David has to write two reports before Friday.", "ked_diphone", 0.666),
    ("David has to write two reports before Friday.", "ked_diphone", 1.463),
    ("She suggested cutting down on paprika.", "kal_diphone", 0.925),
    ("Simon left the red camera in the hotel.", "ked_diphone", 0.982),
    ("The laptop was too icy.", "ked_diphone", 0.904),
    ("The score is eleven to eleven.", "ked_diphone", 0.921),
    ("What is forty-three times two?", "ked_diphone", 0.904),
)


@pytest.fixture
def festival_anew():
    def end():
        festival._engine().kill()
        festival._engine().wait()
        festival._engine.cache_clear()

    yield end
    end()


@pytest.mark.skipif(shutil.which("text2wave") is None, reason="festival is not installed")
def test_festival_says_the_same_in_any_order_and_whatever_lay_in_memory(monkeypatch, festival_anew):
    heard = {sentence: set() for sentence in WAVERING}
    for number, filling in enumerate(("0", "63", "64", "192")):
        monkeypatch.setenv("MALLOC_PERTURB_", filling)  # glibc fills what it frees; elsewhere the orders alone differ
        festival_anew()
        order = list(WAVERING)
        if number:
            random.Random(number).shuffle(order)
        for sentence in order:
            heard[sentence].add(festival.speak(*sentence)[0].tobytes())
    assert [sentence for sentence, sounds in heard.items() if len(sounds) > 1] == []
    assert min(len(sound) for sounds in heard.values() for sound in sounds) > 16_000
