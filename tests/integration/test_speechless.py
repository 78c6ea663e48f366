"""Sounds in which nobody speaks, through the embedded model: no words, in no form of a transcript."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audioflamingo import load_audio, load_model
from audioflamingo.cli.main import main
from audioflamingo.errors import AudioError
from audioflamingo.longform import as_values, pieces_of, transcribe_long
from audioflamingo.types import SAMPLE_RATE_HZ, Audio

EXAMPLES = Path(__file__).parents[2] / "examples"
SILENCE, MAN, SIREN = (str(EXAMPLES / name) for name in ("silence.flac", "man_speaking.flac", "siren.flac"))
NOTE = "flamingo: note: no speech is heard in silence.flac\n"


@pytest.fixture(scope="module")
def nano():
    return load_model("nano", device="cpu")


@pytest.fixture
def transcribe(capsys):
    """A function of words to (stdout, stderr)."""

    def run(*words):
        assert main(["transcribe", *map(str, words), "--device", "cpu"]) == 0
        return capsys.readouterr()

    return run


def man_at(*starts_s, duration_s):
    """Silence with one sentence at each of the times."""
    samples, words = np.zeros(round(duration_s * SAMPLE_RATE_HZ), np.float32), load_audio(MAN).samples
    for start_s in starts_s:
        start = round(start_s * SAMPLE_RATE_HZ)
        samples[start : start + len(words)] = words
    return Audio(samples, "talk")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "\n"),
        (("--long-audio", "split"), "\n"),
        (("--format", "srt"), ""),
        (("--format", "vtt"), "WEBVTT\n\n"),
    ],
)
def test_silence_has_no_words_and_a_note(transcribe, words, expected):
    assert transcribe(SILENCE, *words) == (expected, NOTE)


@pytest.mark.parametrize("words", [(), ("--long-audio", "split")])
def test_silence_as_json(transcribe, words):
    out, err = transcribe(SILENCE, "--json", *words)
    found = json.loads(out)
    assert (found["text"], found["notes"], err) == ("", ["no speech is heard in silence.flac"], "")


def test_a_sound_without_speech_leaves_others_their_words(transcribe):
    out, err = transcribe(SILENCE, MAN, SIREN)
    silent, spoken, siren = out.splitlines()
    assert (silent, siren) == (f"{SILENCE}: ", f"{SIREN}: ")
    assert len(spoken.removeprefix(f"{MAN}: ").split()) >= 4
    assert err.count("no speech is heard") == 2


def test_the_model_gives_no_words_and_a_note(nano):
    reply = nano.transcribe(SILENCE)
    assert (reply.text, reply.notes) == ("", ("no speech is heard in silence.flac",))
    spoken = nano.transcribe(MAN)
    assert spoken.text
    assert spoken.notes == ()


def test_minutes_are_heard_in_pieces(nano, transcribe, tmp_path):
    sound = man_at(1, 22, duration_s=40)
    reply, transcript = nano.transcribe(sound), transcribe_long(nano, sound)
    assert reply.transcript == transcript
    assert (reply.text, reply.notes, reply.finish_reason) == (transcript.text, (), "stop")
    assert reply.usage.audio_s == 40
    assert reply.usage.audio_tokens > 40 * 25  # what pieces share is heard twice
    soundfile.write(tmp_path / "talk.wav", sound.samples, SAMPLE_RATE_HZ)
    found = [json.loads(line) for line in transcribe(MAN, tmp_path / "talk.wav", "--json").out.splitlines()]
    assert [one["text"] for one in found] == [nano.transcribe(MAN).text, transcript.text]
    assert [one["segments"] for one in found][1] == as_values(transcript)["segments"]
    (short,) = found[0]["segments"]
    assert short["text"] == found[0]["text"]
    assert 0 < short["start_s"] < short["end_s"] < load_audio(MAN).duration_s
    with pytest.raises(AudioError, match="at most 30 s"):
        nano.transcribe(sound, max_windows=1)
    assert nano.transcribe(sound, max_windows=1, long_audio="truncate").notes == (
        "talk is 40 s; only its first 30 s were kept.",
    )
    assert nano.transcribe(sound, max_windows=1, long_audio="split").transcript == transcript


def test_speech_between_silences_in_pieces(nano, transcribe, tmp_path):
    """Of five pieces the fourth or the second has what is said; it stands there, and no more."""
    for starts_s, number in (((51,), 3), ((26,), 1)):
        sound = man_at(*starts_s, duration_s=75)
        transcript = transcribe_long(nano, sound)
        alone = nano.transcribe(
            [piece for _, piece in pieces_of(sound, nano.lengths.piece_s, nano.lengths.overlap_s)][number]
        ).text
        assert transcript.text.split()[-2:] == alone.split()[-2:]
        assert len(transcript.text.split()) > 4
        assert "there is no speech" not in transcript.text.lower()
        assert transcript.notes == ()
        for one in as_values(transcript)["segments"]:
            assert starts_s[0] - 1 < one["start_s"] < one["end_s"] < starts_s[0] + 4
    soundfile.write(tmp_path / "talk.wav", sound.samples, SAMPLE_RATE_HZ)
    assert transcribe(tmp_path / "talk.wav", "--long-audio", "split").err == ""
