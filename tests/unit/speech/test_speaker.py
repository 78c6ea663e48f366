import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioflamingo.errors import FlamingoError, OptionError
from audioflamingo.speech.engines import ENGINES, VoiceMissingError, open_voice
from audioflamingo.speech.speaker import Speaker, open_speaker
from audioflamingo.speech.stream import SPEECH_RATE_HZ
from audioflamingo.speech.voice import PhraseVoice, resampled

TEXT = "Hello, my good friend. I have 12 cats and one very old dog that likes to sleep in the warm sun all day long."


def ten_ms_a_letter(text):
    return np.full(240 * len(text), 0.5, np.float32), SPEECH_RATE_HZ


@pytest.fixture(scope="module", params=["espeak-ng", "flite"])
def speaker(request):
    return open_speaker(request.param)


def test_speech_comes_in_growing_packets(speaker):
    packets = list(speaker.stream([TEXT], generation=7))
    assert [packet.duration_ms for packet in packets[:3]] == [80, 160, 320]
    assert all(packet.generation == 7 for packet in packets)
    assert 4_000 < packets[-1].start_ms + packets[-1].duration_ms < 12_000


def test_streamed_text_gives_the_same_sound():
    """With an engine without noise of its own: 10 ms a letter."""
    speaker = Speaker(PhraseVoice("letters", ten_ms_a_letter))
    whole, letters = (b"".join(packet.pcm for packet in speaker.stream(deltas)) for deltas in ([TEXT], TEXT))
    assert whole == letters


def test_sound_comes_before_the_text_ends(speaker):
    taken = []

    def deltas():
        for word in TEXT.split(" "):
            taken.append(word)
            yield word + " "

    next(speaker.stream(deltas()))
    assert len(taken) <= 3


def test_what_was_heard_grows_with_the_sound(speaker):
    stream = speaker.stream([TEXT])
    total_ms = sum(packet.duration_ms for packet in stream)
    heard = [stream.heard_text(share * total_ms) for share in (0, 0.2, 0.5, 1)]
    assert heard[0] == ""
    assert heard[-1] == TEXT
    assert all(TEXT.startswith(one) for one in heard)
    assert 0 < len(heard[1]) < len(heard[2]) < len(TEXT)


@pytest.mark.parametrize(("engine", "floor"), [("flamingo", 1e-2), ("espeak-ng", 1e-3)])
def test_pauses_are_heard(engine, floor):
    samples = open_speaker(engine).say("One. Two.")
    quiet = np.abs(samples) < floor
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], quiet, [0]]))))[::2]
    assert runs.max() > 0.35 * SPEECH_RATE_HZ


def test_rate_changes_the_length():
    slow, fast = (len(open_speaker(rate=rate).say(TEXT)) for rate in (0.8, 1.4))
    assert slow > 1.3 * fast


@pytest.mark.parametrize("text", ["", "   ", "😀", "привет"])
@pytest.mark.parametrize("engine", ["flamingo", "espeak-ng"])
def test_nothing_to_say_is_an_error_of_the_whole_text_and_an_empty_stream(engine, text):
    speaker = open_speaker(engine)
    with pytest.raises(FlamingoError, match="nothing"):
        speaker.say(text)
    stream = speaker.stream([text])
    assert list(stream) == []
    assert bool(stream.notes) == bool(text.strip())


def test_a_word_of_ten_thousand_letters_is_spoken_in_pieces():
    packets = []
    for packet in open_speaker().stream(["bla" * 3_333]):
        packets.append(packet)
        if len(packets) == 5:
            break
    assert len(packets) == 5


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"engine": "siri"}, "espeak-ng, flite, piper, kokoro"),
        ({"rate": 9}, "0.5 to 2"),
        ({"voice": "klingon-42"}, "klingon-42"),
        ({"engine": "flite", "voice": "x"}, "cmu_us_slt"),
        ({"engine": "piper"}, "path"),
        ({"engine": "piper", "voice": "missing.onnx"}, "no file"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(arguments, error):
    with pytest.raises((OptionError, FlamingoError), match=error):
        open_voice(**arguments)


@pytest.mark.parametrize("engine", ["piper", "kokoro"])
def test_engines_that_the_user_installs_say_how(engine, tmp_path):
    if importlib.util.find_spec(engine) is not None:
        pytest.skip(f"{engine} is installed")
    voice = tmp_path / "voice.onnx"
    voice.touch()
    with pytest.raises(VoiceMissingError, match="pip install"):
        ENGINES[engine](str(voice), 1.0)


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["one ", "two, ", "three. ", "3.5 ", "\n", "x" * 70, " "]), max_size=30))
def test_every_sample_and_mark_of_an_engine_arrives(pieces):
    """With an engine of exactly known output: 10 ms a letter."""
    spoken = []

    def render(text):
        spoken.append(text)
        return ten_ms_a_letter(text)

    stream = Speaker(PhraseVoice("ten ms a letter", render)).stream(pieces)
    pcm = b"".join(packet.pcm for packet in stream)
    samples = np.frombuffer(pcm, "<i2")
    assert np.count_nonzero(samples) >= sum(240 * len(text) - 2 for text in spoken)
    if spoken:
        assert stream.heard_text(1e9) == stream.text.rstrip() or stream.text.endswith("\n")


def test_voices_of_other_rates_are_resampled():
    time_s = np.arange(16_000) / 16_000
    tone = np.sin(2 * np.pi * 440 * time_s).astype(np.float32)
    out = resampled(tone, 16_000)
    assert len(out) == SPEECH_RATE_HZ
    assert np.argmax(np.abs(np.fft.rfft(out))) == 440
