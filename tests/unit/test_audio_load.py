"""Everything that holds sound is read: each format, each kind of source, each type of sample."""

import io
import shutil
import subprocess
import sys
from pathlib import Path

import audio_files
import numpy as np
import pytest
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audioflamingo.audio import load
from audioflamingo.errors import AudioError, OptionError
from audioflamingo.types import Audio

TONE = audio_files.tone()
MONO = TONE.mean(axis=1)
FILES = audio_files.every_format(TONE)
LOSSLESS = {"pcm16.wav": 15, "float.wav": 30, "pcm24.wav": 23, "long.wav": 15, "pcm16.aiff": 15, "a.flac": 15}
# How many samples at 16 kHz an encoder adds at most that no header tells the decoder to drop.
MAX_PADDING = {"a.aac": 2048, "aac.m4a": 1023, "fragments.mp4": 2048, "video.mp4": 1023, "mp3.wav": 2304}
MAX_PADDING |= {"uncounted.mp3": 2304, "adpcm.wav": 1024, "vorbis.ogg": 0, "alac.m4a": 0, "flac.mkv": 0}


def best_correlation(heard, original):
    """Of two sounds of which one may be delayed by the codec."""
    size = len(heard) + len(original)
    product = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(original, size)), size)
    return product.max() / (np.linalg.norm(heard) * np.linalg.norm(original))


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_back_the_sound(name):
    audio = load(FILES[name], name=name)
    assert audio.samples.dtype == np.float32
    assert audio.samples.flags.c_contiguous
    assert best_correlation(audio.samples, MONO) > 0.99
    if name in LOSSLESS:
        assert np.abs(audio.samples - MONO).max() <= 2.0 ** -LOSSLESS[name]
    assert 0 <= len(audio.samples) - len(MONO) <= MAX_PADDING.get(name, 0)


@pytest.mark.parametrize(
    ("subtype", "bits"), [("PCM_U8", 7), ("PCM_16", 15), ("PCM_24", 23), ("PCM_32", 24), ("FLOAT", 30), ("DOUBLE", 24)]
)
def test_wav_subtypes_are_read_to_their_precision(subtype, bits):
    audio = load(audio_files.write(MONO, "WAV", subtype))
    assert np.abs(audio.samples - MONO).max() <= 2.0**-bits


def test_full_scale_integers_stay_within_one():
    loudest = np.array([-(2**15), 2**15 - 1] * 200, np.int16)
    for audio in (load(audio_files.write(loudest, "WAV", "PCM_16")), load(loudest, sample_rate_hz=16_000)):
        assert audio.samples.min() == -1.0
        assert audio.samples.max() == 1.0 - 2.0**-15


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 44_099, 48_000, 96_000])
def test_blockwise_resampling_equals_resampling_at_once(rate_hz):
    sound = np.random.default_rng(0).standard_normal(rate_hz * 7).astype(np.float32)
    resampled = load(sound, sample_rate_hz=rate_hz).samples
    np.testing.assert_allclose(resampled, soxr.resample(sound, rate_hz, 16_000, "HQ"), atol=1e-6)


@pytest.mark.parametrize("rate_hz", [1_000, 768_000])
def test_the_lowest_and_highest_rates_keep_the_duration(rate_hz):
    assert load(audio_files.tone(2.0, rate_hz), sample_rate_hz=rate_hz).duration_s == pytest.approx(2.0, abs=1e-3)


def test_a_real_rate_change_in_a_file_keeps_the_tone():
    audio = load(audio_files.write(audio_files.tone(2.0, 44_100, 1000.0), "FLAC", "PCM_16", 44_100))
    assert np.abs(audio.samples - audio_files.tone(2.0, 16_000, 1000.0).mean(axis=1)).max() < 1e-3


@pytest.mark.parametrize("quiet", [slice(0, 32_000), slice(32_000, 64_000)], ids=["quiet first", "loud first"])
def test_mp3_without_a_count_is_read_to_its_end(quiet):
    sound = 0.1 * np.random.default_rng(0).standard_normal((64_000, 2)).astype(np.float32)
    sound[quiet] *= 1e-4  # few bits, which fools those who guess the duration from the bit rate, either way
    variable_rate = {"flags": "+qscale", "global_quality": str(4 * 118)}
    data = audio_files.encode(sound, "mp3", "libmp3lame", options={"write_xing": "0"}, codec_options=variable_rate)
    assert 4.0 <= load(data).duration_s < 4.2


def test_flac_without_a_count_is_read_to_its_end():
    np.testing.assert_array_equal(
        load(audio_files.without_flac_count(FILES["a.flac"])).samples, load(FILES["a.flac"]).samples
    )


@pytest.mark.parametrize("announced", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_wav_from_a_pipe_announces_too_much_and_is_read(announced):
    piped = audio_files.patched(FILES["pcm16.wav"], b"data", 4, "<I", announced)
    np.testing.assert_array_equal(load(piped).samples, load(FILES["pcm16.wav"]).samples)


def test_chunks_before_and_after_the_sound_do_no_harm():
    data = FILES["pcm16.wav"]
    start = data.index(b"data")
    odd = b"LIST" + (5).to_bytes(4, "little") + b"hello\0"
    np.testing.assert_array_equal(load(data[:start] + odd + data[start:] + odd).samples, load(data).samples)


def test_a_flac_behind_an_id3_tag_is_read():
    tag = b"ID3\x04\x00\x00" + bytes([0, 0, 0, 20]) + bytes(20)
    np.testing.assert_array_equal(load(tag + FILES["a.flac"]).samples, load(FILES["a.flac"]).samples)


class Pipe:
    """A file that can only be read, a little at a time."""

    def __init__(self, data):
        self._file = io.BytesIO(data)

    def read(self, num_bytes=-1):
        return self._file.read(min(num_bytes, 1000))


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, io.BytesIO, Pipe], ids=lambda wrap: wrap.__name__)
def test_bytes_and_open_files(wrap):
    audio = load(wrap(FILES["pcm16.wav"]))
    assert np.abs(audio.samples - MONO).max() <= 2.0**-15
    assert audio.name == "audio"


