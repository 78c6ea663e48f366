import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from audioflamingo.errors import AudioError, CheckpointError
from audioflamingo.speech.phones import PAUSE_ID
from audioflamingo.speech.speaker import open_speaker
from audioflamingo.speech.storage import load_voice, save_voice
from audioflamingo.train.voice import VoiceJob, run, start_from
from audioflamingo.train.voice_align import AlignmentError
from audioflamingo.train.voice_folder import (
    Recording,
    Scribe,
    VoiceFolderError,
    find_recordings,
    load_at_speech_rate,
    num_left_out,
    shared_out,
    voice_names,
)
from audioflamingo.train.voice_recipe import for_voices, tiny_voice
from audioflamingo.train.voice_trainer import VoiceTrainer
from audioflamingo.world.voices import Speaker, speak

CPU = torch.device("cpu")
TEXTS = ("Dr. Smith has 12 dogs.", "The garden is green, and the sky is blue.", "Where did you go on Monday?")
SPEAKERS = {"ann": Speaker("espeak-ng", "en-us+f3", "female"), "ben": Speaker("espeak-ng", "en-us+m3", "male")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two voices, one listed and one with texts beside; a file that is no sound, and one whose text is not its own."""
    folder = tmp_path_factory.mktemp("recordings")
    for name in SPEAKERS:
        (folder / name / "wavs").mkdir(parents=True)
    for number, text in enumerate(TEXTS):
        soundfile.write(folder / "ann" / f"{number}.flac", speak(text, SPEAKERS["ann"]), 16_000)
        (folder / "ann" / f"{number}.txt").write_text(text)
        soundfile.write(folder / "ben" / "wavs" / f"{number}.wav", speak(text, SPEAKERS["ben"]), 16_000)
    lines = [f"{number}|{text}" for number, text in enumerate(TEXTS)]
    (folder / "ben" / "metadata.csv").write_text("\n".join(lines))
    (folder / "ann" / "broken.wav").write_bytes(b"RIFF and nothing")
    (folder / "ann" / "broken.txt").write_text("Hello.")
    soundfile.write(folder / "ann" / "other.wav", speak(TEXTS[0], SPEAKERS["ann"]), 16_000)
    (folder / "ann" / "other.txt").write_text(
        "All of these words are about something else, and there are many of them."
    )
    return folder


def test_recordings_are_found_in_both_layouts(folder):
    found = find_recordings(folder)
    assert voice_names(found) == ("ann", "ben")
    assert [one.text for one in found if one.voice == "ben"] == list(TEXTS)
    assert {one.path.name for one in found if one.voice == "ann"} == {f"{n}.flac" for n in range(3)} | {
        "broken.wav",
        "other.wav",
    }


def test_a_folder_without_texts_says_what_it_looked_for(tmp_path):
    with pytest.raises(VoiceFolderError, match="no folder"):
        find_recordings(tmp_path / "none")
    soundfile.write(tmp_path / "a.wav", np.zeros(1_000), 16_000)
    with pytest.raises(VoiceFolderError, match=r"1 sounds and no text.*metadata\.csv"):
        find_recordings(tmp_path)


def test_a_reading_is_the_sound_with_its_words_phones_and_times(folder):
    scribe = Scribe(("ann", "ben"))
    reading = scribe.read(next(one for one in find_recordings(folder) if one.voice == "ben"))
    assert [word for word, _ in reading.words] == ["doctor", "smith", "has", "twelve", "dogs"]
    assert reading.voice == 1
    assert len(reading.samples) == 240 * reading.durations.sum()
    assert reading.durations.min() >= 1
    assert (np.diff(reading.units) >= 0).all()
    assert reading.units.max() == 4
    assert (reading.phones[:-1] != PAUSE_ID).sum() >= 12
    assert 0.69 < np.abs(reading.samples).max() / 32_767 < 0.71


def test_what_cannot_be_read_is_refused(folder, tmp_path):
    scribe = Scribe(("ann", "ben"))
    with pytest.raises(AlignmentError, match="nothing in its text"):
        scribe.read(Recording(folder / "ann" / "0.flac", "😀", "ann"))
    soundfile.write(tmp_path / "long.wav", np.zeros(31 * 8_000), 8_000)
    with pytest.raises(AudioError, match="more than 30 s"):
        load_at_speech_rate(tmp_path / "long.wav")
    with pytest.raises(AudioError, match=r"gone.wav"):
        load_at_speech_rate(tmp_path / "gone.wav")


def test_a_voice_is_trained_from_a_folder(folder, tmp_path):
    recipe = for_voices(tiny_voice("mel", budget_s=3.0), voice_names(find_recordings(folder)))
    job = VoiceJob(tmp_path / "work", tmp_path / "out", 3.0, num_workers=1, first_hours=1e-3, data=folder)
    run(recipe, job, CPU)
    last = json.loads((tmp_path / "out" / "log.jsonl").read_text().splitlines()[-1])
    assert last["left_out"] == num_left_out(tmp_path / "work" / "shards") == 2
    voice = load_voice(tmp_path / "out" / "voice")
    assert voice.voice_names == ("ann", "ben")
    assert "don't" in voice.pronouncer.exceptions or voice.pronouncer.phones("don't")
    assert len(open_speaker(voice=f"{tmp_path / 'out' / 'voice'}:ben").say("Hello.")) > 4_800


def test_another_voice_starts_as_the_mean_of_those_before(tmp_path):
    recipe = tiny_voice("mel")
    old = VoiceTrainer(recipe, CPU).voice
    save_voice(old, tmp_path, "fp32")
    new = VoiceTrainer(for_voices(replace(recipe, seed=1), ("slt", "ann", "ben")), CPU).voice
    start_from(new, tmp_path)
    rows = old.model.frame_voice.weight
    expected = torch.stack([rows[list(old.voice_names).index("slt")], rows.mean(0), rows.mean(0)])
    torch.testing.assert_close(new.model.frame_voice.weight, expected)
    torch.testing.assert_close(new.wave_decoder.head.weight, old.wave_decoder.head.weight)
    other = VoiceTrainer(tiny_voice("codes"), CPU).voice
    with pytest.raises(CheckpointError, match="other shapes"):
        start_from(other, tmp_path)


@given(st.lists(st.floats(0.1, 50), min_size=1, max_size=12), st.integers(0, 200))
def test_shares_add_up(shares, free):
    total = len(shares) + free
    out = shared_out(total, np.array(shares, np.float32))
    assert sum(out) == total
    assert min(out) >= 1
