"""`flamingo serve` as its clients see it: OpenAI's own client, every endpoint, whole and as it comes."""

import base64
import io
import json
import re

import httpx
import numpy as np
import openai
import pytest
import soundfile
from serving import DOG, EXAMPLES, MAN, QUESTION, ROOSTER, Serving, ask_about, sound_part

from audioflamingo import Message, load_audio
from audioflamingo.longform import as_srt, as_vtt, transcribe_long
from audioflamingo.server.bare import BareTranscript
from audioflamingo.server.wording import told
from audioflamingo.speech.engines import open_voice
from audioflamingo.speech.speaker import Speaker, to_pcm
from audioflamingo.types import SAMPLE_RATE_HZ

RATE_HZ = 24_000


@pytest.fixture(scope="module")
def serving():
    with Serving() as one:
        yield one


@pytest.fixture(scope="module")
def client(serving):
    return serving.client()


@pytest.fixture(scope="module")
def alone(serving):
    """The answer that the model gives by itself."""
    return lambda *sounds, question=QUESTION, **options: serving.model.ask(list(sounds), question, **options)


def spoken(text, voice=None, rate=1.0):
    return to_pcm(Speaker(open_voice("flamingo", voice, rate)).say(text))


def test_answers_as_the_model_does_by_itself(client, alone):
    reply, expected = client.chat.completions.create(model="nano", messages=ask_about(DOG)), alone(DOG)
    choice = reply.choices[0]
    assert (choice.message.content, choice.finish_reason) == (expected.text, "stop")
    assert "dog" in expected.text.lower()
    assert reply.usage.prompt_tokens == expected.usage.prompt_tokens
    assert reply.usage.completion_tokens == expected.usage.completion_tokens
    assert reply.usage.prompt_tokens_details.audio_tokens == expected.usage.audio_tokens == 85


def test_streams_the_same_answer_in_pieces_with_its_usage(client, alone):
    stream = client.chat.completions.create(
        model="nano", messages=ask_about(DOG), stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = stream
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks]
    expected = alone(DOG)
    assert "".join(texts) == expected.text
    assert sum(map(bool, texts)) > 3
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert (last.choices, last.usage.completion_tokens) == ([], expected.usage.completion_tokens)
    assert last.usage.prompt_tokens_details.cached_tokens > 0  # the test before asked the same


def test_stream_is_server_sent_events_that_end_with_done(serving):
    answer = serving.chat(stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert {json.loads(one.removeprefix("data: "))["object"] for one in events} == {"chat.completion.chunk"}


def test_takes_sounds_in_any_turn_and_a_system_message(client, serving):
    messages = [
        {"role": "system", "content": "Answer briefly."},
        *ask_about(DOG, ROOSTER, question="Which of the two has a rooster?"),
        {"role": "assistant", "content": "The second one."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "And "}, {"type": "text", "text": "here?"}, sound_part(MAN)],
        },
    ]
    ours = (
        Message("system", ("Answer briefly.",)),
        Message("user", (load_audio(DOG), load_audio(ROOSTER), "Which of the two has a rooster?")),
        Message("assistant", ("The second one.",)),
        Message("user", ("And ", "here?", load_audio(MAN))),
    )
    reply = client.chat.completions.create(model="nano", messages=messages, max_completion_tokens=12)
    assert reply.choices[0].message.content == serving.model.answer(ours, max_new_tokens=12).text


def test_takes_a_data_address(client, alone):
    url = "data:audio/wav;base64," + base64.b64encode(ROOSTER.read_bytes()).decode()
    parts = [{"type": "audio_url", "audio_url": {"url": url}}, {"type": "text", "text": QUESTION}]
    reply = client.chat.completions.create(model="nano", messages=[{"role": "user", "content": parts}])
    assert reply.choices[0].message.content == alone(ROOSTER).text


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        ({"max_tokens": 3}, {"max_new_tokens": 3}),
        ({"temperature": 1.5, "seed": 5}, {"temperature": 1.5, "seed": 5}),
        ({"temperature": 1.5, "top_p": 0.5, "seed": 6}, {"temperature": 1.5, "top_p": 0.5, "seed": 6}),
        ({"stop": " bark"}, {"stop": " bark"}),
        ({"extra_body": {"repetition_penalty": 1.5, "top_k": 3}}, {"repetition_penalty": 1.5, "top_k": 3}),
    ],
)
def test_options_reach_the_engine(client, alone, given, ours):
    reply = client.chat.completions.create(model="nano", messages=ask_about(DOG), **given)
    expected = alone(DOG, **ours)
    assert reply.choices[0].message.content == expected.text
    assert reply.choices[0].finish_reason == ("length" if expected.finish_reason == "length" else "stop")