@pytest.mark.parametrize("as_path", [str, Path], ids=["str", "Path"])
@pytest.mark.parametrize("file_name", ["a.flac", "misnamed.raw", "ohne Endung", "聲音.txt"])
def test_paths_whatever_the_name_says(tmp_path, as_path, file_name):
    (tmp_path / file_name).write_bytes(FILES["a.flac"])
    audio = load(as_path(tmp_path / file_name))
    assert audio.name == file_name
    assert len(audio.samples) == len(MONO)


def test_an_open_file_is_read_from_where_it_stands_and_gives_its_name(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"header" + FILES["pcm16.wav"])
    with path.open("rb") as file:
        file.seek(6)
        audio = load(file)
    assert (audio.name, len(audio.samples)) == ("a.bin", len(MONO))


def test_a_given_name_wins():
    assert load(FILES["pcm16.wav"], name="question").name == "question"
    assert load(load(MONO, sample_rate_hz=16_000), name="again").name == "again"


def test_names_are_one_short_printable_line(tmp_path):
    path = tmp_path / "two\nlines.wav"
    path.write_bytes(FILES["pcm16.wav"])
    assert load(path).name == "two�lines.wav"
    assert len(load(FILES["pcm16.wav"], name="x" * 1000).name) < 150


def test_an_audio_is_returned_as_it_is():
    audio = Audio(MONO, "mine")
    assert load(audio) is audio
    assert load(audio, sample_rate_hz=16_000) is audio


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "longdouble"])
def test_floating_arrays_are_taken_as_they_are(dtype):
    np.testing.assert_allclose(load(MONO.astype(dtype), sample_rate_hz=16_000).samples, MONO, atol=1e-3)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", ">i2", ">i4"])
def test_signed_arrays_are_scaled(dtype):
    scale = 2.0 ** (8 * np.dtype(dtype).itemsize - 1)
    audio = load((MONO.astype(np.float64) * scale).round().astype(dtype), sample_rate_hz=16_000)
    np.testing.assert_allclose(audio.samples, MONO, atol=1 / scale + 1e-7)


def test_unsigned_bytes_are_centred():
    audio = load(np.array([0, 128, 255, 128] * 200, np.uint8), sample_rate_hz=16_000)
    np.testing.assert_array_equal(audio.samples[:4], [-1.0, 0.0, 127 / 128, 0.0])


@pytest.mark.parametrize("shape", [(2, 8000), (8000, 2), (8000, 1), (1, 8000), (64, 65), (65, 64)])
def test_the_short_axis_holds_the_channels(shape):
    ramp = np.linspace(-1, 1, max(shape), dtype=np.float32)
    sound = np.broadcast_to(ramp[:, None] if shape[0] > shape[1] else ramp, shape)
    rate_hz = 16_000 if max(shape) > 1000 else 1_000
    expected = load(ramp, sample_rate_hz=rate_hz).samples
    np.testing.assert_allclose(load(sound, sample_rate_hz=rate_hz).samples, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_tensors(dtype):
    sound = torch.from_numpy(TONE.T.copy()).to(dtype).requires_grad_()
    np.testing.assert_allclose(load(sound, sample_rate_hz=16_000).samples, MONO, atol=4e-3)


@given(num_samples=st.integers(321, 40_000), num_channels=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_blocks_join_without_a_seam(num_samples, num_channels, seed):
    sound = np.random.default_rng(seed).standard_normal((num_samples, num_channels)).astype(np.float32)
    audio = load(sound, sample_rate_hz=16_000)
    np.testing.assert_allclose(audio.samples, sound.mean(axis=1), atol=1e-6)


def test_the_limit_is_exact():
    assert load(np.zeros(16_000, np.float32), sample_rate_hz=16_000, max_duration_s=1.0).duration_s == 1.0
    with pytest.raises(AudioError, match=r"lasts 1\.0 s; at most 1 s"):
        load(np.zeros(16_001, np.float32), sample_rate_hz=16_000, max_duration_s=1.0)


@pytest.mark.parametrize("bound", [0, -1, float("nan")])
def test_a_limit_must_be_positive(bound):
    with pytest.raises(OptionError, match="max_duration_s"):
        load(MONO, sample_rate_hz=16_000, max_duration_s=bound)


def test_importing_loads_no_decoder():
    code = "import audioflamingo.audio, sys; print({'av', 'soundfile', 'soxr'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.skipif(shutil.which("sox") is None, reason="sox is not installed")
def test_what_sox_pipes_is_read(tmp_path):
    (tmp_path / "in.wav").write_bytes(FILES["pcm16.wav"])
    with (tmp_path / "in.wav").open("rb") as source:
        piped = subprocess.run(
            ["sox", "-t", "wav", "-", "-t", "wav", "-"], stdin=source, capture_output=True, check=True
        )
    assert len(load(piped.stdout).samples) == len(MONO)
