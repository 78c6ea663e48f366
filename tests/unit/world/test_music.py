"""Music: theory, pieces that obey their facts, instruments in tune, MIDI files, soundfonts."""

import random
import shutil
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioflamingo.errors import OptionError
from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world.check_music import MUSIC_RULES
from audioflamingo.world.music import midi, synth, theory, widened
from audioflamingo.world.music.character import CHARACTERS
from audioflamingo.world.music.compose import CONTOURS, DYNAMICS, STYLES, compose, draw_facts
from audioflamingo.world.music.instruments import INSTRUMENTS, NUM_BUILDS, family_of
from audioflamingo.world.music.score import Note, Part, Score
from audioflamingo.world.skills.music import KNOWLEDGE, REASONING

FONTS = midi.find_fonts(midi.TRAINING_FONTS + midi.HELD_OUT_FONTS)
needs_fonts = pytest.mark.skipif(not FONTS or not shutil.which("fluidsynth"), reason="no fluidsynth with a soundfont")


def piece(seed=0, **wanted):
    rng = random.Random(seed)
    return compose(draw_facts(rng, **{"duration_s": 10.0, **wanted}), rng)


def fundamental_hz(samples):
    """By autocorrelation of the steady part, with parabolic interpolation."""
    x = samples[1_600:9_600].astype(np.float64) * np.hanning(8_000)
    power = np.abs(np.fft.rfft(x, 16_384)) ** 2
    correlation = np.fft.irfft(power)[:400]
    low = 20
    peaks = [i for i in range(low, 399) if correlation[i - 1] < correlation[i] >= correlation[i + 1]]
    best = max(correlation[i] for i in peaks)
    lag = next(i for i in peaks if correlation[i] > 0.85 * best)
    a, b, c = correlation[lag - 1 : lag + 2]
    return SAMPLE_RATE_HZ / (lag + 0.5 * (a - c) / (a - 2 * b + c))


def test_concert_pitch_and_octaves():
    assert theory.frequency_hz(69) == 440.0
    assert theory.frequency_hz(57) == pytest.approx(220.0)
    assert theory.key_name(3, "minor") == "E flat minor"
    assert theory.chord_classes(0, "major", 4) == (7, 11, 2)
    assert theory.chord_name(9, "minor", 4) == "E major"


@given(st.integers(0, 11), st.integers(30, 90))
def test_nearest_pitch_is_of_the_class_and_within_a_tritone(pitch_class, pitch):
    found = theory.nearest(pitch_class, pitch)
    assert found % 12 == pitch_class
    assert abs(found - pitch) <= 6


def test_there_are_enough_families():
    assert len({family_of(name) for name in INSTRUMENTS} | {"drums"}) >= 8


@pytest.mark.parametrize("build", range(NUM_BUILDS))
@pytest.mark.parametrize("name", sorted(INSTRUMENTS))
def test_every_build_of_every_instrument_is_in_tune(name, build):
    pitch = 55 if "bass" in name else 60
    hz = theory.frequency_hz(pitch)
    samples = synth._tone(INSTRUMENTS[name], build, hz, 0.8, np.random.default_rng(1))
    assert 1200 * abs(np.log2(fundamental_hz(samples) / hz)) < 40  # cents


@pytest.mark.parametrize("style", sorted(STYLES))
@pytest.mark.parametrize("seed", range(4))
def test_the_facts_can_be_found_again_in_the_notes(style, seed):
    rng = random.Random(seed)
    score = piece(seed, style=style, dynamics=rng.choice(DYNAMICS), contour=rng.choice(CONTOURS))
    truth = score.truth()
    for name in ("dynamics", "contour", "articulation", "texture", "mode"):
        assert MUSIC_RULES[f"music_{name}"](truth) == truth[name], name


@pytest.mark.parametrize("sub", [*KNOWLEDGE, *REASONING], ids=lambda sub: sub.name)
def test_every_value_of_every_sub_skill_can_be_had(sub):
    for seed, value in enumerate(sub.values):
        score = piece(seed, **sub.wanted(value))
        found = MUSIC_RULES[f"music_{sub.name}"](score.truth())
        assert sub.words(found) == sub.words(value)


def test_a_render_has_the_length_of_the_piece_and_is_the_same_again():
    score = piece(1, style="rock")
    first, again = (synth.render(score, np.random.default_rng(0)) for _ in range(2))
    assert np.array_equal(first, again)
    assert len(first) == round(score.duration_s * SAMPLE_RATE_HZ)
    assert np.abs(first).max() == pytest.approx(synth.PEAK, rel=1e-3)


