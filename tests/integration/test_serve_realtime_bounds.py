"""What strangers may do to real-time sessions: wrong events, floods, silence, leaving, reading nothing."""

import json
import socket
import threading
import time

import numpy as np
import pytest
import websockets
from realtime_client import (
    PATH,
    PATIENCE_S,
    SENTENCE,
    BoundedServing,
    Client,
    address_of,
    ask,
    encoded,
    long_question,
    question,
    silence,
    speaker,
    words,
)
from serving import Serving, wait_for
from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.sync.client import connect
from websockets.uri import parse_uri

from audioflamingo import load_model
from audioflamingo.prompt import TRANSCRIBE_PROMPT
from audioflamingo.server import realtime


@pytest.fixture(scope="module")
def model():
    return load_model("nano", device="cpu")


@pytest.fixture(scope="module")
def server(model):
    with Serving(model) as one:
        yield one


BAD = [
    ("{", "invalid_json", None),
    ("[" * 100_000, "invalid_json", None),
    (b"\x00\x01", "invalid_json", None),
    ('{"type": "session.update", "session": {"temperature": NaN}}', "invalid_json", None),
    ("[]", "invalid_type", None),
    ("{}", "missing_required_parameter", "type"),
    ({"type": "sing"}, "unknown_event", "type"),
    ({"type": 3}, "invalid_type", "type"),
    ({"type": "session.update"}, "missing_required_parameter", "session"),
    ({"type": "session.update", "session": {"colour": "red"}}, "unknown_parameter", "session.colour"),
    ({"type": "session.update", "session": {"model": "gpt"}}, "invalid_value", "session.model"),
    ({"type": "session.update", "session": {"voice": "nobody"}}, "invalid_value", "session.voice"),
    ({"type": "session.update", "session": {"temperature": 9}}, "invalid_value", "session.temperature"),
    ({"type": "session.update", "session": {"modalities": ["video"]}}, "invalid_value", "session.modalities"),
    ({"type": "session.update", "session": {"input_audio_format": "g711_ulaw"}}, "invalid_value", None),
    ({"type": "session.update", "session": {"tools": [{"type": "function"}]}}, "invalid_value", "session.tools"),
    ({"type": "session.update", "session": {"max_response_output_tokens": 0}}, "invalid_value", None),
    ({"type": "session.update", "session": {"max_response_output_tokens": True}}, "invalid_value", None),
    ({"type": "session.update", "session": {"turn_detection": {"type": "semantic_vad"}}}, "invalid_value", None),
    ({"type": "session.update", "session": {"turn_detection": {"threshold": 2}}}, "invalid_value", None),
    ({"type": "session.update", "session": {"audio": {"input": {"colour": 1}}}}, "unknown_parameter", None),
    ({"type": "session.update", "session": {"instructions": "a" * 100_000}}, "string_too_long", "session.instructions"),
    ({"type": "input_audio_buffer.append"}, "missing_required_parameter", "audio"),
    ({"type": "input_audio_buffer.append", "audio": "?"}, "invalid_value", "audio"),
    ({"type": "input_audio_buffer.append", "audio": "AAAA"}, "invalid_value", "audio"),
    ({"type": "input_audio_buffer.append", "audio": "", "rate": 8000}, "unknown_parameter", "rate"),
    ({"type": "input_audio_buffer.commit"}, "input_audio_buffer_commit_empty", None),
    ({"type": "conversation.item.create", "item": {"role": "judge"}}, "invalid_value", "item.role"),
    ({"type": "conversation.item.create", "item": {"role": "user"}}, "missing_required_parameter", "item.content"),
    ({"type": "conversation.item.create", "item": {"role": "user", "content": []}}, "invalid_value", "item.content"),
    ({"type": "conversation.item.create", "item": {"type": "function_call"}}, "invalid_value", "item.type"),
    ({"type": "conversation.item.create", "item": {"role": "user", "content": [{"type": "input_audio", "audio": ""}]}},
     "input_audio_buffer_commit_empty", "item.content[0].audio"),
    ({"type": "conversation.item.create", "previous_item_id": "none",
      "item": {"role": "user", "content": [{"type": "input_text", "text": "a"}]}}, "item_not_found", None),
    ({"type": "response.create", "response": {"turn_detection": None, "colour": 1}}, "unknown_parameter", None),
    ({"type": "response.create", "response": {"conversation": "other"}}, "invalid_value", "response.conversation"),
    ({"type": "response.create", "response": {"metadata": {"a": 1}}}, "invalid_value", "response.metadata"),
    ({"type": "response.create"}, "nothing_to_answer", None),
    ({"type": "response.cancel", "response_id": "resp_0"}, "response_cancel_not_active", None),
]  # fmt: skip


def test_a_wrong_event_is_told_and_ends_nothing(server):
    with Client(server) as client:
        for raw, code, param in BAD:
            client.wire.send(json.dumps(raw) if isinstance(raw, dict) else raw)
            event = client.next()
            assert event["type"] == "error", raw
            error = event["error"]
            assert error["code"] == code, (raw, error)
            assert error["type"] == "invalid_request_error"
            assert param is None or error["param"] == param
            assert error["message"]
            assert "\n" not in error["message"]
        half = {"role": "user", "content": [{"type": "input_text", "text": "\ud800"}]}
        client.send("conversation.item.create", item=half)
        item = client.after("conversation.item.created")["item"]
        client.send("response.create")
        failed = client.after("response.done")["response"]
        assert (failed["status"], failed["status_details"]["error"]["code"]) == ("failed", "cannot_answer")
        client.send("conversation.item.delete", item_id=item["id"])
        client.after("conversation.item.deleted")
        client.send("session.update", session={"instructions": "Be kind."})
        assert client.after("session.updated")["session"]["instructions"] == "Be kind."


