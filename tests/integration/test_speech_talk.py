import json
import re
import threading

import numpy as np
import pytest
import soundfile

from audioflamingo import load_model
from audioflamingo.cli.main import main
from audioflamingo.cli.talk import answers
from audioflamingo.engine.kv_cache import BLOCK_TOKENS
from audioflamingo.prompt import TRANSCRIBE_PROMPT
from audioflamingo.speech.speaker import open_speaker
from audioflamingo.speech.stream import SPEECH_RATE_HZ
from audioflamingo.speech.talk import Talk
from audioflamingo.world.voices import Speaker as WorldSpeaker
from audioflamingo.world.voices import speak

RATE = 16_000
SENTENCES = ("The dog is in the garden.", "I would like a cup of tea.", "She has three red apples.")


def silence(duration_s):
    return np.zeros(round(duration_s * RATE), np.float32)


def spoken(text):
    return speak(text, WorldSpeaker("flite", "cmu_us_slt", "female"))


def fixed_answers(*texts):
    given = iter(texts)
    return lambda turn: iter([word + " " for word in next(given).split()])


@pytest.fixture(scope="module")
def speaker():
    return open_speaker()


def test_the_turn_is_what_was_said_and_the_answer_follows_the_silence(speaker):
    turns = []

    def answer(turn):
        turns.append(turn)
        yield "Yes, indeed."

    question = spoken(SENTENCES[0])
    talk = Talk(answer, speaker)
    track = answers(talk, np.concatenate([silence(1), question, silence(1)]), is_timed=True)
    assert [exchange.text for exchange in talk.exchanges] == ["Yes, indeed."]
    assert abs(turns[0].duration_s - len(question) / RATE) < 0.5
    first = np.flatnonzero(track)[0] / SPEECH_RATE_HZ
    assert 0.4 < first - 1 - len(question) / RATE < 0.7


def test_an_interruption_stops_our_sound_within_100_ms_and_cuts_the_history(speaker):
    cut = []
    answer = fixed_answers("One two three four five six seven eight nine ten, " * 4, "Fine.")
    talk = Talk(answer, speaker, on_cut=cut.append)
    question = spoken(SENTENCES[0])
    begin_s = 0.5 + len(question) / RATE + 2.5
    user = np.concatenate([silence(0.5), question, silence(2.5), spoken(SENTENCES[1]), silence(2)])
    track = answers(talk, user, is_timed=True)
    stop = round((begin_s + 0.1) * SPEECH_RATE_HZ)
    assert np.abs(track[stop - 4_800 : stop - 2_400]).max() > 0
    assert np.abs(track[stop : stop + 12_000]).max() == 0
    assert [exchange.is_cut for exchange in talk.exchanges] == [True, False]
    assert cut == [talk.exchanges[0].text]
    assert cut[0].startswith("One two")
    assert len(cut[0].split()) < 12


def test_a_cough_only_holds_the_answer_for_a_moment(speaker):
    text = "One two three four five six seven eight nine ten."
    question, cough = spoken(SENTENCES[0]), 0.3 * np.random.default_rng(0).standard_normal(2_400).astype(np.float32)
    talk = Talk(fixed_answers(text), speaker)
    track = answers(talk, np.concatenate([silence(0.5), question, silence(1.5), cough, silence(4)]), is_timed=False)
    assert [exchange.is_cut for exchange in talk.exchanges] == [False]
    calm = Talk(fixed_answers(text), speaker)
    plain = answers(calm, np.concatenate([silence(0.5), question, silence(5.6)]), is_timed=False)
    assert 0.3 < (len(track) - len(plain)) / SPEECH_RATE_HZ < 0.8


def test_a_turn_is_read_while_the_user_speaks(speaker):
    read = []
    talk = Talk(fixed_answers("Yes."), speaker, prefill=lambda turn, is_over: read.append((turn.samples, is_over)))
    long = np.tile(spoken("word after word after word and so on"), 40)[: 62 * RATE]
    sound = np.concatenate([long, silence(1)])
    answers(talk, sound, is_timed=True)
    assert {30 * RATE, 60 * RATE} & {len(turn) for turn, is_over in read if not is_over}
    assert all(np.array_equal(turn, sound[: len(turn)]) for turn, _ in read)
    whole, is_over = read[-1]
    assert is_over
    assert len(whole) / RATE == (talk.exchanges[0].end_ms - talk.exchanges[0].start_ms) / 1000


