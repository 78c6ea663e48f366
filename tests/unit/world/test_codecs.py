"""Codecs: the standards' bits and figures, what a low rate sounds like, and that nothing moves in time."""

import random
import shutil
import struct
import subprocess

import numpy as np
import pytest
from scipy import signal

from audioflamingo.errors import OptionError
from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world import codecs
from audioflamingo.world import transform_codec as transform
from audioflamingo.world.rooms import colored_noise
from audioflamingo.world.skills.base import EVENT_KINDS
from audioflamingo.world.sounds import VARIANTS, render

N = 2 * SAMPLE_RATE_HZ
NAMES = (*codecs.CODECS, "transform@8", "transform@12", "transform@24", "transform@64")
ALL_PCM = np.arange(-32_768, 32_768).astype(np.int16)
needs_sox = pytest.mark.skipif(not shutil.which("sox"), reason="no sox")
needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="no ffmpeg")
RAW_PCM = ["-t", "raw", "-e", "signed", "-b", "16"]
ONE_CHANNEL = ["-r", str(SAMPLE_RATE_HZ), "-c", "1"]
FFMPEG, MONO = ["ffmpeg", "-v", "error"], ["-ar", str(SAMPLE_RATE_HZ), "-ac", "1"]


def noise(seed=0, n=N, deviation=0.2):
    return (deviation * np.random.default_rng(seed).standard_normal(n)).clip(-1, 1).astype(np.float32)


def dark(seed=0):
    """As steep as speech."""
    return np.clip(0.1 * colored_noise(N, np.random.default_rng(seed), -6.0), -1, 1)


def snr_db(x, y):
    return 10 * np.log10(np.mean(x.astype(np.float64) ** 2) / np.mean((x.astype(np.float64) - y) ** 2))


def pcm(x):
    return np.rint(x * 32_767).astype(np.int16)


def tool(*words, data=b""):
    return subprocess.run(words, input=data, capture_output=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("name", NAMES)
def test_a_codec_keeps_length_range_and_timing_and_is_the_same_every_time(name):
    x = np.pad(render("dog_bark", np.random.default_rng(3), repeats=1), (5_000, 3_000))
    x = x * np.float32(0.5 / np.abs(x).max())
    y = codecs.coded(x, name)
    assert (y.dtype, y.shape) == (np.float32, x.shape)
    assert np.abs(y).max() <= 1.0
    assert np.abs(signal.correlate(y, x, method="fft")).argmax() == len(x) - 1
    assert not np.array_equal(x, y)
    np.testing.assert_array_equal(y, codecs.coded(x, name))


@pytest.mark.parametrize("name", NAMES)
def test_silence_stays_silence(name):
    y = codecs.coded(np.zeros(N, np.float32), name)
    assert np.abs(y).max() <= (8 / 32_767 if name == "alaw" else 0.0)  # A-law has no zero
    assert np.ptp(y) == 0.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [0, 1, 2, 7, 504, 505, 506, 575, 576, 577, 1_153])
def test_short_sounds_keep_their_length(name, n):
    y = codecs.coded(noise(n, n), name)
    assert (y.dtype, y.shape) == (np.float32, (n,))
    assert np.isfinite(y).all()


