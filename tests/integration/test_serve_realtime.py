"""Real-time sessions through a real server and real clients: ours over `websockets`, and OpenAI's own."""

import asyncio
import time

import numpy as np
import openai
import pytest
from realtime_client import (
    PATIENCE_S,
    RATE,
    SENTENCE,
    STEP,
    Client,
    ask,
    encoded,
    kinds,
    long_question,
    question,
    silence,
    sound_of,
    speaker,
    words,
)
from serving import DOG, Serving

from audioflamingo import load_audio, load_model
from audioflamingo.prompt import TRANSCRIBE_PROMPT


@pytest.fixture(scope="module")
def model():
    return load_model("nano", device="cpu")


@pytest.fixture(scope="module")
def server(model):
    with Serving(model) as one:
        yield one


def test_a_spoken_question_gets_a_spoken_answer(server, model):
    """The model is asked to repeat what it hears; what it says is transcribed again."""
    with Client(server, turn_text=TRANSCRIBE_PROMPT, input_audio_transcription={"model": "nano"}) as client:
        client.say(question())
        events = client.until("response.done")
        if "conversation.item.input_audio_transcription.completed" not in kinds(events):
            events += client.until("conversation.item.input_audio_transcription.completed")
    found = {event["type"]: event for event in events}
    started, stopped = (found[f"input_audio_buffer.speech_{one}"] for one in ("started", "stopped"))
    assert started["audio_start_ms"] <= 350
    speech = np.flatnonzero(np.abs(question()) > 0.02) / RATE
    assert abs(stopped["audio_end_ms"] - 1000 * speech[-1]) < 120
    assert started["item_id"] == found["input_audio_buffer.committed"]["item_id"]
    assert words(found["conversation.item.input_audio_transcription.completed"]["transcript"]) == words(SENTENCE)
    done = found["response.done"]["response"]
    transcript = found["response.audio_transcript.done"]["transcript"]
    assert done["status"] == "completed"
    assert done["output"][0]["content"] == [{"type": "audio", "transcript": transcript}]
    assert words(transcript) == words(SENTENCE)
    assert (
        "".join(event["delta"] for event in events if event["type"] == "response.audio_transcript.delta") == transcript
    )
    usage = done["usage"]
    assert usage["input_token_details"]["audio_tokens"] == pytest.approx(25 * speech[-1], abs=4)
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > usage["output_tokens"] > 3
    heard = words(model.transcribe(sound_of(events), sample_rate_hz=RATE).text)
    assert sum(word in heard for word in words(SENTENCE)) >= 5
    own = [kind for kind in dict.fromkeys(kinds(events)) if kind.startswith("response")]
    assert own == [
        "response.created", "response.output_item.added", "response.content_part.added",
        "response.audio_transcript.delta", "response.audio.delta", "response.audio.done",
        "response.audio_transcript.done", "response.content_part.done", "response.output_item.done", "response.done",
    ]  # fmt: skip


def test_a_turn_without_speech_has_an_empty_transcript(server):
    with Client(server, turn_detection=None, input_audio_transcription={"model": "nano"}) as one:
        one.say(silence(1.0))
        one.send("input_audio_buffer.commit")
        events = one.until("conversation.item.input_audio_transcription.completed")
    assert events[-1]["transcript"] == ""
    assert "conversation.item.input_audio_transcription.delta" not in kinds(events)


def test_a_sound_and_a_text_are_answered_in_text(server):
    sound = load_audio(DOG)
    samples = np.interp(np.arange(0, sound.duration_s, 1 / RATE), np.arange(len(sound.samples)) / 16_000, sound.samples)
    with Client(server, modalities=["text"], turn_detection=None, temperature=0, max_response_output_tokens=50) as one:
        assert one.first["session"]["turn_detection"]["silence_duration_ms"] == 500
        one.say(samples.astype(np.float32))
        one.send("input_audio_buffer.commit")
        one.after("input_audio_buffer.committed")
        one.send("response.create", response={"metadata": {"mine": "yes"}})
        events = one.until("response.done")
        one.send("conversation.item.create", item={"role": "user", "content": [
            {"type": "input_text", "text": "Which sound comes first?"}]})  # fmt: skip
        one.send("response.create")
        second = one.until("response.done")
    assert events[-1]["response"]["metadata"] == {"mine": "yes"}
    assert [event["text"] for event in events if event["type"] == "response.text.done"] == [
        "A dog barking, then a church bell ringing."
    ]
    assert "response.audio.delta" not in kinds(events)
    assert "dog" in second[-1]["response"]["output"][0]["content"][0]["text"].lower()
    assert second[-1]["response"]["usage"]["input_tokens"] > events[-1]["response"]["usage"]["input_tokens"]


