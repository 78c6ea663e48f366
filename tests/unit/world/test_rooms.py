"""Rooms, noise, colours and codes: levels are right and nothing moves in time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from audioflamingo.errors import OptionError
from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world import rooms
from audioflamingo.world.sounds import render

N = 2 * SAMPLE_RATE_HZ


def rng(seed=0):
    return np.random.default_rng(seed)


def clicks():
    """Silence with three clicks of noise."""
    x = np.zeros(N, dtype=np.float32)
    for start in (2_000, 11_000, 23_000):
        x[start : start + 200] = 0.5 * rng(start).standard_normal(200)
    return x


def lag(y, x):
    """Delay of `y` against `x` in samples, from the peak of their cross-correlation."""
    return int(np.abs(signal.correlate(y, x, method="fft")).argmax()) - (len(x) - 1)


def test_a_room_keeps_the_direct_sound_in_place_and_at_its_level():
    impulse = np.zeros(N, dtype=np.float32)
    impulse[500] = 1.0
    for seed in range(10):
        y = rooms.reverberate(impulse, rng(seed))
        assert not np.abs(y[:500]).max() > 1e-6
        assert y[500] == pytest.approx(1.0, abs=1e-6)
        assert lag(rooms.reverberate(clicks(), rng(seed)), clicks()) == 0


@pytest.mark.parametrize("ratio_db", [0.0, 6.0, 20.0])
def test_a_room_has_the_ratio_of_direct_to_reverberant_energy_asked_for(ratio_db):
    impulse = np.zeros(N, dtype=np.float32)
    impulse[0] = 1.0
    y = rooms.reverberate(impulse, rng(), rt60_s=0.4, direct_to_reverberant_db=ratio_db)
    assert 10 * np.log10(1.0 / np.sum(y[1:].astype(np.float64) ** 2)) == pytest.approx(ratio_db, abs=0.2)


@pytest.mark.parametrize("rt60_s", [0.2, 0.6, 1.2])
def test_the_tail_decays_by_60_db_in_the_time_asked_for(rt60_s):
    impulse = np.zeros(N, dtype=np.float32)
    impulse[0] = 1.0
    y = rooms.reverberate(impulse, rng(1), rt60_s=rt60_s, direct_to_reverberant_db=0.0)[800:].astype(np.float64)
    remaining = 10 * np.log10(np.cumsum(y[::-1] ** 2)[::-1] + 1e-20)
    remaining -= remaining[0]
    early, late = np.argmax(remaining < -5), np.argmax(remaining < -25)
    assert 3 * (late - early) / SAMPLE_RATE_HZ == pytest.approx(rt60_s, rel=0.3)


@pytest.mark.parametrize("slope", [0.0, -3.0, -6.0])
def test_colored_noise_falls_by_its_slope(slope):
    hz, power = signal.welch(rooms.colored_noise(8 * N, rng(), slope), SAMPLE_RATE_HZ, nperseg=4_096)
    inside = (hz > 100) & (hz < 6_000)
    fitted = np.polyfit(np.log2(hz[inside]), 10 * np.log10(power[inside]), 1)[0]
    assert fitted == pytest.approx(slope, abs=0.3)


@pytest.mark.parametrize("name", sorted(rooms.NOISE_BEDS))
def test_every_noise_bed_has_unit_level_and_follows_its_seed(name):
    one, same, other = (rooms.noise_bed(N, rng(seed), name) for seed in (1, 1, 2))
    assert one.dtype == np.float32
    assert one.shape == (N,)
    assert one.std() == pytest.approx(1.0, abs=0.01)
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@given(st.floats(-10.0, 40.0), st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_the_signal_to_noise_ratio_is_right_within_half_a_decibel(snr_db, seed):
    x = np.zeros(N, dtype=np.float32)
    x[4_000:20_000] = 0.1 * rng(seed).standard_normal(16_000)
    mixed = rooms.mix_at_snr(x, rooms.colored_noise(N, rng(seed + 1), -3.0), snr_db)
    noise = (mixed - x).astype(np.float64)
    measured = 20 * np.log10(x[4_000:20_000].std() / noise.std())
    assert measured == pytest.approx(snr_db, abs=0.5)


def test_silence_and_short_noise_are_handled():
    silence = np.zeros(N, dtype=np.float32)
    np.testing.assert_array_equal(rooms.mix_at_snr(silence, rooms.colored_noise(N, rng(), 0.0), 10.0), silence)
    with pytest.raises(OptionError, match="at least"):
        rooms.mix_at_snr(clicks(), clicks()[:100], 10.0)
    with pytest.raises(OptionError, match="pink"):
        rooms.noise_bed(10, rng(), "purple")


@pytest.mark.parametrize("seed", range(6))
def test_equalising_changes_the_spectrum_smoothly_and_moves_nothing(seed):
    white = rooms.colored_noise(4 * N, rng(9), 0.0)
    hz, before = signal.welch(white, SAMPLE_RATE_HZ, nperseg=1_024)
    _, after = signal.welch(rooms.equalise(white, rng(seed), 9.0), SAMPLE_RATE_HZ, nperseg=1_024)
    change = (10 * np.log10(after / before))[hz > 300]  # below, one bin of 16 Hz is a large part of an octave
    assert 1.0 < np.ptp(change) < 40.0
    assert np.abs(np.diff(change)).max() < 2.5
    assert lag(rooms.equalise(clicks(), rng(seed)), clicks()) == 0


@pytest.mark.parametrize(
    ("band", "inside_hz", "outside_hz"),
    [
        ("telephone", 1_000.0, 100.0),
        ("telephone", 1_000.0, 6_000.0),
        ("am_radio", 1_000.0, 7_500.0),
        ("muffled", 500.0, 7_900.0),
    ],
)
def test_bands_keep_what_is_inside_and_remove_what_is_outside(band, inside_hz, outside_hz):
    t = np.arange(N) / SAMPLE_RATE_HZ
    kept, lost = (
        rooms.band_limit(np.sin(2 * np.pi * hz * t).astype(np.float32), rng(0), band).std()
        for hz in (inside_hz, outside_hz)
    )
    assert kept == pytest.approx(np.sqrt(0.5), rel=0.1)
    assert lost < 0.35 * kept
    with pytest.raises(OptionError, match="telephone"):
        rooms.band_limit(clicks(), rng(), "ultrasound")


def test_soft_clipping_keeps_the_peak_and_adds_harmonics():
    x = (0.5 * np.sin(2 * np.pi * 440 * np.arange(N) / SAMPLE_RATE_HZ)).astype(np.float32)
    y = rooms.clip_soft(x, 12.0)
    assert np.abs(y).max() == pytest.approx(0.5, abs=1e-3)
    third = np.abs(np.fft.rfft(y))[round(1_320 * N / SAMPLE_RATE_HZ)]
    assert third > 20 * np.abs(np.fft.rfft(x))[round(1_320 * N / SAMPLE_RATE_HZ)]


def test_mu_law_has_as_many_values_as_its_bits_allow_and_the_known_ratio():
    x = (0.3 * rng().standard_normal(N)).clip(-1, 1).astype(np.float32)
    y = rooms.codec_like(x)
    assert len(np.unique(y)) <= 256
    assert 34.0 < 10 * np.log10(np.mean(x**2) / np.mean((y - x) ** 2)) < 42.0  # G.711 gives about 38 dB
    assert len(np.unique(rooms.codec_like(x, bits=5))) <= 32
    with pytest.raises(OptionError, match="4 to 16"):
        rooms.codec_like(x, bits=2)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_speed_scales_duration_and_pitch(factor):
    t = np.arange(N) / SAMPLE_RATE_HZ
    y = rooms.speed(np.sin(2 * np.pi * 500 * t).astype(np.float32), factor)
    assert len(y) == round(N / factor)
    peak_hz = np.abs(np.fft.rfft(y * np.hanning(len(y)))).argmax() * SAMPLE_RATE_HZ / len(y)
    assert peak_hz == pytest.approx(500 * factor, abs=2.0)
    with pytest.raises(OptionError, match=r"0\.25 to 4"):
        rooms.speed(y, 9.0)


def test_gain_is_in_decibels():
    np.testing.assert_allclose(rooms.gain(clicks(), -20.0), 0.1 * clicks(), rtol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_a_channel_keeps_length_range_and_timing(seed):
    x = render("dog_bark", rng(seed), repeats=1)
    x = np.pad(x, (8_000, 8_000))
    y = rooms.channel(x, rng(seed), 1.0)
    assert y.shape == x.shape
    assert y.dtype == np.float32
    assert np.abs(y).max() <= 1.0
    assert lag(y, x) == 0
    np.testing.assert_array_equal(y, rooms.channel(x, rng(seed), 1.0))


def test_a_channel_without_strength_only_changes_the_level():
    x = clicks()
    for seed in range(5):
        y = rooms.channel(x, rng(seed), 0.0)
        factor = y[2_050] / x[2_050]
        assert 10 ** (-6.1 / 20) <= factor <= 1.0
        np.testing.assert_allclose(y, factor * x, atol=1e-6)
    with pytest.raises(OptionError, match="0 to 1"):
        rooms.channel(x, rng(), 1.5)


def test_short_sounds_pass_through_everything():
    for n in (1, 7, 319):
        x = (0.1 * rng(n).standard_normal(n)).astype(np.float32)
        for seed in range(10):
            assert rooms.channel(x, rng(seed), 1.0).shape == (n,)
