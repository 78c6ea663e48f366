import asyncio
import json
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioflamingo.server.realtime.bounds import Bounds
from audioflamingo.server.realtime.events import EventError, Fields
from audioflamingo.server.realtime.items import Conversation, Item, messages_of
from audioflamingo.server.realtime.listening import Listening
from audioflamingo.server.realtime.making import MAX_PIECES, Bridge, Ending, Piece
from audioflamingo.server.realtime.outgoing import Outgoing, TooSlowError
from audioflamingo.server.realtime.settings import Detection, Settings
from audioflamingo.types import Audio

SOUND = Audio(np.zeros(16_000, np.float32))
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from([
    "type", "voice", "audio", "modalities", "turn_detection", "temperature", "speed", "input_audio_transcription",
    "max_output_tokens", "tools", "instructions", "input_audio_format", "model", "truncation",
])  # fmt: skip


def test_the_users_items_that_follow_one_another_are_one_message():
    items = [
        Item("user", (SOUND,)),
        Item("assistant", ()),  # nothing of it was heard
        Item("user", (SOUND, "And this?")),
        Item("assistant", ("A dog.",)),
        Item("user", (SOUND,)),
    ]
    messages = messages_of(items, "Be kind.", "What do you hear?")
    assert [(message.role, message.content) for message in messages] == [
        ("system", ("Be kind.",)),
        ("user", (SOUND, SOUND, "And this?")),
        ("assistant", ("A dog.",)),
        ("user", (SOUND, "What do you hear?")),
    ]
    assert messages_of(items[:1], "", "")[0].content == (SOUND,)


def test_a_conversation_forgets_its_oldest_items_and_never_the_last():
    conversation = Conversation(Bounds(max_items=3, max_history_s=2.5))
    items = [Item("user", (SOUND,)), Item("user", ("a",)), Item("user", (SOUND, SOUND, SOUND))]
    for item in items:
        conversation.add(item)
    assert conversation.outgrown() == items[:2]
    assert conversation.add(Item("user", ("b",)), "root") is None


@given(st.dictionaries(NAMES | st.text(max_size=4), JSON, max_size=4))
def test_any_session_is_taken_or_refused_in_one_line(values):
    settings = Settings("nano", ("default", "rms"), "default", modalities=("text", "audio"))
    try:
        updated = settings.updated(Fields(values, "session"))
    except EventError as error:
        told = (str(error), error.code)
        assert all(told), values
        return
    for dialect in ("beta", "ga"):
        described = json.loads(json.dumps(updated.described(dialect), allow_nan=False))
        allowed = {key: value for key, value in described.items() if key != "object"}
        assert updated.updated(Fields(allowed, "session")) == updated


def run(work):
    return asyncio.run(asyncio.wait_for(work, 20))


def test_events_keep_their_order_and_those_of_a_cancelled_answer_are_dropped():
    async def work():
        sent, gate = [], asyncio.Event()

        async def send(text):
            await gate.wait()
            sent.append(json.loads(text)["type"])

        outgoing = Outgoing(send, Bounds(max_unsent_bytes=10))
        sender = asyncio.create_task(outgoing.run())
        for name, part_of in (("a", None), ("b", "one"), ("c", None), ("d", "one"), ("e", "two")):
            outgoing.put({"type": name}, part_of)
        room = asyncio.create_task(outgoing.room())
        await asyncio.sleep(0.01)
        assert not room.done()
        outgoing.drop("one")
        gate.set()
        await outgoing.flush()
        await room
        sender.cancel()
        return sent

    assert run(work()) == ["a", "c", "e"]


def test_a_client_that_takes_nothing_is_given_up():
    async def work():
        outgoing = Outgoing(lambda _: asyncio.sleep(60), Bounds(send_s=0.05))
        outgoing.put({"type": "a"})
        await outgoing.run()

    with pytest.raises(TooSlowError, match="took no data"):
        run(work())


def test_a_bridge_holds_the_thread_back_and_lets_it_go():
    async def work():
        bridge, put = Bridge(), []

        def make():
            while bridge.put(Piece(text=str(len(put)))):
                put.append(None)
            bridge.put(Ending())

        thread = threading.Thread(target=make, daemon=True)
        thread.start()
        pieces = [await bridge.get() for _ in range(3 * MAX_PIECES)]
        await asyncio.sleep(0.05)
        assert len(put) <= 4 * MAX_PIECES
        bridge.close()
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()
        return [piece.text for piece in pieces]

    assert run(work()) == [str(number) for number in range(3 * MAX_PIECES)]


def test_changing_how_turns_are_found_drops_what_was_heard():
    listening = Listening(None, Bounds())
    second = np.full(24_000, 1_000, np.int16)
    listening.keep(second)
    listening.choose(Detection())
    listening.choose(None)
    with pytest.raises(EventError, match="lasts 0 ms"):
        listening.commit()
    listening.keep(second)
    assert listening.commit().duration_s == pytest.approx(1.0, abs=0.01)
    with pytest.raises(EventError, match="lasts 0 ms"):
        listening.commit()
