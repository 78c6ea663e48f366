import numpy as np
import pytest

from audioflamingo.errors import OptionError
from audioflamingo.speech.detect import EnergyDetector, open_detector
from audioflamingo.speech.turns import Turns
from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world.voices import Speaker, speak

RATE = SAMPLE_RATE_HZ


@pytest.fixture(scope="module")
def sentence():
    """2 s or so of speech."""
    return speak("The quick brown fox jumps over the lazy dog.", Speaker("espeak-ng", "en-us", "male"))


def noise(duration_s, level_db, seed=0):
    samples = np.random.default_rng(seed).standard_normal(round(duration_s * RATE))
    return (samples * 10 ** (level_db / 20)).astype(np.float32)


def share(verdicts):
    return sum(verdicts) / len(verdicts)


def split(detector, sound, start_s, end_s):
    """Shares of speech verdicts before, within and after a span."""
    verdicts = detector.feed(sound)
    a, b = (round(1000 * s / detector.step_ms) for s in (start_s, end_s))
    return share(verdicts[:a]), share(verdicts[a:b]), share(verdicts[b + 10 :])


@pytest.mark.parametrize("name", ["energy", "silero"])
@pytest.mark.parametrize("noise_db", [-80, -50])
def test_speech_in_noise_is_found(name, noise_db, sentence):
    if name == "silero":
        pytest.importorskip("silero_vad")
    sound = noise(4 + len(sentence) / RATE, noise_db)
    sound[2 * RATE : 2 * RATE + len(sentence)] += sentence / np.abs(sentence).max() * 0.3
    before, within, after = split(open_detector(name), sound, 2, 2 + len(sentence) / RATE)
    assert before < 0.02
    assert within > 0.85
    assert after < 0.05


def test_silence_and_steady_noise_are_no_speech():
    assert not any(EnergyDetector().feed(np.zeros(5 * RATE, np.float32)))
    assert share(EnergyDetector().feed(noise(10, -30))) < 0.02


def test_a_room_that_grows_louder_is_learnt():
    detector = EnergyDetector()
    detector.feed(noise(4, -60))
    verdicts = detector.feed(noise(8, -35, seed=1))
    assert not any(verdicts[-150:])


def test_hum_is_no_speech():
    time_s = np.arange(4 * RATE) / RATE
    hum = (0.1 * np.sin(2 * np.pi * 50 * time_s)).astype(np.float32)
    assert not any(EnergyDetector().feed(hum)[1:])


def test_pieces_of_any_size_give_the_same_verdicts(sentence):
    sound = np.concatenate([noise(1, -60), sentence, noise(1, -60, 1)])
    whole = EnergyDetector().feed(sound)
    detector, cuts = EnergyDetector(), np.random.default_rng(0).integers(0, len(sound), 50)
    pieces = [verdict for piece in np.split(sound, np.sort(cuts)) for verdict in detector.feed(piece)]
    assert pieces == whole


def test_detector_and_turns_find_two_sentences(sentence):
    quiet = noise(1.5, -65)
    detector, turns = EnergyDetector(), Turns()
    actions = []
    for verdict in detector.feed(np.concatenate([quiet, sentence, quiet, sentence, quiet])):
        for action in turns.step(verdict, detector.step_ms, detector.hangover_ms):
            actions += [action] if action.kind != "listen" else []
            if action.kind == "end_turn":
                turns.answer_begins()
                turns.answer_ends()
    assert [action.kind for action in actions] == ["begin_turn", "end_turn"] * 2
    sentence_s = len(sentence) / RATE
    for action, start_s in zip(actions[1::2], (1.5, 3.0 + sentence_s), strict=True):
        assert start_s * 1000 - 400 < action.start_ms <= start_s * 1000
        end_ms = 1000 * (start_s + sentence_s)
        assert abs(action.end_ms - end_ms) < 150
        assert action.time_ms - end_ms <= 500 + detector.step_ms  # the hangover is no second wait


@pytest.mark.parametrize(("burst_ms", "is_turn"), [(2, False), (40, False), (100, True)])
def test_a_click_begins_no_turn_and_a_short_word_does(burst_ms, is_turn):
    sound = np.concatenate([noise(1, -60), noise(burst_ms / 1000, -15), noise(1, -60, 1)])
    detector, turns = EnergyDetector(), Turns()
    kinds = [a.kind for v in detector.feed(sound) for a in turns.step(v, detector.step_ms, detector.hangover_ms)]
    assert kinds == (["begin_turn", "listen", "end_turn"] if is_turn else [])


def test_an_unknown_detector_is_refused():
    with pytest.raises(OptionError, match="energy"):
        open_detector("magic")
