"""Long sounds: one conversation becomes several prompts, and their answers one again."""

import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from audioflamingo.engine.options import Options
from audioflamingo.engine.request import Part, Request, clock, collect, flatten, in_order, prepare
from audioflamingo.errors import AudioError, PromptError
from audioflamingo.prompt import ChatML
from audioflamingo.types import Audio, Delta, Message, Prompt, Sampling, Usage

sys.path.append(str(Path(__file__).parents[1]))
from small_tokenizer import small_tokenizer

TOKENIZER = small_tokenizer()
SHORT = Audio(np.full(16_000, 0.1, np.float32), "short.wav")
LONG = Audio(np.linspace(-1, 1, 70 * 16_000, dtype=np.float32), "long.wav")


def prepared(*content, **options):
    given = {"max_windows": 1} | options
    return prepare((Message("user", content),), Options().updated(given), TOKENIZER, ChatML(), 32_768)


def test_a_sound_that_fits_is_one_prompt_without_a_heading():
    request = prepared(SHORT, "What?")
    assert [part.heading for part in request.parts] == [""]
    assert request.notes == ()


def test_too_long_is_an_error_that_names_the_remedies():
    with pytest.raises(AudioError, match=r"long\.wav is 70 s.*30 s.*'truncate' or 'split'"):
        prepared(LONG, "What?")


def test_truncation_is_noted():
    request = prepared(LONG, "What?", long_audio="truncate")
    assert [part.prompt.audios[0].duration_s for part in request.parts] == [30]
    assert "70 s" in request.notes[0]


def test_splitting_repeats_the_question_and_the_short_sounds():
    request = prepared(SHORT, LONG, "Alike?", long_audio="split")
    assert [part.heading for part in request.parts] == ["[0:00 - 0:30] ", "[0:30 - 1:00] ", "[1:00 - 1:10] "]
    assert [[audio.duration_s for audio in part.prompt.audios] for part in request.parts] == [[1, 30], [1, 30], [1, 10]]
    heard = np.concatenate([part.prompt.audios[1].samples for part in request.parts])
    assert np.array_equal(heard, LONG.samples)
    assert "3 parts" in request.notes[0]


def test_only_one_sound_can_be_split():
    other = Audio(LONG.samples[::-1].copy(), "other.wav")
    with pytest.raises(PromptError, match=r"2 sounds are too long \(long\.wav, other\.wav\)"):
        prepared(LONG, other, "Alike?", long_audio="split")


def test_the_budget_counts_the_answer():
    with pytest.raises(PromptError, match="at most"):
        prepared(SHORT, "What?", max_prompt_tokens=20)


REQUESTS = [
    Request((Part(Prompt((1,)), "[a] "), Part(Prompt((2,)), "[b] ")), Sampling(), ("split",)),
    Request((Part(Prompt((3,))),), Sampling()),
]
# The second part of the first request is ahead of the first part.
DELTAS = [
    Delta(1, "late", (20,)),
    Delta(2, "alone", (30,)),
    Delta(0, "ear", (10,)),
    Delta(1, "", (21,), "stop", Usage(1, 0, 2, 2.0)),
    Delta(2, "!", (31,), "stop", Usage(1, 0, 2, 0.0)),
    Delta(0, "ly", (11,), "length", Usage(1, 0, 2, 1.0)),
]


def test_parts_stream_in_the_order_of_time_and_equal_the_collected_answer():
    _, _, places = flatten(REQUESTS)
    replies = collect(REQUESTS, places, iter(DELTAS))
    streamed = list(in_order(REQUESTS, places, (delta for delta in DELTAS)))
    for index, reply in enumerate(replies):
        own = [delta for delta in streamed if delta.index == index]
        assert "".join(delta.text for delta in own) == reply.text
        assert tuple(token for delta in own for token in delta.token_ids) == reply.token_ids
        assert [delta.finish_reason for delta in own[:-1]] == [None] * (len(own) - 1)
        assert (own[-1].finish_reason, own[-1].usage) == (reply.finish_reason, reply.usage)
    assert [reply.text for reply in replies] == ["[a] early\n[b] late", "alone!"]
    assert replies[0].token_ids == (10, 11, 20, 21)
    assert (replies[0].finish_reason, replies[0].usage) == ("length", Usage(2, 0, 4, 3.0))
    assert replies[0].notes == ("split",)


@pytest.mark.parametrize(("time_s", "shown"), [(0, "0:00"), (599.6, "10:00"), (3723, "1:02:03")])
def test_clock(time_s, shown):
    assert clock(time_s) == shown


def test_sounds_are_hashed_only_where_two_are_of_one_length(monkeypatch):
    hashed = []
    monkeypatch.setattr("audioflamingo.types.hashlib.sha256", lambda data: hashed.append(len(data)) or sha256(data))
    one, other, twin, short = (Audio(np.full(n, value, np.float32)) for n, value in ((9, 1), (9, 2), (9, 1), (8, 1)))
    assert not one.equals(short)
    assert one.equals(one)
    assert hashed == []
    assert not one.equals(other)
    assert one.equals(twin)
    assert len(hashed) == 3


def test_a_key_is_that_of_the_samples_however_they_lie():
    samples = np.arange(20, dtype=np.float32)
    strided, empty = Audio(samples[::2]), Audio(np.zeros(0, np.float32))
    assert strided.key == Audio(samples[::2].copy()).key == sha256(samples[::2].tobytes()).hexdigest()
    assert empty.key == sha256(b"").hexdigest()