@pytest.mark.parametrize("name", NAMES)
def test_extremes_stay_within_the_scale(name):
    square = np.where(np.arange(N) // 40 % 2, 1.0, -1.0).astype(np.float32)
    spike = np.zeros(N, np.float32)
    spike[N // 2] = -1.0
    for x in (square, spike, 3.0 * square, np.ones(N, np.float32)):
        y = codecs.coded(x, name)
        assert np.isfinite(y).all()
        assert np.abs(y).max() <= 1.0
    assert np.abs(codecs.coded(square, name)).mean() > 0.5


def test_a_law_has_the_standards_codes():
    some = np.array([0, 15, 16, 511, 512, 1_023, 1_024, 32_767, -1, -16, -17, -32_768], np.int16)
    plain = codecs.a_law_encode(some) ^ 0x55
    assert plain.tolist() == [0x80, 0x80, 0x81, 0x9F, 0xA0, 0xAF, 0xB0, 0xFF, 0x00, 0x00, 0x01, 0x7F]
    every = np.arange(256).astype(np.uint8)
    np.testing.assert_array_equal(codecs.a_law_encode(codecs.a_law_decode(every)), every)
    decoded = codecs.a_law_decode(codecs.a_law_encode(ALL_PCM)).astype(int)
    step = np.maximum(16, 2 ** np.floor(np.log2(np.maximum(np.abs(ALL_PCM.astype(int)), 1)) - 4))
    assert (np.abs(decoded - ALL_PCM) <= step / 2).all()


@pytest.mark.parametrize("level_db", [-12, -20, -28])
def test_a_law_has_the_known_ratio_at_every_level(level_db):
    theory = 6.02 * 8 + 4.77 - 20 * np.log10(1 + np.log(87.6))  # 38.2 dB
    x = noise(deviation=10 ** (level_db / 20))
    assert snr_db(x, codecs.coded(x, "alaw")) == pytest.approx(theory, abs=1.5)


@needs_ffmpeg
def test_a_law_is_ffmpegs():
    """Tools round in ways of their own what lies at the edge of two codes; what a code means is the standard's."""
    decoded = tool(*FFMPEG, "-f", "alaw", *MONO, "-i", "-", "-f", "s16le", "-", data=bytes(range(256)))
    np.testing.assert_array_equal(codecs.a_law_decode(np.arange(256).astype(np.uint8)), np.frombuffer(decoded, "<i2"))
    coded = tool(*FFMPEG, "-f", "s16le", *MONO, "-i", "-", "-f", "alaw", "-", data=ALL_PCM.tobytes())
    own, theirs = codecs.a_law_encode(ALL_PCM), np.frombuffer(coded, np.uint8)
    assert np.mean(own != theirs) < 0.02
    assert np.abs((own.astype(int) ^ 0x55) - (theirs.astype(int) ^ 0x55)).max() <= 1


@needs_sox
def test_a_law_is_soxs():
    words = ["-t", "raw", "-e", "a-law", "-b", "8", *ONE_CHANNEL, "-", *RAW_PCM, "-"]
    decoded = np.frombuffer(tool("sox", "-D", *words, data=bytes(range(256))), "<i2")
    np.testing.assert_array_equal(codecs.a_law_decode(np.arange(256).astype(np.uint8)), decoded)


def wave_file(blocks, num_samples):
    """Our blocks as a WAV file of form 0x11."""
    form = struct.pack("<HHIIHHHH", 0x11, 1, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ * 256 // 505, 256, 4, 2, 505)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"fact" + struct.pack("<II", 4, num_samples)
    body += b"data" + struct.pack("<I", blocks.nbytes) + blocks.tobytes()
    return b"RIFF" + struct.pack("<I", len(body)) + body


SOUNDS = {
    "dark": dark(), "white": noise(), "loud": noise(deviation=0.6),
    "tone": (0.5 * np.sin(2 * np.pi * 440 * np.arange(N) / SAMPLE_RATE_HZ)).astype(np.float32),
    "square": np.where(np.arange(N) // 40 % 2, 1.0, -1.0).astype(np.float32),
}  # fmt: skip


@needs_sox
@pytest.mark.parametrize("kind", SOUNDS)
def test_sox_hears_in_our_adpcm_what_we_hear(tmp_path, kind):
    samples = pcm(SOUNDS[kind])
    blocks = codecs.adpcm_encode(samples)
    (tmp_path / "x.wav").write_bytes(wave_file(blocks, len(samples)))
    heard = np.frombuffer(tool("sox", "-D", str(tmp_path / "x.wav"), *RAW_PCM, "-"), "<i2")[: len(samples)]
    np.testing.assert_array_equal(codecs.adpcm_decode(blocks, len(samples)), heard)


@needs_sox
@pytest.mark.parametrize("kind", SOUNDS)
def test_our_adpcm_is_about_as_good_as_that_of_sox(tmp_path, kind):
    samples = pcm(SOUNDS[kind])
    path = str(tmp_path / "x.wav")
    tool("sox", "-D", *RAW_PCM, *ONE_CHANNEL, "-", "-e", "ima-adpcm", path, data=samples.tobytes())
    theirs = np.frombuffer(tool("sox", "-D", path, *RAW_PCM, "-"), "<i2")[: len(samples)]
    ours = codecs.adpcm_decode(codecs.adpcm_encode(samples), len(samples))
    assert snr_db(samples, ours) > snr_db(samples, theirs) - 1.0


@needs_ffmpeg
def test_ffmpeg_reads_our_adpcm(tmp_path):
    """It multiplies where the practice adds shifted steps, which differs by the last bits."""
    samples = pcm(dark())
    blocks = codecs.adpcm_encode(samples)
    (tmp_path / "x.wav").write_bytes(wave_file(blocks, len(samples)))
    raw = tool(*FFMPEG, "-i", str(tmp_path / "x.wav"), "-f", "s16le", "-")
    heard = np.frombuffer(raw, "<i2")[: len(samples)]
    assert snr_db(heard, codecs.adpcm_decode(blocks, len(samples))) > 45.0


def test_adpcm_has_the_known_ratios():
    """Four bits a sample that foretell nothing but "as before": good where sound is dark, poor where it is white."""
    assert snr_db(dark(), codecs.coded(dark(), "adpcm")) > 24.0
    assert 12.0 < snr_db(noise(), codecs.coded(noise(), "adpcm")) < 18.0


def test_adpcm_blocks_stand_alone():
    """A block that is lost leaves the others as they are."""
    samples = pcm(dark())
    blocks = codecs.adpcm_encode(samples)
    whole = codecs.adpcm_decode(blocks, len(samples))
    assert blocks.shape == (-(-len(samples) // codecs.BLOCK_SAMPLES), codecs.BLOCK_BYTES)
    later = codecs.adpcm_decode(blocks[3:], len(samples) - 3 * codecs.BLOCK_SAMPLES)
    np.testing.assert_array_equal(later, whole[3 * codecs.BLOCK_SAMPLES :])


@pytest.mark.parametrize("n", [1, 576, 1_000, N])
def test_without_a_quantiser_the_transform_gives_the_samples_back(n):
    x = noise(n, n)
    lines = transform.mdct(x)
    assert lines.shape == (-(-n // transform.LINES) + 1, transform.LINES)
    assert np.sum(lines.astype(np.float64) ** 2) == pytest.approx(np.sum(x.astype(np.float64) ** 2), rel=1e-4)
    np.testing.assert_allclose(transform.inverse_mdct(lines, n), x, atol=2e-6)


def test_a_tone_lies_in_its_line():
    x = np.sin(2 * np.pi * 1_000 * np.arange(N) / SAMPLE_RATE_HZ).astype(np.float32)
    energy = (transform.mdct(x) ** 2).sum(axis=0)
    assert energy.argmax() in (71, 72)  # 1000 Hz by 8000 / 576
    assert energy[68:76].sum() > 0.99 * energy.sum()


@pytest.mark.parametrize("kbps", [32, 48, 64])
def test_of_white_noise_the_transform_codec_keeps_nearly_what_its_rate_allows(kbps):
    """No codec of R bits a sample keeps more than 6.02 R dB of Gaussian noise."""
    x = noise()
    most_db = 6.02 * kbps * 1_000 / SAMPLE_RATE_HZ
    assert most_db - 6.0 < snr_db(x, codecs.coded(x, f"transform@{kbps}")) < most_db


@pytest.mark.parametrize(("kbps", "top_hz"), [(8, 3_500.0), (16, 5_000.0), (32, 8_000.0), (64, 8_000.0)])
def test_the_band_ends_where_the_rate_says(kbps, top_hz):
    assert transform.top_hz(kbps) == top_hz
    hz, power = signal.welch(codecs.coded(noise(n=5 * N), f"transform@{kbps}"), SAMPLE_RATE_HZ, nperseg=1_024)
    above, below = power[hz > top_hz + 100], power[hz < top_hz - 100]
    assert len(above) == 0 or above.max() < 1e-4 * below.max()
    assert below[-20:].mean() > 1e-3 * power.max()


def test_a_low_rate_has_holes():
    """Bands within the limit vanish and come back."""
    x = dark() * (1.2 + np.sin(2 * np.pi * 3 * np.arange(N) / SAMPLE_RATE_HZ, dtype=np.float32)) / 2
    shares = {}
    for kbps in (16, 64):
        inside = int(transform.top_hz(16) / 8_000 * transform.LINES) // 24 * 24
        lines = transform.mdct(codecs.coded(x, f"transform@{kbps}"))[2:-2, :inside]
        empty = (lines.reshape(len(lines), -1, 24) ** 2).sum(axis=2) < 1e-9
        shares[kbps] = empty.mean(axis=0)
    assert ((shares[16] > 0.02) & (shares[16] < 0.98)).sum() >= 3
    assert not shares[64].any()


@pytest.mark.parametrize("kbps", codecs.RATES_KBPS)
def test_no_kind_of_sound_is_lost(kbps):
    """What is drawn for questions keeps every sound within 10 dB of its level."""
    for kind in EVENT_KINDS:
        for variant in range(len(VARIANTS[kind])):
            x = render(kind, np.random.default_rng(variant), variant=variant, repeats=1)
            x = x * np.float32(0.1 / np.abs(x).max())
            y = codecs.coded(x, f"transform@{kbps}")
            assert np.sum(y**2) > 0.1 * np.sum(x**2), (kind, variant)


def test_noise_comes_before_a_blow_and_not_long_before():
    x = np.zeros(N, np.float32)
    at = N // 2 + 200
    x[at : at + 400] = noise(5, 400, 0.5)
    y = codecs.coded(x, "transform@16").astype(np.float64)
    before = y[at - 2 * transform.LINES : at]
    assert np.abs(y[: at - 2 * transform.LINES]).max() < 1e-6
    assert -45.0 < 10 * np.log10(np.mean(before[-200:] ** 2) / np.mean(x[at : at + 400] ** 2)) < 0.0
    assert np.abs(codecs.coded(x, "adpcm")[: at - 600]).max() < 1e-3


@needs_ffmpeg
@pytest.mark.parametrize("kbps", [16, 24])
def test_the_transform_codec_is_about_as_good_as_mp3(kbps):
    if b"libmp3lame" not in tool(*FFMPEG, "-encoders"):
        pytest.skip("no LAME")
    bark = 0.5 * render("dog_bark", np.random.default_rng(1))
    for x in (dark(), bark / np.abs(bark).max()):
        rate = ["-c:a", "libmp3lame", "-b:a", f"{kbps}k", "-reservoir", "0", "-f", "mp3"]
        mp3 = tool(*FFMPEG, "-f", "s16le", *MONO, "-i", "-", *rate, "-", data=pcm(x).tobytes())
        late = np.frombuffer(tool(*FFMPEG, "-f", "mp3", "-i", "-", "-f", "s16le", *MONO, "-", data=mp3), "<i2") / 32_767
        delay = int(np.abs(signal.correlate(late, x, method="fft")).argmax()) - (len(x) - 1)
        theirs = late[delay : delay + len(x)]
        ours = codecs.coded(x, f"transform@{kbps}")[: len(theirs)]
        assert snr_db(x[: len(theirs)], ours) == pytest.approx(snr_db(x[: len(theirs)], theirs), abs=3.0)


def test_names_and_what_is_drawn():
    rng = random.Random(1)
    drawn = {codecs.drawn("any", rng) for _ in range(300)}
    assert drawn == {*codecs.CODECS, *(f"transform@{rate}" for rate in codecs.RATES_KBPS)}
    assert codecs.drawn("transform", rng).startswith("transform@")
    assert codecs.drawn("transform@16", rng) == "transform@16"
    assert codecs.drawn("adpcm", rng) == "adpcm"
    for wrong in ("mp3", "", "transform@", "transform@7", "transform@65", "transform@1e1", "adpcm@16", "any@16"):
        with pytest.raises(OptionError, match="alaw, mulaw, adpcm, transform"):
            codecs.check_codec(wrong)
    for left_open in ("any", "transform"):
        codecs.check_codec(left_open)
        with pytest.raises(OptionError, match="draw it first"):
            codecs.coded(noise(), left_open)
    with pytest.raises(OptionError, match="8 to 64"):
        transform.transform_coded(noise(), 4)