def test_a_client_that_vanishes_frees_everything(model):
    def threads():
        return [one for one in threading.enumerate() if one.name == "realtime answer"]

    with BoundedServing(model, realtime.Bounds(max_sessions=1)) as serving:
        client = Client(serving, turn_detection=None)
        ask(client, long_question(), TRANSCRIBE_PROMPT)
        client.until("response.audio.delta")
        assert threads()
        with Client(serving) as late:
            assert late.first["error"]["code"] == "too_many_sessions"
        client.wire.socket.shutdown(socket.SHUT_RDWR)  # no word of farewell
        wait_for(lambda: not threads() and serving.is_idle(), 10)
        with Client(serving) as next_one:
            assert next_one.first["type"] == "session.created"


def test_a_client_that_reads_nothing_is_ended_and_keeps_nobody_waiting(model):
    bounds = realtime.Bounds(max_unsent_bytes=50_000, send_s=2.0, events_per_s=10_000)
    item = {"id": "long", "role": "user", "content": [{"type": "input_text", "text": 32_000 * "a"}]}
    with BoundedServing(model, bounds) as serving:
        lazy = socket.create_connection(("127.0.0.1", serving.port))
        lazy.settimeout(PATIENCE_S)
        handshake = ClientProtocol(parse_uri(address_of(serving)))
        handshake.send_request(handshake.connect())
        lazy.sendall(b"".join(handshake.data_to_send()))
        asked = [{"type": "conversation.item.create", "item": item}]
        asked += [{"type": "conversation.item.retrieve", "item_id": "long"}] * 1_000  # 32 MB of answers
        assert lazy.recv(12) == b"HTTP/1.1 101"  # and nothing is read after this
        handshake.state = State.OPEN
        for event in asked:
            handshake.send_text(json.dumps(event).encode())
        lazy.sendall(b"".join(handshake.data_to_send()))
        with Client(serving, turn_text=TRANSCRIBE_PROMPT) as other:
            other.say(question())
            assert words(other.after("response.audio_transcript.done")["transcript"]) == words(SENTENCE)
        wait_for(lambda: serving.count(endpoint=PATH, outcome="gone") == 1)
        lazy.close()


def test_bounds_of_a_session(model):
    bounds = realtime.Bounds(
        max_message_bytes=100_000, events_per_s=40, max_buffer_s=2, max_items=3, max_history_s=4, idle_s=0.8
    )
    with BoundedServing(model, bounds) as serving, Client(serving, turn_detection=None) as client:
        client.wire.send(" " * 100_001)
        assert client.after("error")["error"]["code"] == "message_too_large"
        client.send("input_audio_buffer.append", audio=encoded(silence(1.4)))
        client.send("input_audio_buffer.append", audio=encoded(silence(0.7)))
        assert client.after("error")["error"]["code"] == "input_audio_buffer_full"
        for _ in range(3):
            client.send("input_audio_buffer.commit")
            deleted = client.until("conversation.item.created")
            client.send("input_audio_buffer.append", audio=encoded(silence(1.5)))
        assert client.after("conversation.item.deleted")["item_id"] != deleted[-1]["item"]["id"]
        client.send("input_audio_buffer.clear")
        client.after("input_audio_buffer.cleared")
        begun_s = time.monotonic()
        for _ in range(60):
            client.send("input_audio_buffer.append", audio="")
        client.send("input_audio_buffer.clear")
        events = client.until("input_audio_buffer.cleared")
        assert [event["error"]["code"] for event in events[:-1]] == ["rate_limit_exceeded"]
        assert time.monotonic() - begun_s > 0.4
        assert client.after("error")["error"]["code"] == "session_idle"
        with pytest.raises(websockets.ConnectionClosedOK):
            client.next()


def test_a_turn_without_end_is_ended(model):
    with BoundedServing(model, realtime.Bounds(max_buffer_s=1.5)) as serving, Client(serving) as client:
        client.say(np.concatenate([silence(0.3), speaker().say(SENTENCE * 2), silence(1)]))
        turns = [client.after("input_audio_buffer.speech_stopped")["audio_end_ms"] for _ in range(2)]
        assert turns[0] < 2_200
        assert turns[1] - turns[0] <= 1_520


def test_a_server_with_keys_and_without_a_voice(model):
    with Serving(model, has_voice=False, api_keys=("secret",)) as serving:
        both = ["realtime", "openai-insecure-api-key.secret"]
        for options, code in [
            ({}, "invalid_api_key"),
            ({"additional_headers": {"Authorization": "Bearer wrong"}}, "invalid_api_key"),
            ({"subprotocols": ["realtime"]}, "invalid_api_key"),
            ({"subprotocols": both, "origin": "http://evil.example"}, "foreign_origin"),
            ({"additional_headers": {"Authorization": "Bearer secret"}}, None),
            ({"subprotocols": both, "origin": serving.url}, None),
        ]:
            with connect(f"{address_of(serving)}?model=nano", proxy=None, **options) as wire:
                event = json.loads(wire.recv(timeout=PATIENCE_S))
                if code is not None:
                    assert event["error"]["code"] == code
                    with pytest.raises(websockets.ConnectionClosedError, match="1008"):
                        wire.recv(timeout=PATIENCE_S)
                    continue
                assert event["session"]["modalities"] == ["text"]
                wire.send('{"type": "session.update", "session": {"modalities": ["text", "audio"]}}')
                assert "no voice" in wire.recv(timeout=PATIENCE_S)
        headers = {"Authorization": "Bearer secret"}
        with connect(f"{address_of(serving)}?model=x", proxy=None, additional_headers=headers) as wire:
            assert json.loads(wire.recv(timeout=PATIENCE_S))["error"]["code"] == "model_not_found"