def test_held_out_builds_differ_from_those_of_training():
    score = piece(2, style="solo", instruments={"melody": "violin"})
    known = synth.render(score, np.random.default_rng(0))
    unknown = synth.render(score, np.random.default_rng(0), held_out=True)
    assert np.corrcoef(known, unknown)[0, 1] < 0.9


def test_faster_and_slower_halves():
    steady, faster = piece(3, style="march"), piece(3, style="march", tempo_change="faster")
    assert faster.duration_s < steady.duration_s
    assert faster.truth()["half_s"] == steady.truth()["half_s"]


def test_the_midi_file_holds_every_note():
    score = piece(4, style="rock")
    data = midi.midi_bytes(score)
    assert struct.unpack(">4sIHHH", data[:14]) == (b"MThd", 6, 0, 1, midi.TICKS_PER_QUARTER)
    notes = read_notes(data[22:])
    written = [note for part in score.parts for note in part.notes]
    assert len(notes) == len(written)
    expected = sorted((round(1000 * score.facts.time_s(note.onset)), note.pitch) for note in written)
    assert sorted(notes) == expected


def read_notes(track):
    """(millisecond, pitch) of every note-on, by a reader of its own."""
    clock, place, found = 0, 0, []
    while place < len(track):
        delta = 0
        while True:
            byte = track[place]
            place += 1
            delta = delta << 7 | byte & 0x7F
            if byte < 0x80:
                break
        clock += delta
        status = track[place]
        if status == 0xFF:
            return found
        if status >> 4 == 0x9:
            found.append((clock, track[place + 1]))
        place += 2 if status >> 4 == 0xC else 3
    raise AssertionError("no end of track")


@needs_fonts
@pytest.mark.parametrize("font", FONTS, ids=lambda font: font.stem)
def test_a_soundfont_plays_the_same_pitch(font):
    score = piece(5, style="solo", instruments={"melody": "flute"}, dynamics="loud")
    note = Note(0.0, 3.0, 72, 1.0)
    one = type(score)(score.facts, (type(score.parts[0])("melody", "flute", (note,)),))
    samples = midi.render_with_font(one, font)
    assert len(samples) == round(score.duration_s * SAMPLE_RATE_HZ)
    assert fundamental_hz(samples) == pytest.approx(theory.frequency_hz(72), rel=0.02)


def test_a_missing_soundfont_is_named(tmp_path):
    with pytest.raises(OptionError, match=r"none\.sf2"):
        midi.render_with_font(piece(), tmp_path / "none.sf2")


@pytest.mark.parametrize("name", sorted(INSTRUMENTS))
def test_every_drawn_timbre_is_in_tune(name):
    pitch = 48 if "bass" in name else 60
    for seed in range(4):
        timbre = widened.draw_timbre(name, np.random.default_rng(seed))
        samples = widened.tone(timbre, pitch, 0.8, 0.8)
        octaves = np.log2(fundamental_hz(samples) / theory.frequency_hz(pitch))
        assert 1200 * abs(octaves - round(octaves)) < 50, seed  # cents; a stop may sound an octave lower
        assert np.isfinite(samples).all()


def test_no_two_timbres_of_an_instrument_are_alike():
    tones = [widened.tone(widened.draw_timbre("piano", np.random.default_rng(seed)), 60, 0.5, 0.8) for seed in range(4)]
    spectra = [np.log(np.abs(np.fft.rfft(one, 8_192))[::8] + 1e-3) for one in tones]
    assert np.abs(np.corrcoef(spectra) - np.eye(4)).max() < 0.97


def test_every_instrument_has_a_character():
    assert set(CHARACTERS) == set(INSTRUMENTS)


def test_variety_is_for_training_alone():
    score = piece(6, style="rock")
    plain = synth.render(score, np.random.default_rng(0))
    assert np.array_equal(plain, synth.render(score, np.random.default_rng(0), variety=0.0))
    wide = synth.render(score, np.random.default_rng(0), variety=1.0)
    assert len(wide) == len(plain)
    assert np.abs(wide).max() == pytest.approx(synth.PEAK, rel=1e-3)
    assert abs(np.corrcoef(plain, wide)[0, 1]) < 0.9


@pytest.mark.parametrize("name", ["piano", "guitar", "marimba", "synthesizer"])
def test_drawn_notes_begin_when_they_are_written(name):
    facts = draw_facts(random.Random(1), style="solo", duration_s=6.0, tempo_bpm=120, beats_per_bar=4)
    score = Score(facts, (Part("melody", name, (Note(4.0, 1.0, 62, 0.9),)),))
    for seed in range(8):
        samples = np.abs(synth.render(score, np.random.default_rng(seed), variety=1.0))
        first = np.flatnonzero(samples > 0.1 * samples.max())[0] / SAMPLE_RATE_HZ
        assert -synth.LOOSENESS_S <= first - 2.0 < 0.045, seed