def test_json_keeps_to_the_schema(client):
    schema = {
        "type": "object",
        "properties": {"is_dog": {"type": "boolean"}, "number": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["is_dog", "number"],
        "additionalProperties": False,
    }
    wish = {"type": "json_schema", "json_schema": {"name": "heard", "schema": schema, "strict": True}}
    reply = client.chat.completions.create(model="nano", messages=ask_about(DOG), response_format=wish)
    found = json.loads(reply.choices[0].message.content)
    assert found.keys() == {"is_dog", "number"}
    assert (type(found["is_dog"]), type(found["number"])) == (bool, int)


def test_json_that_has_no_room_ends_with_length(client):
    reply = client.chat.completions.create(
        model="nano", messages=ask_about(DOG), response_format={"type": "json_object"}, max_tokens=2
    )
    assert reply.choices[0].finish_reason == "length"
    assert reply.choices[0].message.content.startswith("{")


def test_thoughts_come_apart_from_the_answer(serving, client):
    expected = serving.model.ask(DOG, QUESTION, think=True, max_thought_tokens=40)
    wish = {"think": 40}
    reply = client.chat.completions.create(model="nano", messages=ask_about(DOG), extra_body=wish)
    message = reply.choices[0].message
    assert (message.content, message.reasoning_content) == (expected.text, expected.thoughts)
    assert len(expected.thoughts) > 10
    assert getattr(reply, "notes", []) == [told(note) for note in expected.notes] != []  # they took all they were given
    assert 20 < reply.usage.completion_tokens_details.reasoning_tokens < reply.usage.completion_tokens
    chunks = list(client.chat.completions.create(model="nano", messages=ask_about(DOG), extra_body=wish, stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert chunks[-1].notes == [told(note) for note in expected.notes]
    thoughts = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    assert thoughts.strip() == expected.thoughts
    assert "".join(delta.content or "" for delta in deltas) == expected.text


def test_reasoning_effort_is_a_share_of_the_answer(serving, client):
    def thoughts(effort):
        reply = client.chat.completions.create(
            model="nano", messages=ask_about(DOG), reasoning_effort=effort, max_completion_tokens=80
        )
        return getattr(reply.choices[0].message, "reasoning_content", None)

    assert thoughts("none") is None
    expected = serving.model.ask(DOG, QUESTION, think=True, max_thought_tokens=10, max_new_tokens=80)
    assert thoughts("minimal") == expected.thoughts


def test_answers_by_voice(client, alone):
    reply = client.chat.completions.create(
        model="nano", messages=ask_about(DOG), modalities=["text", "audio"], audio={"voice": "slt", "format": "wav"}
    )
    audio = reply.choices[0].message.audio
    assert reply.choices[0].message.content is None
    assert audio.transcript == alone(DOG).text
    samples, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(audio.data)), dtype="int16")
    assert rate_hz == RATE_HZ
    assert samples.tobytes() == spoken(audio.transcript, "slt")


def test_streams_its_voice_beside_the_text(client, alone):
    pcm, transcript, kinds = b"", "", []
    for chunk in client.chat.completions.create(
        model="nano",
        messages=ask_about(DOG),
        stream=True,
        modalities=["text", "audio"],
        audio={"voice": "default", "format": "pcm16"},
    ):
        audio = chunk.choices[0].delta.to_dict().get("audio", {})
        pcm += base64.b64decode(audio.get("data", ""))
        transcript += audio.get("transcript", "")
        kinds += [kind for kind in ("data", "transcript") if kind in audio]
    assert transcript == alone(DOG).text
    assert pcm == spoken(transcript)
    assert kinds.count("data") > 3


@pytest.mark.parametrize("form", ["json", "text", "srt", "vtt", "verbose_json"])
def test_transcribes_in_every_form(serving, client, form):
    expected = transcribe_long(serving.model, load_audio(MAN))
    found = client.audio.transcriptions.create(model="nano", file=MAN, response_format=form)
    assert expected.text
    if form == "json":
        assert found.text == expected.text
    elif form == "verbose_json":
        assert (found.text, found.duration) == (expected.text, pytest.approx(expected.duration_s, abs=1e-3))
        assert [one.text for one in found.segments] == [one.text for one in expected.spoken]
    else:
        text = {"text": expected.text + "\n", "srt": as_srt(expected), "vtt": as_vtt(expected)}[form]
        assert found == text


def long_speech(starts_s=(1, 12, 24.5, 33, 45, 58)):
    """65 s, by default with speech in all pieces."""
    samples = np.zeros(65 * SAMPLE_RATE_HZ, np.float32)
    words = load_audio(MAN).samples
    for start_s in starts_s:
        start = int(start_s * SAMPLE_RATE_HZ)
        samples[start : start + len(words)] = words
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE_HZ, format="FLAC")
    return file.getvalue()


@pytest.mark.parametrize("sound", [MAN.read_bytes(), long_speech()], ids=["one piece", "several pieces"])
def test_streams_a_transcript(client, sound):
    file = ("speech.flac", sound)
    whole = client.audio.transcriptions.create(model="nano", file=file)
    *deltas, done = client.audio.transcriptions.create(model="nano", file=file, stream=True)
    assert {one.type for one in deltas} == {"transcript.text.delta"}
    assert (done.type, done.text) == ("transcript.text.done", whole.text)
    assert "".join(one.delta for one in deltas) == done.text != ""
    assert done.usage.output_tokens == whole.usage.output_tokens > 0


