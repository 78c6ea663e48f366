"""Sounds at distances of their own: 1/r, the same reverberation everywhere, air, and equal loudness of what is dry."""

import random
from dataclasses import replace

import numpy as np
import pytest

from audioflamingo.errors import OptionError
from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world import rooms, sounds
from audioflamingo.world.distance import FARTHEST_M, NEAREST_M, TAIL_SHARE, Hall, draw_hall, heard_from, loudness
from audioflamingo.world.scenes import Dice
from audioflamingo.world.skills.at_once import OF_OWN_LENGTH, STEADY_LISTS
from audioflamingo.world.skills.how_far import KINDS
from audioflamingo.world.sounds.variety import render_varied
from audioflamingo.world.timeline import EVEN_LOUDNESS, Stage, World

HALL = Hall(rt60_s=0.6, critical_m=3.0, air_db_per_m=0.0, seed=4)
CLICK = np.zeros(8_000, np.float32)
CLICK[0] = 1.0


def db(ratio):
    return 20.0 * np.log10(ratio)


@pytest.mark.parametrize("metres", [1.0, 3.0, 12.0])
def test_what_comes_straight_falls_by_the_distance_and_the_walls_stay(metres):
    out = heard_from(CLICK, HALL, metres).astype(np.float64)
    assert out.dtype == np.float64
    assert len(out) == len(CLICK) + round(TAIL_SHARE * 0.6 * SAMPLE_RATE_HZ)
    straight, walls = abs(out[0]), np.sqrt(np.sum(out[1:] ** 2))
    assert db(straight) == pytest.approx(-db(metres), abs=0.01)
    assert db(straight / walls) == pytest.approx(db(HALL.critical_m / metres), abs=0.1)
    assert db(walls) == pytest.approx(-db(HALL.critical_m), abs=0.1)


def test_from_afar_a_sound_is_duller():
    hall = replace(HALL, critical_m=10_000.0, air_db_per_m=0.1)
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)

    def high_to_low(metres):
        power = np.abs(np.fft.rfft(heard_from(noise, hall, metres))) ** 2
        hz = np.fft.rfftfreq(len(heard_from(noise, hall, metres)), 1 / SAMPLE_RATE_HZ)
        return 10.0 * np.log10(power[hz > 7_000].sum() / power[hz < 1_000].sum())

    lost = [high_to_low(1.0) - high_to_low(metres) for metres in (4.0, 40.0)]
    assert lost == sorted(lost)
    assert 2.5 < lost[1] < 3.9  # 0.1 dB a metre at 8 kHz, less below


def test_one_hall_sounds_the_same_every_time_and_distances_have_bounds():
    assert np.array_equal(heard_from(CLICK, HALL, 5.0), heard_from(CLICK, HALL, 5.0))
    for metres in (NEAREST_M / 2, FARTHEST_M * 2):
        with pytest.raises(OptionError, match="distance_m"):
            heard_from(CLICK, HALL, metres)
    halls = [draw_hall(random.Random(seed), 2.0) for seed in range(50)]
    assert all(hall.critical_m > 2.0 and 0.4 <= hall.rt60_s <= 1.0 for hall in halls)


def test_loudness_weighs_frequencies_as_the_ear_does():
    time = np.arange(16_000) / SAMPLE_RATE_HZ
    by_hz = {hz: loudness(np.sin(2 * np.pi * hz * time).astype(np.float32)) for hz in (100.0, 1_000.0, 4_000.0)}
    assert by_hz[1_000.0] == pytest.approx(np.sqrt(0.5), rel=0.01)
    assert db(by_hz[100.0] / by_hz[1_000.0]) == pytest.approx(-19.1, abs=0.3)
    assert db(by_hz[4_000.0] / by_hz[1_000.0]) == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("kind", ["dog_bark", "drum", "whistle", "engine", "typing"])
def test_dry_sounds_of_all_kinds_are_equally_loud(kind):
    stage = Stage(World(strength=0.0), Dice.of(3))
    stage.even(kind)
    assert loudness(stage.pieces[0][1]) == pytest.approx(EVEN_LOUDNESS, rel=1e-3)
    stage.even(kind, level_db=-6.0)
    assert db(loudness(stage.pieces[1][1]) / EVEN_LOUDNESS) == pytest.approx(-6.0, abs=0.01)


def test_an_event_ends_with_its_source_and_rings_on():
    stage = Stage(World(strength=0.0), Dice.of(5))
    near = stage.even("dog_bark", hall=HALL, distance_m=1.0)
    far = stage.even("dog_bark", start_s=3.0, hall=HALL, distance_m=10.0)
    assert (near.distance_m, far.distance_m) == (1.0, 10.0)
    assert near.level_db - far.level_db == pytest.approx(20.0)
    timeline = stage.close()
    ringing = timeline.samples[round(near.end_s * SAMPLE_RATE_HZ) :][:1_600]
    assert np.abs(ringing).max() > 1e-4
    assert [event["distance_m"] for event in timeline.truth()["events"]] == [1.0, 10.0]
    levels = [rooms.active_rms(timeline.samples[round(e.start_s * SAMPLE_RATE_HZ) :][:4_000]) for e in (near, far)]
    assert db(levels[0] / levels[1]) > 5.0


def test_a_sound_without_a_distance_says_nothing_of_one():
    stage = Stage(World(strength=0.0), Dice.of(5))
    stage.sound("dog_bark")
    assert "distance_m" not in stage.close().truth()["events"][0]


@pytest.mark.parametrize("kind", [kind for kinds in STEADY_LISTS for kind in kinds])
def test_what_may_overlap_is_heard_all_the_while(kind):
    """In every 0.6 s of it: as long as an overlap is at least."""
    for variant in range(len(sounds.VARIANTS[kind])):
        x = sounds.render(kind, np.random.default_rng(variant), variant=variant, duration_s=2.4)
        parts = np.sqrt(np.mean(x.reshape(4, -1).astype(np.float64) ** 2, axis=1))
        assert db(parts.min() / parts.max()) > -20.0


@pytest.mark.parametrize("kind", OF_OWN_LENGTH)
def test_what_has_its_own_length_is_long_enough_to_overlap(kind):
    rng = np.random.default_rng(1)
    lengths = [
        len(sounds.render(kind, rng, variant=v, repeats=1)) for v in range(len(sounds.VARIANTS[kind])) for _ in "12"
    ]
    lengths += [len(render_varied(kind, rng, variant=0, repeats=1)) for _ in "1234"]
    assert min(lengths) >= 0.6 * SAMPLE_RATE_HZ


def test_kinds_are_known_and_no_list_shares_any():
    listed = [kind for kinds in (*STEADY_LISTS, OF_OWN_LENGTH) for kind in kinds]
    assert len(listed) == len(set(listed))
    assert {*listed, *KINDS} <= set(sounds.KINDS)
    assert all(sounds.KINDS[kind].steady for kinds in STEADY_LISTS for kind in kinds)
    assert not any(sounds.KINDS[kind].steady for kind in (*OF_OWN_LENGTH, *KINDS))