def test_a_turn_that_was_read_ahead_costs_only_its_last_tokens(speaker):
    model = load_model("nano")
    chat = model.chat()
    prefilled, is_read = [], threading.Event()

    def read(turn, is_over):
        chat.fork().ask(TRANSCRIBE_PROMPT, turn, max_new_tokens=1)
        prefilled.append(model.engine.counts)
        is_read.set()

    def answer(turn):
        assert is_read.wait(60)
        yield chat.ask(TRANSCRIBE_PROMPT, turn, max_new_tokens=1).text

    question = spoken(SENTENCES[1])
    answers(Talk(answer, speaker, prefill=read), np.concatenate([silence(0.5), question, silence(1)]), is_timed=True)
    after = model.engine.counts
    assert after.num_encoded_windows == prefilled[-1].num_encoded_windows
    assert after.num_read_tokens - prefilled[-1].num_read_tokens <= BLOCK_TOKENS


def test_an_idle_microphone_is_not_remembered_and_the_next_turn_is_whole(speaker):
    turns = []

    def answer(turn):
        turns.append(turn)
        yield "Yes."

    talk, step = Talk(answer, speaker), RATE // 50
    for _ in range(60 * 50):
        talk.feed(silence(0.02))
        assert sum(map(len, talk._microphone._pieces)) <= 4 * RATE
    question = spoken(SENTENCES[0])
    sound = np.concatenate([question, silence(1)])
    for start in range(0, len(sound), step):
        talk.feed(sound[start : start + step])
    talk.close()
    assert len(turns) == 1
    begin = int(np.flatnonzero(np.abs(turns[0].samples) > 0)[0])
    assert abs(turns[0].duration_s - begin / RATE - len(question) / RATE) < 0.2
    quiet = np.flatnonzero(np.abs(question) > 0)[0]
    assert np.array_equal(turns[0].samples[begin : begin + RATE], question[quiet : quiet + RATE])


def test_reading_ahead_goes_on_after_a_failure(speaker):
    read = []

    def prefill(turn, is_over):
        read.append(is_over)
        raise RuntimeError("broken")

    talk = Talk(fixed_answers("Yes.", "No."), speaker, prefill=prefill)
    question = np.concatenate([spoken(SENTENCES[0]), silence(4)])
    answers(talk, np.concatenate([question, question]), is_timed=True)
    assert len(talk.exchanges) == 2
    assert len(read) >= 2


def test_a_failing_answer_is_told(speaker):
    def answer(turn):
        yield "Well, "
        raise RuntimeError("broken")

    talk = Talk(answer, speaker)
    with pytest.raises(RuntimeError, match="broken"):
        answers(talk, np.concatenate([silence(0.5), spoken(SENTENCES[0]), silence(1)]), is_timed=True)


def words(text):
    return re.sub(r"[^a-z ]", "", text.lower()).split()


def errors(reference, heard):
    """Word errors by edit distance."""
    row = list(range(len(heard) + 1))
    for i, one in enumerate(reference, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (one != other))
    return row[-1]


def test_three_turns_from_sound_to_sound_with_the_embedded_model(tmp_path, capsys):
    """The model is asked to repeat what it hears; its spoken answers are then transcribed and compared.

    Every turn stands by itself: the embedded model, asked to repeat in a later turn, repeats the first one.
    """
    pieces = [part for text in SENTENCES for part in (silence(0.6), spoken(text), silence(5))]
    soundfile.write(tmp_path / "in.wav", np.concatenate(pieces), RATE)
    command = ["talk", "--in", str(tmp_path / "in.wav"), "--out", str(tmp_path / "out.wav"), "--timed", "--json"]
    assert main([*command, "--forget", "--prompt", TRANSCRIBE_PROMPT]) == 0
    exchanges = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(exchanges) == 3
    assert not any(exchange["is_cut"] for exchange in exchanges)
    track, rate = soundfile.read(tmp_path / "out.wav", dtype="float32")
    model = load_model("nano", device="cpu")
    num_errors = 0
    starts = [exchange["end_ms"] * rate // 1000 for exchange in exchanges]
    for sentence, exchange, start in zip(SENTENCES, exchanges, starts, strict=True):
        assert errors(words(sentence), words(exchange["text"])[-len(words(sentence)) :]) <= 2
        answer = track[start : start + 5 * rate]
        heard = model.transcribe(answer, sample_rate_hz=rate).text
        num_errors += errors(words(exchange["text"]), words(heard))
    assert num_errors <= 0.35 * sum(len(words(exchange["text"])) for exchange in exchanges)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--in", "x.wav"], "belong together"),
        (["--in", "missing.wav", "--out", "y.wav"], "missing.wav"),
        (["--in", "quiet.wav", "--out", "y.wav"], "nobody speaks"),
        (["--in", "quiet.wav", "--out", "y.mid"], "y.mid ends in .mid, which cannot be written; allowed: .wav"),
        (["--in", "quiet.wav", "--out", "y.wav", "--detector", "ear"], "energy, silero"),
        ([], "--in question.wav"),
    ],
)
def test_mistakes_are_one_line(options, error, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    soundfile.write("quiet.wav", silence(2), RATE)
    assert main(["talk", *options]) == 2
    assert error in capsys.readouterr().err
