"""What a server must refuse: with the right status, the field and the remedy, and nothing left behind."""

import base64
import io
import json
import socket

import httpx
import numpy as np
import openai
import pytest
import soundfile
from serving import DOG, MAN, Serving, ask_about, sound_part, wait_for

from audioflamingo import OptionError, load_model
from audioflamingo.server.limits import MIB, ServerLimits, is_loopback, open_note
from audioflamingo.server.run import bind

KEY = "a-secret-word"
USER = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def serving():
    with Serving(max_body_bytes=4 * MIB, max_audio_s=700) as one:
        yield one


@pytest.fixture(autouse=True)
def _nothing_is_left(serving):
    yield
    wait_for(serving.is_idle)


def silence(seconds, rate_hz=8_000):
    file = io.BytesIO()
    soundfile.write(file, np.zeros(int(seconds * rate_hz), np.int16), rate_hz, format="FLAC")
    return file.getvalue()


def content(*parts):
    return {"messages": [{"role": "user", "content": list(parts)}]}


def url_part(url):
    return content({"type": "audio_url", "audio_url": {"url": url}})


DATA = "messages[0].content[0].input_audio.data"
LONG = base64.b64encode(silence(660)).decode()
OF_PYTHON = ("long_audio", "continue_final", "placeholders=", "max_prompt_tokens", "max_new_tokens")
REFUSED = [
    # fields, what is to blame, words of the message
    ({"messages": []}, "messages", "at least one message"),
    ({"messages": "Hello"}, "messages", "list"),
    ({"messages": ["Hello"]}, "messages[0]", "an object with role"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "user"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "missing"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "a number"),
    ({"messages": [{"role": "user", "content": "x", "name": "Ann"}]}, "messages[0].name", "not supported"),
    ({"messages": [{"role": "assistant", "content": "x"}]}, "messages", "last message"),
    ({"messages": [{"role": "assistant", "audio": {"id": "1"}}, *USER]}, "messages[0].audio", "transcript"),
    (content({"type": "image_url", "image_url": {"url": "x"}}), "messages[0].content[0].type", "input_audio"),
    (content({"type": "text"}), "messages[0].content[0].text", "missing"),
    (content({"type": "input_audio"}), "messages[0].content[0].input_audio", "missing"),
    (content({"type": "input_audio", "input_audio": {"data": "QQ=="}}), DATA.replace("data", "format"), "flac"),
    (content({"type": "input_audio", "input_audio": {"data": "%%", "format": "wav"}}), DATA, "base64"),
    (content({"type": "input_audio", "input_audio": {"data": 7, "format": "wav"}}), DATA, "a string"),
    (content(sound_part(b"This is a text and no sound at all.")), DATA, "sound 1"),
    (content(sound_part(b"")), DATA, "empty"),
    (content(sound_part(DOG.read_bytes()[:3_000])), DATA, "sound 1"),
    ({"messages": [{"role": "system", "content": [sound_part(DOG)]}, *USER]}, "messages[0]", "user"),
    (url_part("ftp://example.com/a.wav"), "messages[0].content[0].audio_url.url", "input_audio"),
    (url_part("file:///etc/passwd"), "messages[0].content[0].audio_url.url", "input_audio"),
    (url_part("/etc/passwd"), "messages[0].content[0].audio_url.url", "input_audio"),
    (url_part("data:audio/wav;base64"), "messages[0].content[0].audio_url.url", "comma"),
    (url_part("data:audio/wav;base64,%%"), "messages[0].content[0].audio_url.url", "base64"),
    (url_part("https://example.com/a.wav"), "messages[0].content[0].audio_url.url", "--allow-urls"),
    ({"messages": USER, "model": "gpt-4o"}, "model", "nano"),
    ({"messages": USER, "model": 4}, "model", "a string"),
    ({"messages": USER, "n": 2}, "n", "one answer"),
    ({"messages": USER, "tools": [{"type": "function"}]}, "tools", "not supported"),
    ({"messages": USER, "tool_choice": "required"}, "tool_choice", "tools"),
    ({"messages": USER, "logprobs": True}, "logprobs", "leave it out"),
    ({"messages": USER, "top_logprobs": 5}, "top_logprobs", "leave it out"),
    ({"messages": USER, "logit_bias": {"5": 1}}, "logit_bias", "leave it out"),
    ({"messages": USER, "num_beams": 4}, "num_beams", "token by token"),
    ({"messages": USER, "presence_penalty": 0.5}, "presence_penalty", "leave it out"),
    ({"messages": USER, "tempreture_x": 1}, "tempreture_x", "known here"),
    ({"messages": USER, "temperature": -1}, "temperature", "0 to 2"),
    ({"messages": USER, "temperature": "hot"}, "temperature", "a number"),
    ({"messages": USER, "temperature": True}, "temperature", "a number"),
    ({"messages": USER, "top_p": 1.5}, "top_p", "0 to 1"),
    ({"messages": USER, "seed": -1}, "seed", "whole number"),
    ({"messages": USER, "max_tokens": 0}, "max_tokens", "whole number"),
    ({"messages": USER, "max_tokens": 2.5}, "max_tokens", "whole number"),
    ({"messages": USER, "max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "differ"),
    ({"messages": USER, "max_tokens": 10**9}, "max_tokens", "lower it"),
    ({"messages": USER, "stop": [""]}, "stop", "none of them empty"),
    ({"messages": USER, "stop": 3}, "stop", "a string"),
    ({"messages": USER, "stream": "yes"}, "stream", "true or false"),
    ({"messages": USER, "stream_options": {"include_usage": True}}, "stream_options", "set stream"),
    ({"messages": USER, "response_format": {"type": "xml"}}, "response_format.type", "json_schema"),
    ({"messages": USER, "response_format": {}}, "response_format.type", "missing"),
    ({"messages": USER, "response_format": {"type": "json_schema"}}, "response_format.json_schema", "schema"),
    (
        {"messages": USER, "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "house"}}}},
        None,
        "schema cannot be used",
    ),
    ({"messages": USER, "response_format": {"type": "json_object"}, "stop": "x"}, "stop", "leave one"),
    ({"messages": USER, "max_completion_tokens": 10**8}, "max_completion_tokens", "positions for prompt and answer"),
    ({"messages": USER, "top_p": 0}, "top_p", "above 0"),
    ({"messages": USER, "think": "hard"}, "think", "whole number"),
    ({"messages": USER, "think": 0}, "think", "whole number"),
    ({"messages": USER, "think": True, "reasoning_effort": "low"}, "think", "leave one"),
    ({"messages": USER, "reasoning_effort": "extreme"}, "reasoning_effort", "medium"),
    ({"messages": USER, "modalities": ["audio"]}, "modalities", "['text', 'audio']"),
    ({"messages": USER, "modalities": ["text", "audio"]}, "audio", "missing"),
    ({"messages": USER, "audio": {"voice": "slt"}}, "modalities", "modalities"),
    (
        {"messages": USER, "modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "pcm16"}},
        "voice",
        "slt",
    ),
    ({"messages": USER, "modalities": ["text", "audio"], "audio": {"format": "mp3"}}, "audio.format", "wav"),
    (
        {"messages": USER, "modalities": ["text", "audio"], "audio": {"format": "wav"}, "stream": True},
        "audio.format",
        "pcm16",
    ),
    ({"messages": [{"role": "user", "content": "word " * 20_000}]}, "messages", "prompt takes"),
    ({"messages": [{"role": "user", "content": "Where is <sound-3>?"}]}, "messages", "sound(s)"),
    ({"messages": [{"role": "user", "content": "A <sound>?"}]}, "messages", "or leave its brackets out"),
    (content({"type": "input_audio", "input_audio": {"data": LONG, "format": "flac"}}), "messages", "Send a shorter"),
]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fields", "param", "words"), REFUSED, ids=range(len(REFUSED)))
def test_bad_chat_requests(serving, fields, param, words, stream):
    fields = fields if "stream" in fields or "stream_options" in fields else {**fields, "stream": stream}
    answer = serving.post("/v1/chat/completions", fields)
    error = answer.json()["error"]
    assert answer.status_code == (404 if error["code"] == "model_not_found" else 400)
    assert error["type"] in ("invalid_request_error", "not_found_error")
    assert error["param"] == param
    assert words in error["message"]
    assert "\n" not in error["message"]
    assert not [name for name in OF_PYTHON if name in error["message"]]  # no request has these
    assert len(error["message"]) < 700


def test_harmless_fields_of_openais_clients_are_taken(serving):
    answer = serving.chat(
        max_tokens=2, n=1, user="me", metadata={"a": "b"}, store=True, logprobs=False, tools=[], tool_choice="none",
        presence_penalty=0, frequency_penalty=0.0, logit_bias={}, service_tier="auto", parallel_tool_calls=True,
        stop=None, seed=None, response_format={"type": "text"}, modalities=["text"],
    )  # fmt: skip
    assert answer.status_code == 200


def test_an_answer_can_be_sent_back(serving):
    client = serving.client()
    first = client.chat.completions.create(model="nano", messages=USER, max_tokens=4).choices[0].message
    messages = [*USER, first.model_dump(), {"role": "user", "content": "And then?"}]
    assert client.chat.completions.create(model="nano", messages=messages, max_tokens=4).choices[0].message.content


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b'{"messages": NaN}', b'{"a":' + b"[" * 100_000, b"null"],
    ids=["nothing", "cut", "list", "text", "no utf-8", "NaN", "deep", "null"],
)
def test_bodies_that_are_no_json_object(serving, body):
    for path in ("/v1/chat/completions", "/v1/audio/speech"):
        answer = serving.post(path, content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


def test_forms_and_text_of_other_pages_are_no_json(serving):
    body = json.dumps({"messages": USER})
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = serving.post("/v1/chat/completions", content=body, headers={"content-type": kind})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_type")


def raw(serving, head, *pieces):
    """What the server answers to bytes as they are."""
    with socket.create_connection(("127.0.0.1", serving.port), 20) as wire:
        wire.sendall(head.encode())
        for piece in pieces:
            wire.sendall(piece)
        received = b""
        while b"\r\n\r\n" not in received or not received.rstrip().endswith(b"}"):
            piece = wire.recv(65_536)
            if not piece:
                break
            received += piece
    return received


HEAD = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


def test_two_gigabytes_are_refused_before_they_come(serving):
    received = raw(serving, f"{HEAD}Content-Length: {2 << 30}\r\n\r\n", b"{" * 1000)
    assert received.startswith(b"HTTP/1.1 413")
    assert b"--max-body-mb" in received


def test_a_body_without_a_length_is_refused_once_it_is_too_long(serving):
    piece = b"%x\r\n" % MIB + b"x" * MIB + b"\r\n"
    received = raw(serving, f"{HEAD}Transfer-Encoding: chunked\r\n\r\n", *[piece] * 6)
    assert received.startswith(b"HTTP/1.1 413")


def test_a_large_body_is_refused_in_words_that_openais_client_hears(serving):
    with pytest.raises(openai.APIStatusError, match="4 MiB") as caught:
        serving.client().chat.completions.create(model="nano", messages=ask_about(b"x" * 20 * MIB))
    assert caught.value.status_code == 413


def test_ten_hours_of_silence(serving):
    hours = silence(36_000)  # a hundred kilobytes
    answer = serving.post("/v1/chat/completions", content(sound_part(hours, "flac")))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, DATA)
    assert "700" in answer.json()["error"]["message"]
    answer = serving.post("/v1/audio/transcriptions", files={"file": ("long.flac", hours)})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")


def test_seconds_are_counted_over_all_sounds_of_a_request(serving):
    part = sound_part(silence(300), "flac")
    answer = serving.post("/v1/chat/completions", content(part, part, part))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == DATA.replace("[0].input", "[2].input")


def test_a_sound_that_the_model_cannot_hear_whole(serving):
    answer = serving.post("/v1/chat/completions", content(sound_part(silence(650), "flac")))
    assert answer.status_code == 400
    assert "600 s" in answer.json()["error"]["message"]


def test_ten_thousand_sounds(serving):
    answer = serving.post("/v1/chat/completions", content(*[sound_part(b"x")] * 10_000))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages")
    assert "10,000 sounds" in answer.json()["error"]["message"]


FORMS = [
    ({}, {}, "file", "missing"),
    ({"file": b"This is no sound."}, {}, "file", "talk.wav"),
    ({"file": MAN}, {"model": "whisper-1"}, "model", "nano"),
    ({"file": MAN}, {"response_format": "docx"}, "response_format", "srt"),
    ({"file": MAN}, {"response_format": "srt", "stream": "true"}, "response_format", "streamed"),
    ({"file": MAN}, {"language": "de"}, "language", "en"),
    ({"file": MAN}, {"prompt": "Names: Ann."}, "prompt", "leave it out"),
    ({"file": MAN}, {"temperature": "warm"}, "temperature", "a number"),
    ({"file": MAN}, {"stream": "maybe"}, "stream", "true or false"),
    ({"file": MAN}, {"temperature": ["0", "1"]}, "temperature", "came 2 times; send it once"),
    ({"file": MAN}, {"timestamp_granularities[]": "word"}, "timestamp_granularities[]", "segment"),
    ({"file": MAN}, {"speed": "2"}, "speed", "not supported"),
    ({"file": MAN, "other": MAN}, {}, "other", "not supported"),
]


@pytest.mark.parametrize(("files", "data", "param", "words"), FORMS, ids=range(len(FORMS)))
def test_bad_transcription_requests(serving, files, data, param, words):
    named = {name: ("talk.wav", one if isinstance(one, bytes) else one.read_bytes()) for name, one in files.items()}
    answer = serving.post("/v1/audio/transcriptions", files=named or {"x": b"y"}, data=data)
    error = answer.json()["error"]
    assert answer.status_code == (404 if param == "model" else 400)
    assert error["param"] == param
    assert words in error["message"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{}", "application/json"),
        (b"no parts", "multipart/form-data"),
        (b"no parts", "multipart/form-data; boundary=x"),
        (b'--x\r\nContent-Disposition: form-data; name="file"\r\n', "multipart/form-data; boundary=x"),
        (b"--x\r\n" * 1000, "multipart/form-data; boundary=x"),
    ],
)
def test_forms_that_are_none(serving, body, kind):
    answer = serving.post("/v1/audio/transcriptions", content=body, headers={"content-type": kind})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


SPEECH = [
    ({}, "input", "missing"),
    ({"input": ""}, "input", "a text"),
    ({"input": 5}, "input", "a text"),
    ({"input": "x" * 20_001}, "input", "20,000"),
    ({"input": "Hi", "voice": "alloy"}, "voice", "slt"),
    ({"input": "Hi", "voice": 3}, "voice", "a string"),
    ({"input": "Hi", "speed": 9}, "speed", "0.5 to 2"),
    ({"input": "Hi", "response_format": "mp3"}, "response_format", "flac"),
    ({"input": "Hi", "instructions": "whisper"}, "instructions", "leave it out"),
    ({"input": "Hi", "stream_format": "sse"}, "stream_format", "audio"),
    ({"input": "Hi", "pitch": 2}, "pitch", "not supported"),
    ({"input": "。。。"}, "input", "can be spoken"),
]


@pytest.mark.parametrize(("fields", "param", "words"), SPEECH, ids=range(len(SPEECH)))
def test_bad_speech_requests(serving, fields, param, words):
    answer = serving.post("/v1/audio/speech", fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert words in answer.json()["error"]["message"]


def test_addresses_that_are_not_there(serving):
    for answer in (httpx.get(f"{serving.url}/v1/nothing"), httpx.get(f"{serving.url}/v1/chat/completions")):
        assert answer.status_code in (404, 405)
        assert answer.json()["error"]["message"]
    assert answer.json()["error"]["message"] == "GET is not for this address; allowed: POST"


def test_pages_of_other_places_are_turned_away(serving):
    for path in ("/v1/models", "/metrics"):
        assert httpx.get(serving.url + path, headers={"origin": "https://evil.example"}).status_code == 403
        assert httpx.get(serving.url + path, headers={"origin": serving.url}).status_code == 200


def test_keys_names_and_no_voice(serving):
    with Serving(serving.model, has_voice=False, hosts=("127.0.0.1",), api_keys=(KEY, "another")) as closed:
        assert closed.chat().status_code == 401
        assert httpx.get(f"{closed.url}/metrics").status_code == 401
        assert httpx.get(f"{closed.url}/health").status_code == 200
        with pytest.raises(openai.AuthenticationError, match="not known"):
            closed.client("wrong").chat.completions.create(model="nano", messages=USER)
        for key in (KEY, "another"):
            assert closed.client(key).chat.completions.create(model="nano", messages=USER, max_tokens=2).choices
        with pytest.raises(openai.BadRequestError, match="--no-voice"):
            closed.client(KEY).audio.speech.create(model="nano", voice="slt", input="Hello")
        rebound = httpx.get(f"{closed.url}/health", headers={"host": "evil.example"})
        assert rebound.status_code == 403


def test_limits_that_allow_nothing():
    for wrong in (
        {"max_running": 0},
        {"max_waiting": -1},
        {"max_audio_s": 0},
        {"api_keys": ("",)},
        {"api_keys": ("ä",)},
    ):
        with pytest.raises(OptionError):
            ServerLimits(**wrong)
    assert [is_loopback(name) for name in ("localhost", "127.0.0.1", "[::1]:80", "::1", "0.0.0.0", "127.example")] == [
        True, True, True, True, False, False,
    ]  # fmt: skip
    assert open_note("0.0.0.0", ()) is not None
    assert open_note("0.0.0.0", (KEY,)) is open_note("localhost", ()) is None


def test_a_port_that_is_taken(serving):
    with pytest.raises(OptionError, match="--port"):
        bind("127.0.0.1", serving.port)
    with pytest.raises(OptionError, match="--host"):
        bind("no.such.host.invalid", 0)
    with pytest.raises(OptionError, match="--port"):
        bind("127.0.0.1", 99_999)


def test_base64_of_a_data_address_is_named_as_such(serving):
    wrong = {"type": "input_audio", "input_audio": {"data": "data:audio/wav;base64,QUJD", "format": "wav"}}
    assert "before the comma" in serving.post("/v1/chat/completions", content(wrong)).json()["error"]["message"]


def test_a_model_that_answers_with_beams_by_itself_is_not_served_without():
    model = load_model("nano")
    model.defaults = model.defaults.updated({"num_beams": 2})
    with Serving(model, has_voice=False) as other:
        answer = other.chat(max_tokens=2)
        assert answer.status_code == 400
        assert "num_beams 1 in its defaults" in answer.json()["error"]["message"]
