import numpy as np
import pytest

from audioflamingo.errors import FlamingoError
from audioflamingo.speech.phones import PAUSE_ID, PHONES
from audioflamingo.train.voice_data import (
    TEACHER_VOICES,
    VOICE_NAMES,
    FliteTeacher,
    load_readings,
    render_shard,
    save_readings,
)
from audioflamingo.world.voices import Speaker, speak

TEXT = "Hello there, my good friend. I see twelve very very old cats."


@pytest.fixture(scope="module")
def teacher():
    return FliteTeacher()


@pytest.mark.parametrize("voice", [0, 1])
def test_durations_add_up_and_pauses_are_quiet(teacher, voice):
    reading = teacher.read(TEXT, voice)
    assert len(reading.samples) == 240 * reading.durations.sum()
    assert reading.durations.min() >= 0
    ends = np.cumsum(reading.durations) * 240
    levels = {True: [], False: []}
    for phone, start, end in zip(reading.phones, ends - reading.durations * 240, ends, strict=True):
        middle = reading.samples[start + 240 : end - 240].astype(float)
        if len(middle):
            levels[phone == PAUSE_ID].append(np.sqrt(np.mean(middle**2)))
    vowels = [
        np.sqrt(np.mean(reading.samples[e - d * 240 : e].astype(float) ** 2))
        for p, d, e in zip(reading.phones, reading.durations, ends, strict=True)
        if PHONES[p][-1] == "1" and d
    ]
    assert len(levels[True]) >= 2
    assert max(levels[True]) < 0.25 * np.median(vowels)


def test_units_are_words_with_the_pause_after_them(teacher):
    reading = teacher.read(TEXT)
    assert [word for word, _ in reading.words] == TEXT.lower().replace(",", "").replace(".", "").split()
    assert reading.units[0] == 0
    assert reading.units[-1] == 11
    assert set(np.diff(reading.units).tolist()) == {0, 1}
    assert reading.phones[0] != PAUSE_ID
    pauses = np.flatnonzero(reading.phones == PAUSE_ID)
    assert (reading.units[pauses] == reading.units[pauses - 1]).all()


def test_shards_are_the_same_every_time_and_survive_the_disk(teacher, tmp_path):
    readings = render_shard(1, 0, teacher, 4)
    again = render_shard(1, 0, teacher, 4)
    assert [one.phones.tolist() for one in readings] == [one.phones.tolist() for one in again]
    save_readings(readings, tmp_path / "shard-0.npz")
    loaded, words = load_readings(tmp_path / "shard-0.npz")
    for one, other in zip(readings, loaded, strict=True):
        for name in ("phones", "units", "durations", "samples", "voice"):
            assert np.array_equal(getattr(one, name), getattr(other, name))
    assert sum(words.values()) == sum(len(one.words) for one in readings)
    assert [path.name for path in tmp_path.iterdir()] == ["shard-0.npz"]


def test_what_is_read_does_not_depend_on_what_was_said_before(teacher):
    before = teacher.read("A dog barks.", 0)
    speak("A dog barks.", Speaker("flite", TEACHER_VOICES[VOICE_NAMES[0]], "male", rate=1.5, pitch=1.2))
    after = teacher.read("A dog barks.", 0)
    assert np.array_equal(before.durations, after.durations)
    assert np.array_equal(before.samples, after.samples)


def test_nothing_to_read_is_an_error(teacher):
    with pytest.raises(FlamingoError):
        teacher.read("...")
