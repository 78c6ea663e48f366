"""Every bad input gives one line that names the sound and says what to do, in bounded time and memory."""

import io
import os
import sys
import time
import tracemalloc

import audio_files
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audioflamingo.audio import MIN_SAMPLES, check_length, load
from audioflamingo.audio.decode import _Within
from audioflamingo.errors import AudioError
from audioflamingo.types import Audio

TONE = audio_files.tone()
FILES = audio_files.every_format(TONE)
WAV = FILES["pcm16.wav"]
MONO = TONE.mean(axis=1)
LONGER = audio_files.every_format(0.1 * np.random.default_rng(0).standard_normal((64_000, 2)).astype(np.float32))
STREAMED = {"uncounted.mp3", "live.webm"}  # nothing in them says where they should end


def refusal(source, match, **options):
    with pytest.raises(AudioError, match=match) as caught:
        load(source, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


CONTENTS = {
    "empty file": (b"", r"is empty \(0 bytes\)"),
    "one byte": (b"\0", "in no known audio format"),
    "zeros": (bytes(5000), "in no known audio format"),
    "text": (b"Dear reader,\nthis is not a sound.\n" * 30, "holds text, not sound"),
    "text in UTF-8": ("Grüße, 聲音\n".encode() * 100, "holds text, not sound"),
    "web page": (b"<!doctype html><html>404</html>", "holds text, not sound"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "in no known audio format"),
    "playlist": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "holds text, not sound"),
    "wav without samples": (audio_files.write(TONE[:0], "WAV", "PCM_16"), "has no samples"),
    "wav header alone": (WAV[:36], "its header is all there is"),
    "riff head alone": (WAV[:12], "its header is all there is"),
    "wav with zero channels": (audio_files.patched(WAV, b"fmt ", 10, "<H", 0), "0 channels at 16000 Hz"),
    "wav at 0 Hz": (audio_files.patched(WAV, b"fmt ", 12, "<I", 0), "2 channels at 0 Hz"),
    "wav at 999 Hz": (audio_files.patched(WAV, b"fmt ", 12, "<I", 999), "999 Hz; allowed are 1000 to 768000 Hz"),
    "wav at 1 MHz": (audio_files.patched(WAV, b"fmt ", 12, "<I", 10**6), "1000000 Hz; allowed are"),
    "wav of 65 channels": (audio_files.write(np.zeros((800, 65)), "WAV", "PCM_16"), "65 channels; allowed are 1 to 64"),
    "wav of an unknown codec": (audio_files.patched(WAV, b"fmt ", 8, "<H", 0x1234), "cannot be decoded as WAV"),
    "float wav with NaN": (audio_files.write(np.full(800, np.nan), "WAV", "FLOAT"), "not finite"),
    "float wav with Inf": (audio_files.write(np.full(800, np.inf), "WAV", "FLOAT"), "not finite"),
    "double wav beyond float": (audio_files.write(np.full(800, 1e300), "WAV", "DOUBLE"), "not finite"),
    "float wav out of all bounds": (audio_files.write(np.full(800, 1e30), "WAV", "FLOAT"), "of magnitude 1e[+]30"),
    "10 ms": (audio_files.write(TONE[:160], "WAV", "PCM_16"), r"0\.01 s \(160 samples.*more than 0\.02 s"),
    "mp4 without sound": (audio_files.video_only(), "no audio track"),
    "mp4 without index": (FILES["aac.m4a"].replace(b"moov", b"mooo"), r"no index \(moov box\)"),
    "webm head alone": (FILES["opus.webm"][:40], "cut off"),
    "webm with a header of 2**56 bytes": (b"\x1a\x45\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xfe" + bytes(99), "cut off"),
    "mp4 with a box of 2**63 bytes": (b"\0\0\0\x01ftyp\x7f" + b"\xff" * 99, "cut off"),
    "mp3 that ends in its count": (b"\xff\xfb\x90\x64" + bytes(32) + b"VBRI\0\1", "cannot be decoded|no samples"),
    "chained ogg": (FILES["vorbis.ogg"] + FILES["a.opus"], "chain of several Ogg streams"),
    "webm with a gap": (
        audio_files.encode(np.repeat(TONE, 3, axis=0), "webm", "libopus", 48_000, gap_s=1.0),
        r"gap of 1\.\d+ s at 0\.2",
    ),
    "id3 tag alone": (b"ID3\x04\x00\x00\x00\x00\x00\x10" + bytes(16), "cannot be decoded as MP3|no samples"),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_bad_contents(kind, tmp_path):
    content, match = CONTENTS[kind]
    (tmp_path / "bad.wav").write_bytes(content)
    assert refusal(tmp_path / "bad.wav", match).startswith("bad.wav ")
    assert refusal(content, match, name="upload").startswith("upload ")


@pytest.mark.parametrize("part", [0.3, 0.6, 0.95, 0.999])
@pytest.mark.parametrize("name", sorted(FILES.keys() - STREAMED))
def test_a_truncated_file_is_never_shortened_in_silence(name, part):
    refusal(FILES[name][: int(len(FILES[name]) * part)], "cut off|cannot be decoded|no audio track")


@pytest.mark.parametrize("name", ["a.flac", "vorbis.ogg", "a.opus", "counted.mp3", "opus.webm", "live.webm", "a.aac"])
def test_damage_in_the_middle_is_not_skipped(name):
    data = bytearray(LONGER[name])
    data[len(data) // 2 : len(data) // 2 + 1500] = bytes(1500)
    refusal(bytes(data), "cannot be decoded|damaged")


@given(name=st.sampled_from(["a.flac", "vorbis.ogg", "a.opus"]), part=st.floats(0.5, 0.99), flip=st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_one_wrong_byte_is_noticed_where_there_are_checksums(name, part, flip):
    data = bytearray(LONGER[name])
    data[int(part * len(data))] ^= flip
    refusal(bytes(data), "cannot be decoded|damaged")


def test_paths_that_cannot_be_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refusal(tmp_path / "missing.wav", r"missing\.wav does not exist")
    refusal(str(tmp_path / "missing" / "a.wav"), "does not exist")
    refusal(tmp_path, "is a directory")
    refusal(tmp_path / "pipe", "not a regular file")
    refusal("/dev/zero", "not a regular file")
    refusal("a\0b.wav", "is not a path")
    refusal("x" * 5000, "cannot be opened")
    refusal("", "does not exist")


def test_a_file_without_read_permission(tmp_path):
    path = tmp_path / "secret.wav"
    path.write_bytes(WAV)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    refusal(path, r"secret\.wav may not be read: permission denied")


def test_permission_denied_by_the_system_is_told(tmp_path, monkeypatch):
    path = tmp_path / "secret.wav"
    path.write_bytes(WAV)

    def deny(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", deny)
    refusal(path, r"secret\.wav may not be read: permission denied")


class Endless:
    name = "endless.wav"

    def read(self, num_bytes):
        return bytes(num_bytes)


class Failing:
    def read(self, _num_bytes):
        raise OSError(5, "Input/output error")


def test_open_files_that_cannot_be_read(monkeypatch):
    closed = io.BytesIO(WAV)
    closed.close()
    refusal(closed, "closed file")
    refusal(io.StringIO("RIFF"), "open as text")
    refusal(Failing(), "Input/output error")
    monkeypatch.setattr(sys.modules["audioflamingo.audio.load"], "MAX_READ_BYTES", 1 << 22)
    refusal(Endless(), r"endless\.wav gives more than 4194304 bytes")


ARRAYS = {
    "object": (np.array([1.0, None] * 500, object), "type object"),
    "complex": (np.zeros(800, np.complex64), "type complex64"),
    "bool": (np.zeros(800, bool), "type bool"),
    "int64": (np.zeros(800, np.int64), "type int64"),
    "uint16": (np.zeros(800, np.uint16), "type uint16"),
    "text": (np.array(["a"] * 800), "type <U1"),
    "structured": (np.zeros(800, [("left", "f4"), ("right", "f4")]), "is an array of type"),
    "no dimension": (np.array(1.0), "0 dimensions"),
    "three dimensions": (np.zeros((1, 2, 800), np.float32), "3 dimensions"),
    "no samples": (np.zeros(0, np.float32), "no samples"),
    "no channels": (np.zeros((0, 800), np.float32), r"shape \(0, 800\)"),
    "no samples in two channels": (np.zeros((2, 0), np.float32), r"shape \(2, 0\)"),
    "both axes short": (np.zeros((64, 64), np.float32), "unclear"),
    "both axes long": (np.zeros((65, 65), np.float32), "unclear"),
    "NaN": (np.full(800, np.nan, np.float32), "not finite"),
    "one NaN": (np.where(np.arange(800) == 799, np.nan, 0.0).astype(np.float32), "not finite"),
    "Inf": (np.full(800, np.inf, np.float32), "not finite"),
    "minus Inf": (np.full(800, -np.inf, np.float32), "not finite"),
    "beyond float32": (np.full((800, 2), 1e39), "not finite"),
    "overflow of the mean": (np.full((800, 4), 3e38, np.float32), "not finite|of magnitude"),
    "16-bit values as floats": (np.full(800, 3e4, np.float32), "of magnitude 3e[+]04.*divide 16-bit values by 32768"),
    "too loud": (np.full(800, -1e12, np.float32), "of magnitude 1e[+]12"),
    "too short": (np.zeros(MIN_SAMPLES - 1, np.float32), "320 samples"),
    "complex tensor": (torch.zeros(800, dtype=torch.complex64), "type complex64"),
    "int64 tensor": (torch.zeros(800, dtype=torch.int64), "type int64"),
    "sparse tensor": (torch.zeros(800).to_sparse(), "cannot be read"),
    "meta tensor": (torch.zeros(800, device="meta"), "cannot be read"),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_bad_arrays(kind):
    array, match = ARRAYS[kind]
    assert refusal(array, match, sample_rate_hz=16_000, name="mic").startswith("mic ")


@pytest.mark.parametrize(
    ("rate_hz", "match"),
    [
        (None, "Pass sample_rate_hz"),
        (0, " 0 Hz; allowed"),
        (-16_000, "-16000 Hz; allowed"),
        (999, "allowed are 1000 to 768000 Hz"),
        (768_001, "allowed are 1000 to 768000 Hz"),
        (16_000.5, "whole number"),
        ("16000", "whole number"),
    ],
)
def test_bad_rates_of_arrays(rate_hz, match):
    refusal(MONO, match, sample_rate_hz=rate_hz)


def test_a_rate_that_contradicts_the_file_is_refused():
    refusal(WAV, "states 16000 Hz, but sample_rate_hz=8000 came", sample_rate_hz=8_000)
    assert load(WAV, sample_rate_hz=16_000).duration_s == 0.5


@pytest.mark.parametrize("source", [None, 3, [0.0] * 800, {"array": MONO}], ids=lambda source: type(source).__name__)
def test_other_types(source):
    refusal(source, "allowed are a path, bytes")


@pytest.mark.parametrize(
    ("samples", "options", "match"),
    [
        (MONO.astype(np.float64), {}, "not an .N,. float32 array"),
        (TONE, {}, "not an .N,. float32 array"),
        (list(MONO), {}, "not an .N,. float32 array"),
        (np.full(800, np.nan, np.float32), {}, "not finite"),
        (MONO[:320], {}, "320 samples"),
        (MONO[:0], {}, "0 samples"),
        (MONO, {"sample_rate_hz": 8_000}, "sample_rate_hz=8000"),
        (MONO, {"max_duration_s": 0.1}, "lasts 0.5 s"),
    ],
)
def test_an_audio_that_is_none(samples, options, match):
    assert refusal(Audio(samples, "mine"), match, **options).startswith("mine ")


def test_a_rate_where_an_audio_has_its_name_is_refused():
    assert "16000 Hz; make one from samples of any rate with load_audio" in refusal(
        Audio(MONO, 44_100), "no rate, but 44100"
    )


def test_the_shortest_sound_has_one_audio_token():
    check_length(Audio(MONO[:MIN_SAMPLES]))
    assert len(load(MONO[:MIN_SAMPLES], sample_rate_hz=16_000).samples) == 321
    with pytest.raises(AudioError, match=r"audio is 0\.02 s \(320 samples at 16000 Hz\)"):
        check_length(Audio(MONO[: MIN_SAMPLES - 1]))


@pytest.fixture(scope="module")
def ten_hours():
    """A FLAC of ten hours of silence in about 100 kB."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 1_000, 1, "PCM_16", format="FLAC") as out:
        for _ in range(10):
            out.write(np.zeros(3_600_000, np.int16))
    return file.getvalue()


def bounded(source, match, **options):
    """Refused within a second and 20 MB."""
    tracemalloc.start()
    start = time.perf_counter()
    refusal(source, match, **options)
    elapsed_s = time.perf_counter() - start
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert elapsed_s < 1.0
    assert peak_bytes < 20e6


def test_ten_hours_of_silence_are_refused_by_their_header(ten_hours):
    bounded(ten_hours, r"lasts 36000\.0 s; at most 14400 s are read")


def test_a_header_that_does_not_say_is_not_believed(ten_hours):
    bounded(audio_files.without_flac_count(ten_hours), "lasts longer than the 60 s", max_duration_s=60.0)


def test_a_header_that_promises_more_than_there_is():
    promising = audio_files.patched(FILES["a.flac"], b"fLaC", 22, ">I", 2**32 - 1)
    bounded(promising, "cannot be decoded", max_duration_s=1e9)


HEADS = [b"RIFF\xff\xff\xff\xffWAVEfmt ", b"RF64\xff\xff\xff\xffWAVEds64", b"FORM\0\0\0\0AIFF", b"fLaC\0\0\0\x22"]
HEADS += [b"OggS\0\2", b"ID3\4\0\0\0\0\0\0", b"\xff\xfb\x90\x64", b"\xff\xf1\x50\x80", b"\0\0\0\x18ftypM4A ", b""]
HEADS += [b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01"]


def load_or_refuse(data):
    """Whatever the bytes: a sound or an AudioError, and soon."""
    start, complaint, samples = time.perf_counter(), "", np.zeros(MIN_SAMPLES, np.float32)
    try:
        samples = load(data, max_duration_s=60.0).samples
    except AudioError as error:
        complaint = str(error)
    assert time.perf_counter() - start < 5.0
    assert "\n" not in complaint
    assert samples.dtype == np.float32
    assert len(samples) >= MIN_SAMPLES
    assert np.isfinite(samples).all()


@given(head=st.sampled_from(HEADS), rest=st.binary(max_size=3000))
@settings(max_examples=300, deadline=None)
def test_random_bytes(head, rest):
    load_or_refuse(head + rest)


def test_a_decoder_that_is_sent_before_the_beginning_stays_where_it_is():
    file = _Within(io.BytesIO(b"abcdef"))
    assert file.seek(2) == 2
    assert file.seek(-1) == 2  # out of libsndfile's callback no exception can come
    assert file.seek(-9, io.SEEK_CUR) in (0, 2)
    assert file.seek(-2, io.SEEK_END) == 4
    assert file.read(9) == b"ef"


@given(data=st.data(), name=st.sampled_from(sorted(FILES)))
@settings(max_examples=400, deadline=None)
def test_mutated_files(data, name):
    mutated = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 8))):
        position = data.draw(st.integers(0, len(mutated) - 1) | st.integers(0, 200))
        piece = data.draw(st.binary(max_size=8) | st.sampled_from([bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff"]))
        num_replaced = data.draw(st.sampled_from([len(piece), len(piece), 0, 50]))
        mutated[position : position + num_replaced] = piece
        mutated = mutated or bytearray(1)
    load_or_refuse(bytes(mutated))
