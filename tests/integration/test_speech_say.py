import io
import signal
import subprocess
import sys
import time
import wave

import numpy as np
import pytest

from audioflamingo.audio import load
from audioflamingo.audio.containers import identify
from audioflamingo.cli import speech_file
from audioflamingo.cli.main import main
from audioflamingo.cli.output import OutputError
from audioflamingo.cli.say import write_wav
from audioflamingo.cli.speech_file import FORMS, SUFFIXES, WAV, write_speech
from audioflamingo.errors import OptionError


@pytest.fixture
def stdin(monkeypatch):
    def give(data):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return give


def test_say_writes_a_wav_file(tmp_path, capsys):
    out = tmp_path / "out.wav"
    assert main(["say", "Hello", "there, 12 cats.", "-o", str(out)]) == 0
    with wave.open(str(out)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
        assert file.getnframes() > 24_000
    assert capsys.readouterr() == ("", "")
    assert np.abs(load(out).samples).max() > 0.05


def tone(duration_s):
    """16-bit PCM of a quiet 440 Hz at 24 kHz."""
    times = np.arange(round(24_000 * duration_s)) / 24_000
    return (8_000 * np.sin(2 * np.pi * 440 * times)).astype("<i2").tobytes()


@pytest.mark.parametrize("suffix", [WAV, *FORMS, ".MP3"])
def test_a_file_is_what_its_name_says(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    write_speech(path, [tone(1), tone(180), tone(0.1)])  # minutes at once, as flamingo talk gives
    with open(path, "rb") as file:
        assert identify(file, path.name) == FORMS.get(suffix.lower(), ("WAV",))[0]
    sound = load(path)
    assert sound.duration_s == pytest.approx(181.1, abs=0.1)
    middle = sound.samples[90 * 16_000 : 91 * 16_000]
    assert np.abs(np.fft.rfft(middle)).argmax() == 440
    assert np.abs(middle).max() == pytest.approx(8_000 / 32_768, rel=0.1)


def test_say_writes_the_form_of_the_suffix(tmp_path, capsys):
    for name in ("out.mp3", "out.flac"):
        assert main(["say", "Hello.", "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / "out.flac").read_bytes()[:4] == b"fLaC"
    assert not (tmp_path / "out.mp3").read_bytes().startswith(b"RIFF")
    assert np.abs(load(tmp_path / "out.mp3").samples).max() > 0.05
    assert capsys.readouterr() == ("", "")


def test_a_form_that_cannot_be_written_is_refused_before_anything_is_said(tmp_path, capsys):
    assert main(["say", "Hello.", "-o", str(tmp_path / "out.mp4")]) == 2
    assert f"out.mp4 ends in .mp4, which cannot be written; allowed: {SUFFIXES}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [WAV, *FORMS])
def test_a_full_disk_is_one_line_in_every_form(tmp_path, suffix, capfd):
    path = tmp_path / f"out{suffix}"
    path.symlink_to("/dev/full")
    with pytest.raises(OptionError, match="cannot be written: No space left"):
        write_speech(path, [tone(20)])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", FORMS)
def test_an_interruption_inside_libsndfile_is_not_lost(tmp_path, suffix, monkeypatch, capfd):
    def interrupted(target, data, write=speech_file._Target.write):
        if not said:
            said.append(data)
            signal.raise_signal(signal.SIGINT)
        return write(target, data)

    said = []
    monkeypatch.setattr(speech_file._Target, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_speech(tmp_path / f"out{suffix}", [tone(20)] * 3)
    assert said
    assert capfd.readouterr() == ("", "")


def test_what_was_said_before_an_interruption_can_be_heard(tmp_path):
    def pieces():
        yield tone(1)
        raise KeyboardInterrupt

    for suffix in (WAV, ".flac"):
        with pytest.raises(KeyboardInterrupt):
            write_speech(tmp_path / f"out{suffix}", pieces())
        assert load(tmp_path / f"out{suffix}").duration_s == pytest.approx(1)


def test_say_reads_standard_input(tmp_path, stdin):
    stdin("Good morning. Café \xff".encode("latin-1"))
    assert main(["say", "-o", str(tmp_path / "out.wav")]) == 0


def test_say_streams_to_stdout_before_its_input_ends():
    command = [sys.executable, "-m", "audioflamingo", "say", "-o", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdin.write(b"Hello there. This is ")
        child.stdin.flush()
        began = time.monotonic()
        header = child.stdout.read(44 + 3_840)  # the first packet, 80 ms
        assert time.monotonic() - began < 30
        assert header.startswith(b"RIFF")
        child.stdin.write(b"the end.")
        child.stdin.close()
        rest = child.stdout.read()
    assert child.returncode == 0
    assert len(rest) > 24_000


def test_a_full_disk_is_one_line(tmp_path):
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OutputError, match="No space left"):
        write_wav(full, [bytes(100_000)])


def test_a_slow_reader_gets_every_byte(tmp_path):
    command = [sys.executable, "-m", "audioflamingo", "say", "One, two, three, four, five.", "-o"]
    subprocess.run([*command, tmp_path / "whole.wav"], check=True)
    received = bytearray()
    with subprocess.Popen([*command, "-"], stdout=subprocess.PIPE) as child:
        while piece := child.stdout.read(2_000):
            received += piece
            time.sleep(0.005)
    assert child.returncode == 0
    assert received[44:] == (tmp_path / "whole.wav").read_bytes()[44:]


def test_a_reader_that_vanishes_ends_it():
    command = [sys.executable, "-m", "audioflamingo", "say", "-o", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        child.stdin.write(b"One two three. " * 500)
        child.stdin.close()
        child.stdout.read(100)
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 141


def test_left_out_characters_are_noted(tmp_path, capsys):
    assert main(["say", "hello 😀", "-o", str(tmp_path / "x.wav")]) == 0
    assert "😀" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["say", "hello"], "-o"),
        (["say", "привет", "-o", "x.wav"], "nothing in this text"),
        (["say", "hello", "-o", "/no/such/folder/x.wav"], "cannot be written"),
        (["say", "hello", "-o", "x.wav", "--rate", "7"], "0.5 to 2"),
        (["say", "hello", "-o", "x.wav", "--engine", "siri"], "espeak-ng"),
    ],
)
def test_mistakes_are_one_line(words, error, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    message = capsys.readouterr().err
    assert error in message
    assert message.count("\n") == 1
    assert not list(tmp_path.iterdir())
