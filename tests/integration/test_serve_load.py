"""Many clients at once, those that vanish or do not read, a full row, and an end in the middle of it all."""

import asyncio
import concurrent.futures
import io
import json
import random
import socket
import threading
import time

import httpx
import numpy as np
import openai
import pytest
import soundfile
from serving import DOG, MAN, ROOSTER, Serving, ask_about, wait_for

from audioflamingo import Message, load_audio, load_model
from audioflamingo.server.worker import Worker

CLIENTS = 64
ENDLESS = 1_500  # tokens of an answer that takes many seconds


@pytest.fixture(scope="module")
def model():
    return load_model("nano")


@pytest.fixture(scope="module")
def serving(model):
    with Serving(model) as one:
        yield one


@pytest.fixture(autouse=True)
def _nothing_is_left(serving):
    yield
    wait_for(serving.is_idle)


def endless(**fields):
    """A request whose answer does not end by itself for a long time."""
    schema = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "minItems": 5_000}
    wish = {"type": "json_schema", "json_schema": {"name": "long", "schema": schema}}
    return {"messages": ask_about(DOG), "max_tokens": ENDLESS, "response_format": wish, **fields}


def opened(serving, body, path="/v1/chat/completions"):
    """A request on a bare socket that was sent whole and of which nothing was read."""
    content = json.dumps(body).encode()
    wire = socket.create_connection(("127.0.0.1", serving.port), 20)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    )
    wire.sendall(head.encode() + b"\r\n\r\n" + content)
    return wire


def cases():
    """Requests of every kind with the answers that the model gives to them by itself."""
    sounds = [load_audio(path) for path in (DOG, ROOSTER, MAN)]
    paths = (DOG, ROOSTER, MAN)
    for number in range(CLIENTS):
        options = {"temperature": 0.9, "seed": number} if number % 2 else {}
        question = ("What do you hear?", "Describe the audio in detail.", "Is there a dog?")[number // 3 % 3]
        yield (
            {"messages": ask_about(paths[number % 3], question=question), "max_tokens": 24, **options},
            (Message("user", (sounds[number % 3], question)),),
            {"max_new_tokens": 24, **options},
        )


def test_many_clients_a_third_of_whom_vanish(serving, model):
    every = list(cases())
    expected = [model.answer(conversation, **options).text for _, conversation, options in every]
    before = {outcome: serving.count(endpoint="/v1/chat/completions", outcome=outcome) for outcome in ("ok", "gone")}
    client = serving.client()
    start = threading.Barrier(CLIENTS)
    choice = random.Random(4)
    leaves = [choice.choice(["at once", "soon", "midway"]) if number % 3 == 0 else None for number in range(CLIENTS)]

    def ask(number):
        fields, leave = every[number][0], leaves[number]
        start.wait()
        if leave is None and number % 2:
            return client.chat.completions.create(model="nano", **fields).choices[0].message.content
        if leave == "at once":
            opened(serving, endless(stream=True)).close()
            return None
        stream = client.chat.completions.create(model="nano", stream=True, **(endless() if leave else fields))
        text = ""
        with stream:
            for pieces, chunk in enumerate(stream):
                text += chunk.choices[0].delta.content or ""
                if leave and pieces == {"soon": 0, "midway": 9}[leave]:
                    return None
        return text

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as threads:
        answers = list(threads.map(ask, range(CLIENTS)))
    assert answers == [None if leave else text for leave, text in zip(leaves, expected, strict=True)]
    wait_for(serving.is_idle)
    num_gone = sum(map(bool, leaves))
    counts = [serving.count(endpoint="/v1/chat/completions", outcome=outcome) - before[outcome] for outcome in before]
    assert counts == [CLIENTS - num_gone, num_gone]


@pytest.mark.parametrize("stream", [True, False])
def test_work_for_a_client_that_left_ends_within_a_step(serving, model, stream):
    wire = opened(serving, endless(stream=stream))
    wait_for(lambda: model.engine.counts.num_held_blocks > 0)
    (job,) = serving.worker._answers
    wait_for(lambda: job.sequence.num_generated > 3)
    num_before = job.sequence.num_generated
    wire.close()
    wait_for(serving.is_idle, 5)
    assert job.sequence.is_cancelled
    assert num_before <= job.sequence.num_generated < ENDLESS / 3


def test_speech_and_transcripts_end_with_their_clients(serving):
    for body in ({"input": "Hello there. " * 1000}, endless(modalities=["text", "audio"], audio={"format": "wav"})):
        body.pop("response_format", None)
        wire = opened(serving, body, "/v1/audio/speech" if "input" in body else "/v1/chat/completions")
        wait_for(lambda: not serving.is_idle())
        wire.close()
        wait_for(serving.is_idle, 10)
    files = {"file": ("long.wav", long_wav(120))}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{serving.url}/v1/audio/transcriptions", files=files, timeout=httpx.Timeout(20, read=0.5))
    wait_for(serving.is_idle, 10)


def long_wav(seconds):
    file = io.BytesIO()
    noise = np.random.default_rng(0).standard_normal(int(seconds * 16_000)) * 0.1
    soundfile.write(file, noise, 16_000, format="WAV", subtype="PCM_16")
    return file.getvalue()


def test_a_slow_reader_keeps_nobody_waiting(model):
    with Serving(model, max_stall_s=1.5) as serving:
        wires = [opened(serving, {"input": "Hello there. " * 1500, "response_format": "pcm"}, "/v1/audio/speech")]
        wires += [opened(serving, endless(stream=True, max_tokens=150)) for _ in range(3)]
        wait_for(lambda: serving.worker.places.num_running == 4)
        begun_s = time.monotonic()
        assert serving.chat(max_tokens=3).status_code == 200
        assert time.monotonic() - begun_s < 5
        wait_for(serving.is_idle, 30)  # the written answers fit the system's buffers; the speech does not, and is ended
        assert serving.count(endpoint="/v1/audio/speech", outcome="gone") == 1
        for wire in wires:
            wire.close()


def test_what_a_reader_has_not_taken_is_one_delta(model):
    async def read():
        worker = Worker(model)
        await worker.start()
        prepared = await worker.prepare((Message("user", (load_audio(DOG), "What do you hear?")),))
        async with worker.answer(prepared) as answer:
            while not answer.is_over:
                await asyncio.sleep(0.01)
            deltas = [delta async for delta in answer]
        await worker.close()
        return deltas

    (delta,) = asyncio.run(read())
    assert (delta.text, delta.finish_reason) == (model.ask(DOG, "What do you hear?").text, "stop")


def test_a_full_row_is_told_to_come_back(model):
    with Serving(model, max_running=1, max_waiting=1) as serving:
        first = opened(serving, endless())
        wait_for(lambda: serving.worker.places.num_running == 1)
        second = opened(serving, {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2})
        wait_for(lambda: serving.worker.places.num_waiting == 1)
        answer = serving.chat()
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"]["code"] == "server_busy"
        with pytest.raises(openai.InternalServerError, match="--max-waiting"):
            serving.client().audio.speech.create(model="nano", voice="slt", input="Hello")
        first.close()
        assert b"200 OK" in second.recv(65_536)  # it had its turn
        second.close()
        wait_for(serving.is_idle)
        assert serving.chat(max_tokens=2).status_code == 200


def test_bodies_have_a_memory_and_a_time_together(model):
    with Serving(model, max_bodies_bytes=1_000_000, max_body_s=1) as serving:
        answer = serving.post("/v1/chat/completions", {"messages": ask_about(b"x" * 900_000)})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "server_busy")
        head = b"POST /v1/audio/speech HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", serving.port), 20) as wire:
            wire.sendall(head + b"Content-Length: 99\r\n\r\n{")
            assert wire.recv(65_536).startswith(b"HTTP/1.1 408")
        wait_for(serving.is_idle)