def test_an_answer_aside_leaves_the_conversation_alone(server):
    content = [{"type": "input_audio", "audio": encoded(question())}, {"type": "input_text", "text": TRANSCRIBE_PROMPT}]
    with Client(server, modalities=["text"], turn_detection=None) as client:
        client.send("response.create", response={
            "conversation": "none", "input": [{"role": "user", "content": content}], "max_output_tokens": 2,
        })  # fmt: skip
        events = client.until("response.done")
        response = events[-1]["response"]
        assert response["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}
        assert response["usage"]["output_tokens"] == 2
        assert response["conversation_id"] is None
        assert "conversation.item.created" not in kinds(events)
        client.send("response.create")
        assert client.after("error")["error"]["code"] == "nothing_to_answer"


def test_speaking_stops_the_answer_and_what_was_not_heard_is_forgotten(server):
    """100 ms of speech are enough, and the cancelled answer is followed by nothing of it."""
    with Client(server) as client:
        client.say(silence(1))  # so that the room is known
        ask(client, long_question(), TRANSCRIBE_PROMPT)
        before = client.until("response.audio.delta")
        onset = np.flatnonzero(np.abs(question()) > 0.02)[0]
        begun_s = time.monotonic()
        client.say(question()[onset : onset + RATE // 10])
        events = client.until("response.done")
        assert time.monotonic() - begun_s < 1  # 15 to 30 ms where nothing else runs
        done = events[-1]["response"]
        assert (done["status"], done["status_details"]["reason"]) == ("cancelled", "turn_detected")
        assert "input_audio_buffer.speech_started" in kinds(events)
        item = done["output"][0]
        sent = sound_of(before + events)
        assert item["status"] == "incomplete"
        assert 1000 * len(sent) / RATE >= 80
        assert client_is_silent(client)
        said = item["content"][0]["transcript"]
        client.send("conversation.item.truncate", item_id=item["id"], content_index=0, audio_end_ms=80)
        assert client.after("conversation.item.truncated")["audio_end_ms"] == 80
        client.send("conversation.item.retrieve", item_id=item["id"])
        left = client.after("conversation.item.retrieved")["item"]["content"][0]["transcript"]
        assert said.startswith(left)
        assert len(words(left)) <= 1 < len(words(said))
        client.send("conversation.item.truncate", item_id=item["id"], content_index=0, audio_end_ms=90_000)
        assert client.after("error")["error"]["param"] == "audio_end_ms"


def client_is_silent(client):
    try:
        late = client.next(0.3)
    except TimeoutError:
        return True
    return late["type"].startswith("input_audio_buffer")


def test_the_history_ends_where_the_listener_stopped(server):
    """What is truncated is no longer read: the next prompt is shorter by it."""
    sizes = []
    for end_ms in (None, 0):
        with Client(server, turn_detection=None) as client:
            ask(client, question(), TRANSCRIBE_PROMPT)
            item = client.after("response.done")["response"]["output"][0]
            if end_ms is not None:
                client.send("conversation.item.truncate", item_id=item["id"], content_index=0, audio_end_ms=end_ms)
                client.after("conversation.item.truncated")
            ask(client, question(), TRANSCRIBE_PROMPT, modalities=["text"])
            sizes.append(client.after("response.done")["response"]["usage"]["input_tokens"])
    assert sizes[0] - sizes[1] >= 6


def test_speech_that_may_not_interrupt_is_answered_later_and_told_so(server):
    with Client(server, turn_detection={"type": "server_vad", "interrupt_response": False}) as client:
        client.say(silence(1))
        ask(client, long_question(), TRANSCRIBE_PROMPT)
        client.until("response.audio.delta")
        client.say(question())
        events = client.until("response.done")
    assert events[-1]["response"]["status"] == "completed"
    if "input_audio_buffer.committed" in kinds(events):
        codes = [event["error"]["code"] for event in events if event["type"] == "error"]
        assert codes == ["conversation_already_has_active_response"]


def test_a_client_cancels(server):
    with Client(server, turn_detection=None) as client:
        client.send("response.cancel")
        assert client.after("error")["error"]["code"] == "response_cancel_not_active"
        ask(client, long_question(), TRANSCRIBE_PROMPT)
        created = client.after("response.created")["response"]
        client.until("response.audio.delta")
        client.send("response.create")
        assert client.after("error")["error"]["code"] == "conversation_already_has_active_response"
        client.send("response.cancel", response_id=created["id"])
        done = client.after("response.done")["response"]
        assert (done["id"], done["status"]) == (created["id"], "cancelled")
        assert done["status_details"]["reason"] == "client_cancelled"
        ask(client, long_question()[: 2 * RATE], TRANSCRIBE_PROMPT, modalities=["text"])
        assert client.after("response.done")["response"]["status"] == "completed"


def test_items_are_put_deleted_and_named(server):
    def item(name):
        return {"id": name, "role": "user", "content": [{"type": "input_text", "text": name}]}

    with Client(server) as client:
        for name, after in (("one", None), ("three", None), ("two", "one"), ("zero", "root")):
            place = {} if after is None else {"previous_item_id": after}
            client.send("conversation.item.create", item=item(name), **place)
        placed = [client.after("conversation.item.created")["previous_item_id"] for _ in range(4)]
        assert placed == [None, "one", "one", None]
        client.send("conversation.item.delete", item_id="two")
        assert client.after("conversation.item.deleted")["item_id"] == "two"
        for kind in ("delete", "retrieve", "truncate"):
            end = {"audio_end_ms": 0} if kind == "truncate" else {}
            client.send(f"conversation.item.{kind}", item_id="two", event_id="mine", **end)
            error = client.after("error")["error"]
            assert (error["code"], error["event_id"]) == ("item_not_found", "mine")
        client.send("conversation.item.create", item=item("one"))
        assert client.after("error")["error"]["code"] == "item_exists"
        client.send("conversation.item.truncate", item_id="one", content_index=0, audio_end_ms=0)
        assert client.after("error")["error"]["param"] == "item_id"


def test_two_sessions_at_once_hear_only_their_own(server):
    texts = (SENTENCE, "I would like a cup of tea.")
    with Client(server, turn_text=TRANSCRIBE_PROMPT) as one, Client(server, turn_text=TRANSCRIBE_PROMPT) as two:
        sounds = [np.concatenate([silence(0.3), speaker().say(text), silence(1.2)])[: 3 * RATE] for text in texts]
        for start in range(0, 3 * RATE, STEP):
            for client, sound in zip((one, two), sounds, strict=True):
                client.say(sound[start : start + STEP])
        for client, text in zip((one, two), texts, strict=True):
            assert words(client.after("response.audio_transcript.done")["transcript"]) == words(text)
            assert client.after("response.done")["response"]["status"] == "completed"


def test_a_long_piece_of_sound_is_heard_as_if_it_came_in_steps(server):
    with Client(server, modalities=["text"]) as client:
        client.send("input_audio_buffer.append", audio=encoded(question()))
        events = client.until("response.done")
        assert kinds(events)[:3] == [
            "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped", "input_audio_buffer.committed",
        ]  # fmt: skip


def test_a_running_turn_is_committed_or_cleared_by_the_client(server):
    half = question()[: RATE + RATE // 4]
    with Client(server, turn_detection={"create_response": False}) as client:
        client.say(half)
        client.after("input_audio_buffer.speech_started")
        client.send("input_audio_buffer.commit")
        assert kinds(client.until("conversation.item.created"))[-2:] == [
            "input_audio_buffer.committed",
            "conversation.item.created",
        ]
        client.say(half)
        client.after("input_audio_buffer.speech_started")
        client.send("input_audio_buffer.clear")
        client.say(silence(1))
        client.send("session.update", session={})
        assert "input_audio_buffer.committed" not in kinds(client.until("session.updated"))


def test_openais_own_client(server):
    async def talk():
        client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none")
        events = []
        async with client.realtime.connect(model="nano") as connection:
            await connection.session.update(session={"type": "realtime", "output_modalities": ["audio"], "audio": {
                "input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 400},
                          "format": {"type": "audio/pcm", "rate": RATE}},
                "output": {"voice": "rms"}}, "turn_text": TRANSCRIBE_PROMPT})  # fmt: skip
            for start in range(0, len(question()), 10 * STEP):
                await connection.input_audio_buffer.append(audio=encoded(question()[start : start + 10 * STEP]))
            async for event in connection:
                events.append(event)
                if event.type in ("response.done", "error"):
                    return events
        return events

    events = asyncio.run(asyncio.wait_for(talk(), PATIENCE_S))
    done = events[-1]
    assert done.type == "response.done", done
    assert done.response.status == "completed"
    assert done.response.output_modalities == ["audio"]
    assert words(done.response.output[0].content[0].transcript) == words(SENTENCE)
    session = next(event.session for event in events if event.type == "session.updated")
    assert session.audio.input.turn_detection.silence_duration_ms == 400
    assert session.audio.output.voice == "rms"
    names = {event.type for event in events}
    assert {"response.output_audio.delta", "response.output_audio_transcript.delta", "conversation.item.done"} <= names
    assert not {name for name in names if name.startswith("response.audio")}
