from itertools import pairwise

import numpy as np
import pytest
import soxr

from audioflamingo.errors import CheckpointError
from audioflamingo.train.voice_align import AlignmentError, CtcAligner, letter_frames
from audioflamingo.train.voice_data import FliteTeacher
from audioflamingo.world.text import normalise

SENTENCE = "The old farmer carried three heavy boxes to the market."
BLANK, A, B = 0, 1, 2


@pytest.fixture(scope="module")
def aligner():
    return CtcAligner()


@pytest.fixture(scope="module")
def reading():
    return FliteTeacher().read(SENTENCE, 0)


def sound_of(reading):
    return soxr.resample(reading.samples.astype(np.float32) / 32_768, 24_000, 16_000)


def scores(*likeliest):
    """Log-probabilities of three labels in which each frame is nearly sure of one."""
    rows = np.full((len(likeliest), 3), 0.05)
    rows[np.arange(len(likeliest)), likeliest] = 0.9
    return np.log(rows).astype(np.float32)


def test_letters_lie_where_they_are_likeliest():
    frames, score = letter_frames(scores(BLANK, A, BLANK, BLANK, B, B, BLANK), [A, B])
    assert frames.tolist() == [1, 4]
    assert score == pytest.approx(np.log(0.9))


def test_a_letter_that_comes_twice_needs_a_blank_between():
    frames, _ = letter_frames(scores(A, A, BLANK, A), [A, A])
    assert frames.tolist()[1] == 3
    with pytest.raises(AlignmentError, match="do not fit"):
        letter_frames(scores(A, A), [A, A])


def test_words_are_found_where_the_teacher_said_them(aligner, reading):
    ends = np.cumsum(reading.durations) / 100
    starts = ends - reading.durations / 100
    said = [(reading.units == unit) & (reading.phones != 0) for unit in range(reading.units.max() + 1)]
    times = aligner.word_times(sound_of(reading), normalise(SENTENCE).split())
    assert len(times) == len(said)
    wrong = [abs(time.start_s - starts[own][0]) for time, own in zip(times, said, strict=True)]
    wrong += [abs(time.end_s - ends[own][-1]) for time, own in zip(times, said, strict=True)]
    assert np.mean(wrong) < 0.03
    assert max(wrong) < 0.12
    assert all(one.end_s <= other.start_s + 1e-6 for one, other in pairwise(times))


def test_another_text_is_refused(aligner, reading):
    words = ["completely", "different", "words", "stand", "in", "this", "file", "and", "nobody", "says", "them"]
    with pytest.raises(AlignmentError, match="does not seem"):
        aligner.word_times(sound_of(reading), words)


def test_lengths_are_bounded(aligner):
    with pytest.raises(AlignmentError, match="up to 30 s"):
        aligner.letter_scores(np.zeros(31 * 16_000, np.float32))
    with pytest.raises(AlignmentError, match="up to 30 s"):
        aligner.letter_scores(np.zeros(0, np.float32))


def test_heads_that_are_none_are_refused(tmp_path):
    file = tmp_path / "heads.safetensors"
    file.write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="letters' head"):
        CtcAligner(heads=file)