def test_an_answer_that_takes_too_long_ends_with_an_error(model):
    with Serving(model, max_request_s=1) as serving:
        answer = serving.post("/v1/chat/completions", endless())
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
        events = serving.post("/v1/chat/completions", endless(stream=True)).text.strip().split("\n\n")
        assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "timeout"
        assert "[DONE]" not in "".join(events)
        wait_for(serving.is_idle)


def test_a_transcript_ends_with_the_server_or_its_time(model):
    files = {"file": ("long.wav", long_wav(400))}
    with Serving(model, max_request_s=1) as serving:
        answer = serving.post("/v1/audio/transcriptions", files=files)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
        wait_for(serving.is_idle)
    with Serving(model) as serving, concurrent.futures.ThreadPoolExecutor() as threads:
        answers = [
            threads.submit(serving.post, "/v1/audio/transcriptions", files=files, data=data)
            for data in ({}, {"stream": "true"})
        ]
        wait_for(lambda: serving.worker.gauges()["sequences", ()] > 8)
        serving.loop.call_soon_threadsafe(serving.worker.stop)
        assert [one.result().status_code for one in answers] == [503, 503]
        wait_for(serving.is_idle)


def test_the_end_of_the_server_is_told_to_those_who_wait(model):
    with Serving(model) as serving:
        client = serving.client()
        stream = client.chat.completions.create(model="nano", stream=True, **endless())
        for _ in range(5):
            next(stream)
        serving.loop.call_soon_threadsafe(serving.worker.stop)
        with pytest.raises(openai.APIError, match="shutting down"):
            for _ in stream:
                pass
        assert serving.chat().status_code == 503
        assert httpx.get(f"{serving.url}/health").json()["status"] == "stopping"
        wait_for(serving.is_idle)


def test_a_step_that_fails_is_told_and_the_server_goes_on(model, monkeypatch, caplog):
    with Serving(model) as serving:
        step = type(model.engine)._step

        def broken(self):
            raise RuntimeError("a broken device")

        monkeypatch.setattr(type(model.engine), "_step", broken)
        answer = serving.chat()
        monkeypatch.setattr(type(model.engine), "_step", step)
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
        assert "broken device" not in answer.text
        assert "broken device" in caplog.text
        wait_for(serving.is_idle)
        assert serving.chat(max_tokens=2).status_code == 200