@pytest.mark.parametrize("file", [EXAMPLES / "woman_speaking.wav", None], ids=["one piece", "many"])
def test_words_that_were_cut_are_told_of(serving, client, monkeypatch, file, tmp_path):
    if file is None:
        file = tmp_path / "long.wav"
        samples = load_audio(EXAMPLES / "woman_speaking.wav").samples
        soundfile.write(file, np.concatenate([samples] * 9), SAMPLE_RATE_HZ)
    model = serving.worker.model
    monkeypatch.setattr(model, "defaults", model.defaults.updated({"max_new_tokens": 3}))
    for form in ("json", "verbose_json"):
        found = client.audio.transcriptions.create(model="nano", file=file, response_format=form)
        assert re.fullmatch("the words from 0.0 s to .* s were cut where the room .* ended", found.notes[0])
    *_, done = client.audio.transcriptions.create(model="nano", file=file, stream=True)
    assert done.notes == found.notes


@pytest.mark.parametrize("form", ["json", "text", "srt", "vtt", "verbose_json"])
def test_silence_has_no_words_in_any_form(client, form):
    found = client.audio.transcriptions.create(model="nano", file=EXAMPLES / "silence.flac", response_format=form)
    if form == "verbose_json":
        assert (found.text, found.segments, found.notes) == ("", [], ["no speech is heard in silence.flac"])
    else:
        expected = {"json": "", "text": "\n", "srt": "", "vtt": "WEBVTT\n\n"}[form]
        assert (found.text if form == "json" else found) == expected


def test_streamed_transcripts_have_no_words_where_nobody_speaks(client):
    def streamed(data):
        return client.audio.transcriptions.create(model="nano", file=("talk.flac", data), stream=True)

    (done,) = streamed((EXAMPLES / "silence.flac").read_bytes())
    assert (done.type, done.text) == ("transcript.text.done", "")
    *_, done = streamed(long_speech(starts_s=(26, 29)))
    assert done.text
    assert "there is no speech" not in done.text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "'Hello there.'.", "Hello", "'", '"Hi"', "The spoken content of the audio is 'It rains. A lot.'.",
        "There is no speech.", "There is no speech here.", "No", "The spoken content of the audio is 'no speech'.",
    ],
)  # fmt: skip
def test_bare_transcript_in_pieces_is_the_whole_one(text):
    from audioflamingo.prompt import spoken_words

    for size in (1, 2, 5, 100):
        bare = BareTranscript()
        pieces = [bare.feed(text[start : start + size]) for start in range(0, len(text), size)]
        assert "".join(pieces) + bare.flush() == spoken_words(text)


@pytest.mark.parametrize("form", ["wav", "pcm", "flac"])
def test_reads_aloud_in_every_form(client, form):
    text = "Hello there. It is raining."
    with client.audio.speech.with_streaming_response.create(
        model="nano", voice="slt", input=text, response_format=form, speed=1.25
    ) as answer:
        body = answer.read()
    expected = spoken(text, "slt", 1.25)
    if form == "pcm":
        assert body == expected
    elif form == "wav":
        assert soundfile.read(io.BytesIO(body), dtype="int16")[0].tobytes() == expected
    else:
        assert load_audio(body).duration_s == pytest.approx(len(expected) / 2 / RATE_HZ, abs=0.001)


def test_speech_is_sent_while_it_is_spoken(serving):
    text = "This is one of many sentences. " * 100
    with httpx.stream(
        "POST", f"{serving.url}/v1/audio/speech", json={"input": text, "response_format": "pcm"}
    ) as answer:
        pieces = answer.iter_raw()
        first = next(pieces)
        assert answer.status_code == 200
        assert len(first) < 50_000  # of six million
        assert not serving.is_idle()
        assert next(pieces)


def test_tells_about_its_model_and_itself(serving, client):
    (card,) = client.models.list().data
    assert (card.id, card.owned_by) == ("nano", "audioflamingo")
    assert {"default", "rms", "slt"} <= set(card.voices)
    assert client.models.retrieve("nano").id == "nano"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")
    assert httpx.get(f"{serving.url}/health").json()["status"] == "ok"


def test_metrics_are_prometheus_text(serving, client):
    client.chat.completions.create(model="nano", messages=ask_about(DOG), max_tokens=2)
    text = httpx.get(f"{serving.url}/metrics").text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r'flamingo_[a-z_]+(\{([a-z]+="[^"]*",?)+\})? [0-9.e+-]+', line) for line in lines)
    values = dict(line.rsplit(" ", 1) for line in lines)
    assert float(values['flamingo_requests_total{endpoint="/v1/chat/completions",outcome="ok"}']) >= 1
    assert float(values['flamingo_tokens_total{kind="answer"}']) > 2
    assert values["flamingo_requests_running"] == "0"
